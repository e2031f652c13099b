/*
 * amx_gemm.c - the tile of C that stays in the tile registers of AMX.
 *
 * 32 x 32 sums are four of the eight tile registers, two hold 32 rows of A, two
 * 32 columns of B: four loads of 1 KB for four tdpbf16ps of 16 clocks each, so
 * that operands may come from the second cache at two thirds of the full rate.
 * Sums are those of the instruction: pairs in order, each step rounded to
 * nearest, denormals taken as zero.
 * Spec   Intel, Architecture Instruction Set Extensions, chapter 3 (AMX)
 */
#include "trainer/gemm/bf16.h"

#include "trainer/gemm/x86_64/bf16_pack.h"

#include <immintrin.h>
#include <string.h>

enum {
    SIDE = 16,                /* rows and words of a register */
    TILE_WORDS = SIDE * SIDE, /* of a tile of A */

    PANEL_BYTES = BF16_N * 4, /* from one pair of B's inputs to the next */
};

/* Operand of ldtilecfg. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Constant: gcc 12 believes that _tile_loadconfig() reads its first bytes only
 * and drops what was written to the rest just before. */
static const struct tile_config all_whole = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE}};

void train_amx_begin(void)
{
    _tile_loadconfig(&all_whole);
}

/* An empty state is not saved when the kernel changes threads. */
void train_amx_end(void)
{
    _tile_release();
}

/* Sums of 32 rows; from c if it is not NULL, else from zero. With ldc 0 all
 * rows begin as one: a bias. */
static void sum_32(float *to, size_t ld, const float *c, size_t ldc,
                   const uint32_t *a, const uint32_t *b, size_t steps)
{
    if (c) {
        _tile_loadd(0, c, ldc * sizeof(*c));
        _tile_loadd(1, c + SIDE, ldc * sizeof(*c));
        _tile_loadd(2, c + SIDE * ldc, ldc * sizeof(*c));
        _tile_loadd(3, c + SIDE * ldc + SIDE, ldc * sizeof(*c));
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t i = 0; i < steps; i++) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, PANEL_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + SIDE, PANEL_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + TILE_WORDS, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        a += 2 * TILE_WORDS;
        b += SIDE * BF16_N;
    }
    _tile_stored(0, to, ld * sizeof(*to));
    _tile_stored(1, to + SIDE, ld * sizeof(*to));
    _tile_stored(2, to + SIDE * ld, ld * sizeof(*to));
    _tile_stored(3, to + SIDE * ld + SIDE, ld * sizeof(*to));
}

/* Sums of 16 rows, from zero. */
static void sum_16(float *to, size_t ld, const uint32_t *a, const uint32_t *b,
                   size_t steps)
{
    _tile_zero(0);
    _tile_zero(1);
    for (size_t i = 0; i < steps; i++) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, PANEL_BYTES);
        _tile_loadd(7, b + SIDE, PANEL_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        a += TILE_WORDS;
        b += SIDE * BF16_N;
    }
    _tile_stored(0, to, ld * sizeof(*to));
    _tile_stored(1, to + SIDE, ld * sizeof(*to));
}

/* c = alpha sums + beta c + bias, of a tile that is not whole or not plain. */
static void blend(const struct bf16_tile *t, float sums[2 * SIDE][BF16_N])
{
    const __m512 alpha = _mm512_set1_ps(t->alpha),
                 beta = _mm512_set1_ps(t->beta);
    const uint32_t cols = (uint32_t)((1ull << t->cols) - 1);

    for (int m = 0; m < t->rows; m++)
        for (int v = 0; v < BF16_N; v += SIDE) {
            const __mmask16 mask = (__mmask16)(cols >> v);
            float *c = t->c + (size_t)m * t->ldc + (mask ? v : 0);
            __m512 x = _mm512_mul_ps(_mm512_load_ps(&sums[m][v]), alpha);

            if (t->bias)
                x = _mm512_add_ps(
                    x, _mm512_maskz_loadu_ps(mask, t->bias + (mask ? v : 0)));
            if (t->beta != 0.0f)
                x = _mm512_add_ps(
                    _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, c), beta), x);
            _mm512_mask_storeu_ps(c, mask, x);
        }
}

static void tile(const struct bf16_tile *t, const uint32_t *a,
                 const uint32_t *b, size_t k2)
{
    const bool whole = t->rows == 2 * SIDE && t->cols == BF16_N;
    const bool add = t->beta == 1.0f && !t->bias;
    const size_t steps = k2 / SIDE;
    _Alignas(64) float sums[2 * SIDE][BF16_N];

    if (whole && t->alpha == 1.0f && (t->beta == 0.0f || add)) {
        sum_32(t->c, t->ldc, add ? t->c : t->bias, add ? t->ldc : 0, a, b,
               steps);
        return;
    }
    if (t->rows > SIDE)
        sum_32(&sums[0][0], BF16_N, NULL, 0, a, b, steps);
    else
        sum_16(&sums[0][0], BF16_N, a, b, steps);
    blend(t, sums);
}

void train_bf16_amx(struct bf16_kernels *k)
{
    *k = (struct bf16_kernels){.name = "amx",
                               .tile_rows = 2 * SIDE,
                               .row_unit = SIDE,
                               .k_unit = 2 * SIDE,
                               .k_max = 512,
                               .unit_rows = 512,
                               .unit_words = 128 << 10,
                               .group_words = 128 << 10,
                               .along = train_bf16_along,
                               .across = train_bf16_across,
                               .a_along = train_bf16_rows_along,
                               .a_across = train_bf16_rows_across,
                               .sums = train_bf16_sums,
                               .tile = tile,
                               .begin = train_amx_begin,
                               .end = train_amx_end};
}
