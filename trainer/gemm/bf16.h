/*
 * bf16.h - products of packed bfloat16 panels, and what packs them.
 *
 * Packed B   panels of 32 columns, each [k/2][32] pairs of bf16: inputs 2i and
 *            2i + 1 of a column are one 32-bit word, as vdpbf16ps and AMX want
 *            them. Inputs past k, up to the kernels' unit, are zero, and so are
 *            the columns past n.
 * Packed A   tiles of up to tile_rows rows, in an order of the kernels' own:
 *            AVX-512  [k/2][rows] pairs
 *            AMX      [k/32][1 or 2][16 rows][16 pairs], each 1 KB a tile of
 *                     the processor; rows past the last are zero
 *
 * What differs between instruction sets is struct bf16_kernels; bf16.c, which
 * blocks and shares, has one way for all.
 */
#ifndef TRAINER_GEMM_BF16_H
#define TRAINER_GEMM_BF16_H

#include "trainer/gemm/gemm.h"

enum {
    BF16_N = 32,     /* columns of a panel and of a tile of C */
    BF16_LANES = 16, /* pairs a packing function writes at once */
};

/* An operand before it is packed: f32, or bf16 already (the other is NULL),
 * rows ld values apart. */
struct bf16_source {
    const float *f32;
    const uint16_t *bf16;
    size_t ld;
};

static inline struct bf16_source bf16_from(struct bf16_source s, size_t offset)
{
    if (s.f32)
        s.f32 += offset;
    else
        s.bf16 += offset;
    return s;
}

/*
 * Round and pair up `width` <= 16 rows or columns of k inputs. Pair i goes to
 * dst + i * stride, `lanes` >= width words of it; those past width are zero.
 *   along   src [width][ld]: inputs of one column lie side by side
 *   across  src [k][ld]: inputs of one column lie ld apart
 */
typedef void bf16_pack_fn(uint32_t *dst, size_t stride, int lanes,
                          struct bf16_source src, int width, size_t k);

/* Round `rows` rows of k inputs into a tile of A, zero up to the units. */
typedef void bf16_rows_fn(uint32_t *dst, struct bf16_source src, int rows,
                          size_t k);

/* sums [rows] += those over k inputs of src [k][ld]. */
typedef void bf16_sums_fn(float *sums, struct bf16_source src, size_t rows,
                          size_t k);

/* Where a tile of C goes: c = alpha * sum + beta * c + bias. */
struct bf16_tile {
    float *c;
    size_t ldc;
    const float *bias; /* of its columns, or NULL */
    int rows, cols;    /* 1..tile_rows, 1..32 */
    float alpha, beta;
};

/* A tile of C from k2 pairs of inputs of a tile of A and a panel of B. */
typedef void bf16_tile_fn(const struct bf16_tile *t, const uint32_t *a,
                          const uint32_t *b, size_t k2);

struct bf16_kernels {
    const char *name;
    size_t tile_rows; /* of C, at most */
    size_t row_unit;  /* rows of a tile of A are zero-padded to it */
    size_t k_unit;    /* and inputs to this */
    size_t k_max;     /* inputs that A and B in the caches may have */
    size_t unit_rows; /* rows that a member takes at once, at most */
    size_t
        unit_words; /* of packed A that they may fill, >= tile_rows k_max / 2 */
    size_t group_words; /* of panels that a tile of A meets before the next */
    bool even;          /* tiles of a unit are of even height */
    bf16_pack_fn *along, *across;     /* of B */
    bf16_rows_fn *a_along, *a_across; /* of A */
    bf16_sums_fn *sums;
    bf16_tile_fn *tile;
    void (*begin)(void), (*end)(void); /* around tiles, on each thread */
};

#if defined(__x86_64__)
void train_bf16_avx512(struct bf16_kernels *k);
void train_bf16_amx(struct bf16_kernels *k);
void train_amx_begin(void); /* this thread's tiles: all of 16 x 64 bytes */
void train_amx_end(void);
#endif

/* The fastest kernels of `cpu`; false: it has none. */
bool train_bf16_kernels(struct bf16_kernels *k, unsigned cpu);

/* Words of a panel of k inputs. */
size_t train_bf16_panel_words(const struct bf16_kernels *k, size_t n_inputs);

struct train_packed {
    struct bf16_kernels kernels;
    size_t k, n;
    uint32_t *data; /* [ceil(n/32)][panel] */
};

/* Work space of one member. */
struct bf16_scratch {
    uint32_t *a; /* a block of packed A */
    uint32_t *b; /* small blocks of packed B, for products done alone */
    float *made; /* rows of A for one tile, before they are packed */
    float *c;    /* rows of C for finish */
};

struct bf16_work {
    struct bf16_kernels kernels;
    int n_members;
    uint32_t *b;                /* a block of packed B, shared */
    struct bf16_scratch *parts; /* [n_members] */
    void *memory;
};

/* Errors  ENOMEM */
int train_bf16_create(struct bf16_work *w, const struct bf16_kernels *kern,
                      int n_members, struct infer_error *err);
void train_bf16_release(struct bf16_work *w);

/* Pack op(B) [k][n]; members share the panels of this phase. */
void train_bf16_pack_b(struct infer_member *me, const struct bf16_kernels *kern,
                       uint32_t *dst, bool tb, struct bf16_source b, size_t n,
                       size_t k);

/* Rows [0, rows) of op(A), k inputs of each, to dst: a unit for tiles. */
void train_bf16_pack_a(const struct bf16_kernels *kern, uint32_t *dst, bool ta,
                       const float *a, size_t lda, size_t rows, size_t k);
/* Columns [0, n) of op(B) [k][n] to dst, panel by panel. */
void train_bf16_pack_panels(const struct bf16_kernels *kern, uint32_t *dst,
                            bool tb, const float *b, size_t ldb, size_t n,
                            size_t k);

/*
 * C [rows][n] = sum, or += , by this thread, of operands packed as above.
 * Between begin() and end() of the kernels.
 *   b_inputs  inputs the panels were packed with, >= k
 */
void train_bf16_block(const struct bf16_kernels *kern, float *c, size_t ldc,
                      size_t rows, size_t n, size_t k, const uint32_t *a,
                      const uint32_t *b, size_t b_inputs, bool add);

/* See train_gemm_fits(). */
bool train_bf16_fits(const struct bf16_kernels *kern, size_t n, size_t k,
                     bool whole);

/* All members: begins and ends with a barrier. */
void train_bf16_phase(struct infer_member *me, const struct bf16_work *w,
                      const struct train_product *p);
/* By the owner of this scratch. */
void train_bf16_alone(const struct bf16_work *w, const struct bf16_scratch *s,
                      const struct train_product *p);

#endif
