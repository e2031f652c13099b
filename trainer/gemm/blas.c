/*
 * blas.c - f32 products through OpenBLAS.
 *
 * OpenBLAS spins between calls when it has threads, and so does our team: of
 * two teams on the same processors each waits for the other. So OpenBLAS gets
 * one thread, and each member of the team calls it for a share of C. That costs
 * nothing at 2048^3 and wins on small products, where its threads wake late.
 *
 * It chooses its kernels by the processor, unless OPENBLAS_CORETYPE says
 * otherwise; a wrong one halves it, so the choice is compared with what
 * infer_cpu_detect() finds.
 */
#include "trainer/gemm/blas.h"

#include <cblas.h>
#include <string.h>

/* The rows of a register tile of every OpenBLAS kernel divide this. */
enum { UNIT = 48 };

void train_blas_init(void)
{
    openblas_set_num_threads(1);
}

void train_blas_part(const struct train_product *p, int id, int n)
{
    const struct infer_member me = {.id = id, .n = n};
    const bool by_rows = p->m >= p->n;
    const size_t total = by_rows ? p->m : p->n;
    const size_t unit = total >= (size_t)(2 * UNIT * n) ? UNIT : 16;
    const float *a = p->a, *b = p->b;
    float *c = p->c;
    size_t begin, end;

    infer_team_share(&me, total, unit, &begin, &end);
    if (begin == end)
        return;
    if (by_rows) {
        a += begin * (p->ta ? 1 : p->lda);
        c += begin * p->ldc;
    } else {
        b += begin * (p->tb ? p->ldb : 1);
        c += begin;
    }
    cblas_sgemm(CblasRowMajor, p->ta ? CblasTrans : CblasNoTrans,
                p->tb ? CblasTrans : CblasNoTrans,
                (blasint)(by_rows ? end - begin : p->m),
                (blasint)(by_rows ? p->n : end - begin), (blasint)p->k,
                p->alpha, a, (blasint)p->lda, b, (blasint)p->ldb, p->beta, c,
                (blasint)p->ldc);
}

const char *train_blas_core(void)
{
    return openblas_get_corename();
}

const char *train_blas_warning(void)
{
    static const char *const avx512[] = {"SkylakeX", "Cooperlake",
                                         "SapphireRapids", "Zen5"};
    static const char *const avx2[] = {"Haswell", "Zen"};
    const unsigned cpu = infer_cpu_detect();
    const char *core = train_blas_core();

    for (size_t i = 0; i < sizeof(avx512) / sizeof(avx512[0]); i++)
        if (strcasecmp(core, avx512[i]) == 0)
            return NULL;
    if (cpu & INFER_CPU_AVX512VNNI)
        return "OpenBLAS does not use this processor's AVX-512: unset "
               "OPENBLAS_CORETYPE, or use a newer OpenBLAS";
    for (size_t i = 0; i < sizeof(avx2) / sizeof(avx2[0]); i++)
        if (strcasecmp(core, avx2[i]) == 0)
            return NULL;
    return cpu & INFER_CPU_AVX2
               ? "OpenBLAS does not use this processor's AVX2: unset "
                 "OPENBLAS_CORETYPE, or use a newer OpenBLAS"
               : NULL;
}
