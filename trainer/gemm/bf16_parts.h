/*
 * bf16_parts.h - what bf16.c and bf16_operands.c share: the layout of packed
 * operands, see bf16.h.
 */
#ifndef TRAINER_GEMM_BF16_PARTS_H
#define TRAINER_GEMM_BF16_PARTS_H

#include "trainer/gemm/bf16.h"

enum { CHUNK = 32 }; /* inputs packed before the next tile */

static inline size_t ceil_div(size_t n, size_t unit)
{
    return (n + unit - 1) / unit;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t round_up(size_t n, size_t unit)
{
    return ceil_div(n, unit) * unit;
}

/* Where tile t of a unit's tiles begins. */
static inline size_t tile_row(const struct bf16_kernels *kern, size_t rows,
                              size_t t)
{
    if (kern->even)
        return rows * t / ceil_div(rows, kern->tile_rows);
    return min_size(rows, t * kern->tile_rows);
}

/* Words of packed A before row `row`, which begins a tile. */
static inline size_t a_words(const struct bf16_kernels *kern, size_t row,
                             size_t k)
{
    return row * (round_up(k, kern->k_unit) / 2);
}

/* Panels [first, last) of op(B) [k][n]. */
void bf16_pack_panels(const struct bf16_kernels *kern, uint32_t *dst, bool tb,
                      struct bf16_source b, size_t n, size_t k, size_t first,
                      size_t last);

/* As train_bf16_pack_a(); adds up the rows of op(A) meanwhile, if sums is not
 * NULL. */
void bf16_pack_rows(const struct bf16_kernels *kern, uint32_t *dst, bool ta,
                    struct bf16_source a, size_t rows, size_t k, float *sums);

#endif
