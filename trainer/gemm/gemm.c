/*
 * gemm.c - contexts and entry points: who multiplies, on which threads.
 *
 * Every entry ends in a member's part of a product, because that is all a
 * phase of a team can run; without a team the caller is a team of one, which
 * passes barriers without waiting.
 */
#include "trainer/gemm/gemm.h"

#include "core/base/error.h"
#include "trainer/gemm/bf16.h"
#include "trainer/gemm/blas.h"
#include "trainer/gemm/peak.h"

#include <stdlib.h>

struct train_gemm_ctx {
    enum train_precision precision;
    struct infer_team *team;
    bool own_team;         /* made here, of this thread alone */
    struct bf16_work work; /* BF16 only */
};

int train_gemm_create(struct train_gemm_ctx **ctx,
                      enum train_precision precision, struct infer_team *team,
                      unsigned cpu, struct infer_error *err)
{
    struct train_gemm_ctx *x = calloc(1, sizeof(*x));
    struct bf16_kernels kern;
    int status;

    if (!x)
        return infer_fail(err, INFER_ENOMEM, "out of memory for products");
    x->team = team;
    x->own_team = !team;
    train_blas_init();
    if (!team && (status = infer_team_create(&x->team, 1, 0, err)))
        goto fail;
    if (precision == TRAIN_AUTO)
        precision = train_precision_best(x->team);
    if (precision == TRAIN_BF16 &&
        train_bf16_kernels(&kern, infer_cpu_detect() & cpu)) {
        x->precision = TRAIN_BF16;
        status =
            train_bf16_create(&x->work, &kern, infer_team_size(x->team), err);
        if (status)
            goto fail;
    }
    *ctx = x;
    return INFER_OK;
fail:
    train_gemm_free(x);
    return status;
}

void train_gemm_free(struct train_gemm_ctx *ctx)
{
    if (!ctx)
        return;
    train_bf16_release(&ctx->work);
    if (ctx->own_team)
        infer_team_free(ctx->team);
    free(ctx);
}

enum train_precision train_gemm_precision(const struct train_gemm_ctx *ctx)
{
    return ctx->precision;
}

const struct bf16_kernels *train_gemm_kernels(const struct train_gemm_ctx *ctx)
{
    return ctx->precision == TRAIN_BF16 ? &ctx->work.kernels : NULL;
}

/* What a product asks for beside, when its operands are whole arrays: each
 * member its share of the rows, before or after. */
static void make_share(const struct infer_member *me,
                       const struct train_product *p)
{
    size_t r0, r1;

    infer_team_share(me, p->m, TRAIN_ROW_BLOCK, &r0, &r1);
    if (r1 > r0)
        p->beside->make(p->beside->make_arg, p->beside->made + r0 * p->lda, r0,
                        r1 - r0);
}

static void finish_share(const struct infer_member *me,
                         const struct train_product *p)
{
    size_t r0, r1;

    infer_team_share(me, p->m, TRAIN_ROW_BLOCK, &r0, &r1);
    if (r1 > r0)
        p->beside->finish(p->beside->finish_arg, p->c + r0 * p->ldc, p->ldc, r0,
                          r1 - r0, 0, p->n);
}

/* In F32: the bias, and the sums of A. */
static void add_vectors(const struct infer_member *me,
                        const struct train_product *p)
{
    size_t begin, end;

    infer_team_share(me, p->m, 1, &begin, &end);
    for (size_t r = begin; r < end && p->bias; r++)
        for (size_t i = 0; i < p->n; i++)
            p->c[r * p->ldc + i] += p->bias[i];
    infer_team_share(me, p->m, 16, &begin, &end);
    for (size_t i = 0; i < p->k && p->a_sums; i++)
        for (size_t r = begin; r < end; r++)
            p->a_sums[r] += p->a[i * p->lda + r];
}

static void f32_phase(struct infer_member *me, const struct train_product *p)
{
    infer_team_barrier(me);
    train_blas_part(p, me->id, me->n);
    infer_team_barrier(me);
    if (!p->bias && !p->a_sums)
        return;
    add_vectors(me, p);
    infer_team_barrier(me);
}

