/*
 * bf16.h - products of packed bfloat16 panels, and what packs them.
 *
 * Packed B   panels of 32 columns, each [k/2][32] pairs of bf16: inputs 2i and
 *            2i + 1 of a column are one 32-bit word, as vdpbf16ps wants them.
 *            An odd last input and the columns past n are zero.
 * Packed A   tiles of up to 14 rows, each [k/2][rows] such pairs.
 */
#ifndef TRAINER_GEMM_BF16_H
#define TRAINER_GEMM_BF16_H

#include "trainer/gemm/gemm.h"

enum {
    BF16_N = 32,      /* columns of a panel and of a tile of C */
    BF16_M = 14,      /* rows of a tile, at most: 28 sums, 2 panels, 1 row */
    BF16_LANES = 16,  /* pairs a packing function writes at once */
    BF16_K_MAX = 512, /* inputs of a panel that stays in the first cache */
};

/*
 * Round and pair up `width` <= 16 rows or columns of k inputs. Pair i goes to
 * dst + i * stride, `lanes` >= width words of it; those past width are zero.
 *   along   src [width][ld]: inputs of one column lie side by side
 *   across  src [k][ld]: inputs of one column lie ld apart
 */
typedef void bf16_pack_fn(uint32_t *dst, size_t stride, int lanes,
                          const float *src, size_t ld, int width, size_t k);

/* Where a tile of C goes: c = alpha * sum + beta * c. */
struct bf16_tile {
    float *c;
    size_t ldc;
    int rows, cols; /* 1..14, 1..32 */
    float alpha, beta;
};

/* A tile of C from k2 pairs of inputs of a tile of A and a panel of B. */
typedef void bf16_tile_fn(const struct bf16_tile *t, const uint32_t *a,
                          const uint32_t *b, size_t k2);

struct bf16_kernels {
    bf16_pack_fn *along, *across;
    bf16_tile_fn *tile;
};

#if defined(__x86_64__)
void train_bf16_avx512(struct bf16_kernels *k);
#endif

struct train_packed {
    struct bf16_kernels kernels;
    size_t k, n;
    uint32_t *data; /* [ceil(n/32)][ceil(k/2)][32] */
};

/* Work space of one member. */
struct bf16_scratch {
    uint32_t *a; /* a block of packed A */
    uint32_t *b; /* small blocks of packed B, for products done alone */
};

struct bf16_work {
    struct bf16_kernels kernels;
    int n_members;
    uint32_t *b;                /* a block of packed B, shared */
    struct bf16_scratch *parts; /* [n_members] */
    void *memory;
};

int train_bf16_create(struct bf16_work *w, int n_members,
                      struct infer_error *err);
void train_bf16_release(struct bf16_work *w);

/* Pack op(B) [k][n]; members share the panels of this phase. */
void train_bf16_pack_b(struct infer_member *me, const struct bf16_kernels *kern,
                       uint32_t *dst, bool tb, const float *b, size_t ldb,
                       size_t n, size_t k);

/* All members: begins and ends with a barrier. */
void train_bf16_phase(struct infer_member *me, const struct bf16_work *w,
                      const struct train_product *p);
/* By the owner of this scratch. */
void train_bf16_alone(const struct bf16_work *w, const struct bf16_scratch *s,
                      const struct train_product *p);

#endif
