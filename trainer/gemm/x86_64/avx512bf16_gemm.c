/*
 * avx512bf16_gemm.c - the tile of C that stays in registers.
 *
 * Up to 14 rows by 2 vectors of 16 columns: 28 sums, 2 vectors of B and one
 * pair of A, broadcast, fill 31 of the 32 registers. Per pair of inputs that is
 * 28 vdpbf16ps against 16 loads, where the processor starts two of each per
 * clock; from 6 rows up there are more sums than vdpbf16ps takes clocks, so low
 * tiles cost no more per row than high ones.
 */
#include "trainer/gemm/bf16.h"

#include "core/kernels/x86_64/unroll.h"
#include "trainer/gemm/x86_64/bf16_pack.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { BF16_M = 14, V = BF16_N / 16 };

/* c = alpha * sum + beta * c + bias, columns of the mask */
INLINE void store(float *c, __m512 sum, __m512 alpha, float beta,
                  const float *bias, __mmask16 cols)
{
    sum = _mm512_mul_ps(sum, alpha);
    if (bias)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(cols, bias));
    if (beta == 1.0f)
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(cols, c), sum);
    else if (beta != 0.0f)
        sum = _mm512_add_ps(
            _mm512_mul_ps(_mm512_maskz_loadu_ps(cols, c), _mm512_set1_ps(beta)),
            sum);
    _mm512_mask_storeu_ps(c, cols, sum);
}

INLINE void tile_rows(const struct bf16_tile *t, const uint32_t *restrict a,
                      const uint32_t *restrict b, size_t k2, const int M)
{
    const uint32_t cols = (uint32_t)((1ull << t->cols) - 1);
    const __m512 alpha = _mm512_set1_ps(t->alpha);
    __m512 sum[BF16_M][V];

    EACH (m, M) {
        const float *c = t->c + (size_t)m * t->ldc;

        EACH (v, V) {
            _mm_prefetch((const char *)(c + v * 16), _MM_HINT_T0);
            sum[m][v] = _mm512_setzero_ps();
        }
    }
    for (size_t i = 0; i < k2; i++, a += M, b += BF16_N) {
        __m512i w[V];

        EACH (v, V)
            w[v] = _mm512_load_si512(b + v * 16);
        EACH (m, M) {
            const __m512i x = _mm512_set1_epi32((int)a[m]);

            EACH (v, V)
                sum[m][v] =
                    _mm512_dpbf16_ps(sum[m][v], (__m512bh)w[v], (__m512bh)x);
        }
    }
    EACH (m, M) {
        EACH (v, V)
            store(t->c + (size_t)m * t->ldc + v * 16, sum[m][v], alpha, t->beta,
                  t->bias ? t->bias + v * 16 : NULL,
                  (__mmask16)(cols >> (v * 16)));
    }
}

/* The number of rows is a constant in each case: its sums are registers. */
#define ROWS(M)                                                                \
    case M:                                                                    \
        tile_rows(t, a, b, k2, M);                                             \
        break

static void tile(const struct bf16_tile *t, const uint32_t *a,
                 const uint32_t *b, size_t k2)
{
    switch (t->rows) {
        ROWS(1);
        ROWS(2);
        ROWS(3);
        ROWS(4);
        ROWS(5);
        ROWS(6);
        ROWS(7);
        ROWS(8);
        ROWS(9);
        ROWS(10);
        ROWS(11);
        ROWS(12);
        ROWS(13);
        ROWS(14);
    default:
        __builtin_unreachable();
    }
}

/* Tiles of A are [k/2][rows]: one pair of every row after the other. */
static void a_along(uint32_t *dst, struct bf16_source src, int rows, size_t k)
{
    train_bf16_along(dst, (size_t)rows, rows, src, rows, k);
}

static void a_across(uint32_t *dst, struct bf16_source src, int rows, size_t k)
{
    train_bf16_across(dst, (size_t)rows, rows, src, rows, k);
}

void train_bf16_avx512(struct bf16_kernels *k)
{
    *k = (struct bf16_kernels){.name = "avx512bf16",
                               .tile_rows = BF16_M,
                               .row_unit = 1,
                               .k_unit = 2,
                               .k_max = 512,
                               .unit_rows = 16 * BF16_M,
                               .unit_words = 16 * BF16_M * 512 / 2,
                               .even = true,
                               .along = train_bf16_along,
                               .across = train_bf16_across,
                               .a_along = a_along,
                               .a_across = a_across,
                               .sums = train_bf16_sums,
                               .tile = tile};
}