bool train_gemm_fits(const struct train_gemm_ctx *ctx, size_t n, size_t k,
                     bool whole)
{
    return ctx->precision == TRAIN_BF16 &&
           train_bf16_fits(&ctx->work.kernels, n, k, whole);
}

void train_gemm_phase(struct infer_member *me, const struct train_gemm_ctx *ctx,
                      const struct train_product *p)
{
    const bool beside = p->beside && p->a && p->c;

    if (beside && p->beside->make) {
        infer_team_barrier(me);
        make_share(me, p);
    }
    if (ctx->precision == TRAIN_BF16)
        train_bf16_phase(me, &ctx->work, p);
    else
        f32_phase(me, p);
    if (beside && p->beside->finish) {
        finish_share(me, p);
        infer_team_barrier(me);
    }
}

void train_gemm_alone(const struct infer_member *me,
                      const struct train_gemm_ctx *ctx,
                      const struct train_product *p)
{
    if (ctx->precision == TRAIN_BF16)
        train_bf16_alone(&ctx->work, &ctx->work.parts[me->id], p);
    else
        train_blas_part(p, 0, 1);
}

struct run {
    const struct train_gemm_ctx *ctx;
    const struct train_product *product;
};

static void run_product(struct infer_member *me, void *arg)
{
    const struct run *r = arg;

    train_gemm_phase(me, r->ctx, r->product);
}

void train_gemm_run(const struct train_gemm_ctx *ctx,
                    const struct train_product *p)
{
    struct run r = {ctx, p};

    infer_team_run(ctx->team, run_product, &r);
}

void train_gemm(const struct train_gemm_ctx *ctx, bool ta, bool tb, size_t m,
                size_t n, size_t k, float alpha, const float *a, size_t lda,
                const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    const struct train_product p = {
        .ta = ta,
        .tb = tb,
        .m = m,
        .n = n,
        .k = k,
        .alpha = alpha,
        .a = a,
        .lda = lda,
        .b = b,
        .ldb = ldb,
        .beta = beta,
        .c = c,
        .ldc = ldc,
    };

    train_gemm_run(ctx, &p);
}

/* ---- packed operands ----------------------------------------------------- */

static size_t ceil_div(size_t n, size_t unit)
{
    return (n + unit - 1) / unit;
}

int train_packed_create(struct train_packed **packed,
                        const struct train_gemm_ctx *ctx, size_t k, size_t n,
                        struct infer_error *err)
{
    struct train_packed *x;
    size_t bytes;

    if (ctx->precision != TRAIN_BF16) {
        *packed = NULL;
        return INFER_OK;
    }
    bytes = ceil_div(n, BF16_N) *
            train_bf16_panel_words(&ctx->work.kernels, k) * sizeof(uint32_t);
    x = calloc(1, sizeof(*x));
    if (x) {
        *x = (struct train_packed){ctx->work.kernels, k, n, NULL};
        x->data = aligned_alloc(64, bytes ? bytes : 64);
    }
    if (!x || !x->data) {
        train_packed_free(x);
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for %zu bytes of packed weights",
                          bytes);
    }
    *packed = x;
    return INFER_OK;
}

void train_packed_free(struct train_packed *packed)
{
    if (packed)
        free(packed->data);
    free(packed);
}

struct fill {
    struct train_packed *packed;
    bool tb;
    const float *b;
    size_t ldb;
};

static void run_fill(struct infer_member *me, void *arg)
{
    const struct fill *f = arg;

    train_bf16_pack_b(me, &f->packed->kernels, f->packed->data, f->tb,
                      (struct bf16_source){f->b, NULL, f->ldb}, f->packed->n,
                      f->packed->k);
}

void train_packed_fill(const struct train_gemm_ctx *ctx,
                       struct train_packed *packed, bool tb, const float *b,
                       size_t ldb)
{
    struct fill f = {packed, tb, b, ldb};

    if (packed)
        infer_team_run(ctx->team, run_fill, &f);
}
