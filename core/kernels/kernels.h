/*
 * kernels.h - the arithmetic of the engine: one table of functions per CPU.
 *
 * Every kernel has a plain C version in scalar*.c, which defines the result. A
 * variant may only reorder or fuse float operations; integer sums are equal.
 * Within one table a result depends on nothing but the row itself: y[t] is the
 * same bits whatever other rows share the call. That is what makes the engine's
 * output independent of batching, so it is a rule, and tests/kernels proves it.
 *
 * Packed weights. A matrix w[N][K] is stored in panels of 16 rows, padded with
 * zero rows, so that one 512-bit register holds the same 4 (int8), 2 (bf16) or
 * 1 (f16, f32) inputs k of all 16 rows, and one load serves any number of
 * tokens. A panel is one stream of quants followed by one of scales:
 *
 *   8 bits  quants [K/4][16][4] u8
 *   4 bits  quants [K/32][4][16][4] u8: low nibbles hold k = 4j + i, j < 4,
 *           high nibbles k = 16 + 4j + i
 *   BF16    [K/2][16][2]      F16  [K][16]      F32  [K][16]
 *
 *   scales of 32      [K/32][16] f16, then minima [K/32][16] f16
 *   scales of K types per 256 inputs: d [16] f16, dmin [16] f16, then for each
 *                     sub-block (32 or 16 inputs) scales [16] i8, then for each
 *                     minima [16] u8; dmin and minima only where there are any
 *
 * A weight is scale * (u - zero), or with minima scale * u + min, where in K
 * types scale = d * i8 and min = -dmin * u8. Activations are int8 with one f32
 * scale per 32 (256 for K types): the signed operand of vpdpbusd; their sums,
 * kept beside them, undo the zero point exactly.
 */
#ifndef INFER_KERNELS_H
#define INFER_KERNELS_H

#include "infer.h"

enum {
    INFER_PANEL = 16,      /* rows of one panel */
    INFER_ACT_BLOCK = 32,  /* int8 activations of a block */
    INFER_K_BLOCK = 256,   /* inputs that share d and dmin in K types */
    INFER_KV_BLOCK = 16,   /* tokens of one KV cache block */
    INFER_ATTN_CHUNK = 64, /* keys per softmax step; fixes the order of sums */
    INFER_MAX_HEAD = 256   /* widest head */
};

enum infer_pack {
    INFER_PACK_F32,
    INFER_PACK_F16,
    INFER_PACK_BF16,
    INFER_PACK_I8,        /* u8 - 128: Q8_0, Q5_0, IQ4_NL */
    INFER_PACK_I8_MIN,    /* u8 <= 127, min: Q5_1 */
    INFER_PACK_I4,        /* u4 - 8: Q4_0 */
    INFER_PACK_I4_MIN,    /* u4, min: Q4_1 */
    INFER_PACK_I4_K,      /* u4, min, K scales of 32: Q4_K */
    INFER_PACK_I8_K,      /* u8 <= 127, min, K scales of 32: Q5_K */
    INFER_PACK_I8_K16,    /* u8 - 128, K scales of 16: Q6_K, Q3_K */
    INFER_PACK_I8_K16MIN, /* u8 <= 127, min, K scales of 16: Q2_K */
    INFER_PACK_COUNT
};

struct infer_packed {
    enum infer_pack kind;
    uint32_t n, k;
    uint32_t n_panels;   /* n rounded up to 16, over 16 */
    size_t panel_bytes;  /* a multiple of 64 */
    const uint8_t *data; /* [n_panels][panel_bytes], 64-byte aligned */
};

/* Activation forms a packed kind multiplies with. */
enum infer_act_kind {
    INFER_ACT_F32,
    INFER_ACT_BF16,
    INFER_ACT_I8,  /* blocks with scales of their own, as ggml's Q8_0, Q8_1 */
    INFER_ACT_I8K, /* 8 blocks of one scale, as Q8_K: what K types multiply */
    INFER_ACT_COUNT
};

/* 32 int8 activations: x = scale * q. One stream, so that a row is a pointer.
 */
struct infer_act_block {
    int8_t q[INFER_ACT_BLOCK]; /* -127..127 */
    float scale;
    int32_t zero;   /* -128 * sum of q: undoes the weights' u8 offset */
    float wsum;     /* scale * sum of q (I8: a half): the factor of minima */
    int16_t sum[2]; /* of the first and second 16 q */
};

/* T rows of activations in one form: float, bf16 (as uint16_t), or blocks.
 * What lies past k in the last block or pair is zero. */
struct infer_act {
    enum infer_act_kind kind;
    size_t stride;       /* bytes from row to row, a multiple of 16 */
    const uint8_t *data; /* [T][stride] */
};

/*
 * y[t][16 * (p - p0) + i] = sum_k w[16 p + i][k] x[t][k]
 * for t in [t0, t1), p in [p0, p1), i in 0..15; row t of y begins at
 * y + (t - t0) * ldy.
 *
 * Order   per output element: k-blocks ascending. F32/F16/BF16: one running sum
 *         over k (pairs of k for BF16). I8/I4: one running float sum over
 *         blocks, of an exact int dot times (wscale * xscale).
 * Bound   against scalar: (K/b + 8) * FLT_EPSILON * sum_k |w||x| per element
 */
