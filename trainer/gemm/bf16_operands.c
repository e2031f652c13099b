/*
 * bf16_operands.c - operands into panels and tiles of A.
 *
 * Inputs are packed CHUNK at a time where they lie across the rows of memory,
 * so that those are read in runs.
 */
#include "trainer/gemm/bf16_parts.h"

#include <string.h>

enum { PACK_GRAIN = 4 }; /* panels packed by whom takes them */

size_t train_bf16_panel_words(const struct bf16_kernels *k, size_t n_inputs)
{
    return round_up(n_inputs, k->k_unit) / 2 * BF16_N;
}

/* The inputs between k and the unit, which every panel holds as zeros. */
static void zero_tail(const struct bf16_kernels *kern, uint32_t *dst, size_t k,
                      size_t first, size_t last)
{
    const size_t stride = train_bf16_panel_words(kern, k);
    const size_t used = ceil_div(k, 2) * BF16_N;

    for (size_t j = first; j < last && used < stride; j++)
        memset(dst + j * stride + used, 0, (stride - used) * sizeof(*dst));
}

/* Inputs outside, panels inside: rows of B are read in runs. */
void bf16_pack_panels(const struct bf16_kernels *kern, uint32_t *dst, bool tb,
                      struct bf16_source b, size_t n, size_t k, size_t first,
                      size_t last)
{
    const size_t stride = train_bf16_panel_words(kern, k);
    const size_t step = tb ? k : CHUNK;
    size_t i = 0;

    do {
        const size_t len = min_size(step, k - i);

        for (size_t col = first * BF16_N; col < last * BF16_N;
             col += BF16_LANES) {
            uint32_t *to =
                dst + col / BF16_N * stride + i / 2 * BF16_N + col % BF16_N;
            const size_t width = col < n ? min_size(BF16_LANES, n - col) : 0;

            if (tb)
                kern->along(to, BF16_N, BF16_LANES,
                            bf16_from(b, width ? col * b.ld : 0), (int)width,
                            len);
            else
                kern->across(to, BF16_N, BF16_LANES,
                             bf16_from(b, i * b.ld + (width ? col : 0)),
                             (int)width, len);
        }
        i += step;
    } while (i < k);
    zero_tail(kern, dst, k, first, last);
}

void train_packed_rows(struct train_packed *packed, const float *b, size_t ldb,
                       size_t row, size_t rows, size_t c0, size_t c1)
{
    const struct bf16_kernels *kern = &packed->kernels;
    const size_t stride = train_bf16_panel_words(kern, packed->k);
    const size_t used = ceil_div(rows, 2) * BF16_N;
    const size_t end = round_up(rows, kern->k_unit) / 2 * BF16_N;

    for (size_t col = c0; col < round_up(c1, BF16_N); col += BF16_LANES) {
        const size_t width = col < c1 ? min_size(BF16_LANES, c1 - col) : 0;
        uint32_t *to = packed->data + col / BF16_N * stride + row / 2 * BF16_N +
                       col % BF16_N;

        kern->across(
            to, BF16_N, BF16_LANES,
            (struct bf16_source){b + (width ? col - c0 : 0), NULL, ldb},
            (int)width, rows);
        for (size_t i = used; i < end; i += BF16_N)
            memset(to + i, 0, BF16_LANES * sizeof(*to));
    }
}

void train_bf16_pack_panels(const struct bf16_kernels *kern, uint32_t *dst,
                            bool tb, const float *b, size_t ldb, size_t n,
                            size_t k)
{
    bf16_pack_panels(kern, dst, tb, (struct bf16_source){b, NULL, ldb}, n, k, 0,
                     ceil_div(n, BF16_N));
}

void train_bf16_pack_b(struct infer_member *me, const struct bf16_kernels *kern,
                       uint32_t *dst, bool tb, struct bf16_source b, size_t n,
                       size_t k)
{
    const size_t panels = ceil_div(n, BF16_N);
    int64_t at;

    while ((at = infer_team_take(me, (int64_t)panels, PACK_GRAIN)) >= 0)
        bf16_pack_panels(kern, dst, tb, b, n, k, (size_t)at,
                         min_size(panels, (size_t)at + PACK_GRAIN));
}

void bf16_pack_rows(const struct bf16_kernels *kern, uint32_t *dst, bool ta,
                    struct bf16_source a, size_t rows, size_t k, float *sums)
{
    const size_t tiles = ceil_div(rows, kern->tile_rows);
    const size_t step = ta ? CHUNK : k;
    size_t i = 0;

    do {
        const size_t len = min_size(step, k - i);

        if (sums)
            kern->sums(sums, bf16_from(a, i * a.ld), rows, len);
        for (size_t t = 0; t < tiles; t++) {
            const size_t row = tile_row(kern, rows, t);
            const size_t m = tile_row(kern, rows, t + 1) - row;
            uint32_t *to = dst + a_words(kern, row, k) +
                           i / 2 * round_up(m, kern->row_unit);

            if (ta)
                kern->a_across(to, bf16_from(a, i * a.ld + row), (int)m, len);
            else
                kern->a_along(to, bf16_from(a, row * a.ld), (int)m, len);
        }
        i += step;
    } while (i < k);
}

void train_bf16_pack_a(const struct bf16_kernels *kern, uint32_t *dst, bool ta,
                       const float *a, size_t lda, size_t rows, size_t k)
{
    bf16_pack_rows(kern, dst, ta, (struct bf16_source){a, NULL, lda}, rows, k,
                   NULL);
}