typedef void infer_gemm_fn(float *y, size_t ldy, const struct infer_packed *w,
                           const struct infer_act *x, size_t t0, size_t t1,
                           size_t p0, size_t p1);

/*
 * Attention of n_rows query rows that share one KV head of one sequence.
 *
 *   q, out  [n_rows]  pointers to [d]; q is rotated
 *   n_keys  [n_rows]  keys each row sees: 0 .. n_keys - 1, n_keys >= 1
 *   blocks  [..]      KV block numbers of the sequence
 *   kv      this layer and head in block 0; block i begins at
 *           kv + i * block_stride. A block holds K as [d][16] and then V as
 *           [16][d], in f16 or f32.
 *   scratch [infer_attn_scratch(d)] floats, 64-byte aligned
 *
 * Order   chunks of 64 keys ascending, running maximum and sum (Milakov and
 *         Gimelshein 2018, arXiv:1805.02867); within a chunk keys ascending
 */
struct infer_attn {
    const float *const *q;
    float *const *out;
    const uint32_t *n_keys;
    size_t n_rows;
    const uint32_t *blocks;
    const uint8_t *kv;
    size_t block_stride; /* bytes */
    bool f32;            /* element type of the cache */
    uint32_t d;          /* head width, at most INFER_MAX_HEAD */
    float scale;         /* of the scores: 1 / sqrt(d) */
    float *scratch;
};

struct infer_kernels {
    const char *name;
    unsigned cpu; /* the sets in use */

    infer_gemm_fn *gemm[INFER_PACK_COUNT];

    /* y[k / 32] = blocks of x[k], k % 32 == 0, as ggml's Q8_0: s = max|x| /
     * 127, q = x * (1 / s) rounded half to even, scale = s rounded to a half;
     * wsum as Q8_1: s * sum rounded to a half. Agreeing with the reference here
     * is what makes greedy text agree. */
    void (*quantize_act)(struct infer_act_block *y, const float *x, size_t k);
    /* The same with one s for 256 inputs, as Q8_K, and no halves; k % 256 == 0:
     * r = 127 / max|x|, q = x * r, scale = 1 / r, wsum = scale * sum. */
    void (*quantize_act_k)(struct infer_act_block *y, const float *x, size_t k);
    void (*to_bf16)(uint16_t *y, const float *x, size_t n);

    /* y[n] = x / sqrt(mean(x^2) + eps) * w.  In place allowed. */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n,
                    float eps);
    /* y[n] = (x - mean) / sqrt(var + eps) * w + b */
    void (*layernorm)(float *y, const float *x, const float *w, const float *b,
                      size_t n, float eps);

    void (*add)(float *y, const float *x, size_t n);       /* y += x */
    void (*silu_mul)(float *y, const float *up, size_t n); /* y = silu(y) up */
    void (*gelu)(float *y, size_t n); /* tanh form, Hendrycks 2016 */

    /* Rotate x[n_heads][d]: pairs (2i, 2i+1), or (i, i + n_rot/2) when halves,
     * of the first n_rot values by cs[n_rot/2][2] = (cos, sin). */
    void (*rope)(float *x, const float *cs, size_t n_heads, size_t d,
                 size_t n_rot, bool halves);

    /* K and V of one token into slot `at` (0..15) of its block (see attn). */
    void (*kv_store)(uint8_t *block, const float *k, const float *v, uint32_t d,
                     uint32_t at, bool f32);
    void (*attention)(const struct infer_attn *a);

    /* exp(x - max), their sum; index of the largest (the lowest on a tie). */
    float (*exp_sum)(float *y, const float *x, size_t n, float max);
    size_t (*argmax)(const float *x, size_t n);
};

/* Floats of scratch that attention of head width d needs. */
size_t infer_attn_scratch(uint32_t d);

/* Parts of a panel: where the scales and the minima (of 32) begin, the bytes
 * of scales per 256 inputs (K types; else 0), and its size. */
struct infer_panel_layout {
    size_t scales, mins, k_bytes, bytes;
};

struct infer_panel_layout infer_pack_layout(enum infer_pack kind, size_t k);

/* Best variants among cpu (already cut to what the machine has); 0: scalar. */
void infer_kernels_init(struct infer_kernels *k, unsigned cpu);

/* Bits, inputs per scale (0: float), whether minima exist, whether the scales
 * are those of a K type. */
struct infer_pack_info {
    const char *name;
    enum infer_act_kind act;
    uint8_t bits, block;
    bool mins, k;
};

extern const struct infer_pack_info infer_pack_info[INFER_PACK_COUNT];

/* Each set's entries; called by infer_kernels_init() only. */
void infer_kernels_scalar(struct infer_kernels *k);
void infer_kernels_scalar_gemm(struct infer_kernels *k);
void infer_kernels_avx2(struct infer_kernels *k);
void infer_kernels_avx2_gemm(struct infer_kernels *k);
void infer_kernels_avx512(struct infer_kernels *k);
void infer_kernels_avx512_gemm(struct infer_kernels *k);
void infer_kernels_avx512bf16(struct infer_kernels *k);
void infer_kernels_amxint8(struct infer_kernels *k);

/* Any product of the kinds avx512_gemm.c has, for sets that build on it. */
infer_gemm_fn infer_gemm_avx512;

#endif
