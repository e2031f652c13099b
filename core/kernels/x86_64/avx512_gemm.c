/*
 * avx512_gemm.c - matrix products on packed panels with AVX-512 and VNNI.
 *
 * A tile is M tokens by NV panels (16 outputs each). Weights are the unsigned
 * operand of vpdpbusd and are loaded once per tile; 4 activations of a token
 * are broadcast and meet all of them. 6 x 2 tiles keep 12 integer and 12 float
 * sums in registers: per block of 32 inputs 96 products against 12 conversions
 * and 24 float operations, which bounds the tile at 80 % of the multiplier's
 * peak. A single token (M = 1) is bound by memory instead, and a panel is
 * laid out to be one linear stream.
 */
#include "core/kernels/kernels.h"

#include "core/kernels/x86_64/panel512.h"
#include "core/kernels/x86_64/unroll.h"

enum { M_MAX = 6, NV_MAX = 2, BLOCK = INFER_ACT_BLOCK };

/* What a tile reads: panels, their parts, and the rows of activations. */
struct source {
    const uint8_t *panel[NV_MAX];
    struct infer_panel_layout at;
    const uint8_t *x; /* first row */
    size_t x_stride;  /* bytes */
    size_t k;
    size_t ahead; /* bytes from these panels to the next */
};

INLINE __m512i broadcast4(const int8_t *q)
{
    int32_t v;

    __builtin_memcpy(&v, q, sizeof(v));
    return _mm512_set1_epi32(v);
}

INLINE const struct infer_act_block *act_at(const struct source *s, int m,
                                            size_t b)
{
    return (const struct infer_act_block *)(const void *)(s->x +
                                                          (size_t)m *
                                                              s->x_stride) +
           b;
}

/* Integer start of a sum: what takes the weights' zero point out again. */
INLINE __m512i zero_point(const struct infer_act_block *x, struct shape h,
                          int sub)
{
    if (h.mins)
        return _mm512_setzero_si512();
    if (h.subs == 2)
        return _mm512_set1_epi32(-128 * x->sum[sub]);
    const __m512i zero = _mm512_set1_epi32(x->zero);

    return h.bits == 4 ? _mm512_srai_epi32(zero, 4) : zero;
}

/*
 * A single token reads each weight once, from memory when the model is larger
 * than the cache. Panels are too short for the hardware to see a stream in
 * them, so while block b is multiplied, block b of the next panels is fetched.
 */
INLINE void fetch_ahead(const struct source *s, size_t b, const int NV,
                        const struct shape h)
{
    const size_t bytes = h.bits == 4 ? 256 : 512;

    EACH (v, NV) {
        const uint8_t *next = s->panel[v] + s->ahead;

        UNROLL
        for (size_t i = 0; i < bytes; i += 64)
            _mm_prefetch((const char *)next + b * bytes + i, _MM_HINT_T1);
        _mm_prefetch((const char *)next + s->at.scales + b * 32, _MM_HINT_T1);
    }
}

/* acc += the block's part `sub` of the dot products. */
INLINE void dot_block(__m512i acc[M_MAX][NV_MAX], const struct source *s,
                      size_t b, int sub, const int M, const int NV,
                      const struct shape h)
{
    const int steps = 8 / h.subs;

    EACH (m, M) {
        const __m512i zero = zero_point(act_at(s, m, b), h, sub);

        EACH (v, NV)
            acc[m][v] = zero;
    }
    UNROLL
    for (int j = sub * steps; j < (sub + 1) * steps; j++) {
        __m512i w[NV_MAX];

        EACH (v, NV)
            w[v] = quants(s->panel[v], h, b, j);
        EACH (m, M) {
            const __m512i x = broadcast4(act_at(s, m, b)->q + 4 * j);

            EACH (v, NV)
                acc[m][v] = _mm512_dpbusd_epi32(acc[m][v], w[v], x);
        }
    }
}

/* sum += scale * xscale * acc + min * xsum */
INLINE void scale_block(vf sum[M_MAX][NV_MAX], __m512i acc[M_MAX][NV_MAX],
                        const struct source *s, size_t b, int sub, const int M,
                        const int NV, const struct shape h)
{
    EACH (v, NV) {
        vf min = v_zero();
        const vf scale = scales_at(s->panel[v], s->at, b, sub, h, &min);

        EACH (m, M)
            sum[m][v] = add_scaled(sum[m][v], acc[m][v], scale, min,
                                   act_at(s, m, b), sub, h);
    }
}

INLINE void tile_int(float *y, size_t ldy, const struct source *s, const int M,
                     const int NV, const struct shape h)
{
    vf sum[M_MAX][NV_MAX];

    EACH (m, M)
        EACH (v, NV)
            sum[m][v] = v_zero();
    for (size_t b = 0; b < s->k / BLOCK; b++) {
        if (M == 1 && h.bits == 4)
            fetch_ahead(s, b, NV, h);
        EACH (sub, h.subs) {
            __m512i acc[M_MAX][NV_MAX];

            dot_block(acc, s, b, sub, M, NV, h);
            scale_block(sum, acc, s, b, sub, M, NV, h);
        }
    }
    EACH (m, M)
        EACH (v, NV)
            v_store(y + (size_t)m * ldy + (size_t)v * INFER_PANEL, sum[m][v]);
}

INLINE void tile_float(float *y, size_t ldy, const struct source *s,
                       const int M, const int NV, const bool half)
{
    vf sum[M_MAX][NV_MAX];

    EACH (m, M)
        EACH (v, NV)
            sum[m][v] = v_zero();
    for (size_t k = 0; k < s->k; k++) {
        vf w[NV_MAX];

        EACH (v, NV)
            w[v] = half ? halves_at(s->panel[v], k)
                        : v_load((const float *)(const void *)s->panel[v] +
                                 k * INFER_PANEL);
        EACH (m, M) {
            const float *x = (const void *)(s->x + (size_t)m * s->x_stride);

            EACH (v, NV)
                sum[m][v] = v_fma(w[v], v_set1(x[k]), sum[m][v]);
        }
    }
    EACH (m, M)
        EACH (v, NV)
            v_store(y + (size_t)m * ldy + (size_t)v * INFER_PANEL, sum[m][v]);
}

typedef void tile_fn(float *y, size_t ldy, const struct source *s);

/* Cover tokens [t0, t1) by panels [p0, p1) with tiles[NV - 1][M - 1]. Panels
 * are the outer loop: a pair stays in the first-level cache for all tokens. */
static void cover(float *y, size_t ldy, const struct infer_packed *w,
                  const struct infer_act *x, size_t t0, size_t t1, size_t p0,
                  size_t p1, tile_fn *const tiles[NV_MAX][M_MAX])
{
    struct source s = {.at = infer_pack_layout(w->kind, w->k),
                       .x_stride = x->stride,
                       .k = w->k,
                       .ahead = NV_MAX * w->panel_bytes};

    for (size_t p = p0; p < p1; p += NV_MAX) {
        const size_t nv = p1 - p < NV_MAX ? p1 - p : NV_MAX;

        for (size_t v = 0; v < nv; v++)
            s.panel[v] = w->data + (p + v) * w->panel_bytes;
        for (size_t t = t0; t < t1;) {
            const size_t m = t1 - t < M_MAX ? t1 - t : M_MAX;

            s.x = x->data + t * x->stride;
            tiles[nv - 1][m - 1](y + (t - t0) * ldy + (p - p0) * INFER_PANEL,
                                 ldy, &s);
            t += m;
        }
    }
}

/* All tile sizes of one kind, and the kernel that uses them. */
#define TILE(name, M, NV, call)                                                \
    static void name##_##M##_##NV(float *y, size_t ldy,                        \
                                  const struct source *s)                      \
    {                                                                          \
        call;                                                                  \
    }
#define ROWS(name, NV)                                                         \
    {                                                                          \
        name##_1_##NV, name##_2_##NV, name##_3_##NV, name##_4_##NV,            \
            name##_5_##NV, name##_6_##NV                                       \
    }
#define KERNEL(name)                                                           \
    static void gemm_##name(                                                   \
        float *y, size_t ldy, const struct infer_packed *w,                    \
        const struct infer_act *x, size_t t0, size_t t1, size_t p0, size_t p1) \
    {                                                                          \
        static tile_fn *const tiles[NV_MAX][M_MAX] = {ROWS(name, 1),           \
                                                      ROWS(name, 2)};          \
                                                                               \
        cover(y, ldy, w, x, t0, t1, p0, p1, tiles);                            \
    }
#define SIZES(T, ...)                                                          \
    T(1, 1, __VA_ARGS__)                                                       \
    T(2, 1, __VA_ARGS__)                                                       \
    T(3, 1, __VA_ARGS__)                                                       \
    T(4, 1, __VA_ARGS__)                                                       \
    T(5, 1, __VA_ARGS__)                                                       \
    T(6, 1, __VA_ARGS__)                                                       \
    T(1, 2, __VA_ARGS__)                                                       \
    T(2, 2, __VA_ARGS__)                                                       \
    T(3, 2, __VA_ARGS__)                                                       \
    T(4, 2, __VA_ARGS__)                                                       \
    T(5, 2, __VA_ARGS__)                                                       \
    T(6, 2, __VA_ARGS__)
#define INT_TILE(M, NV, name, bits, subs, mins, k)                             \
    TILE(name, M, NV,                                                          \
         tile_int(y, ldy, s, M, NV, ((struct shape){bits, subs, mins, k})))
#define FLOAT_TILE(M, NV, name, half)                                          \
    TILE(name, M, NV, tile_float(y, ldy, s, M, NV, half))
#define INT_KERNEL(name, bits, subs, mins, k)                                  \
    SIZES(INT_TILE, name, bits, subs, mins, k)                                 \
    KERNEL(name)
#define FLOAT_KERNEL(name, half)                                               \
    SIZES(FLOAT_TILE, name, half)                                              \
    KERNEL(name)

INT_KERNEL(i8, 8, 1, false, false)
INT_KERNEL(i8_min, 8, 1, true, false)
INT_KERNEL(i4, 4, 1, false, false)
INT_KERNEL(i4_min, 4, 1, true, false)
INT_KERNEL(i4_k, 4, 1, true, true)
INT_KERNEL(i8_k, 8, 1, true, true)
INT_KERNEL(i8_k16, 8, 2, false, true)
INT_KERNEL(i8_k16min, 8, 2, true, true)
FLOAT_KERNEL(f32, false)
FLOAT_KERNEL(f16, true)

static infer_gemm_fn *const kernels[INFER_PACK_COUNT] = {
    [INFER_PACK_I8] = gemm_i8,         [INFER_PACK_I8_MIN] = gemm_i8_min,
    [INFER_PACK_I4] = gemm_i4,         [INFER_PACK_I4_MIN] = gemm_i4_min,
    [INFER_PACK_I4_K] = gemm_i4_k,     [INFER_PACK_I8_K] = gemm_i8_k,
    [INFER_PACK_I8_K16] = gemm_i8_k16, [INFER_PACK_I8_K16MIN] = gemm_i8_k16min,
    [INFER_PACK_F32] = gemm_f32,       [INFER_PACK_F16] = gemm_f16,
};

void infer_gemm_avx512(float *y, size_t ldy, const struct infer_packed *w,
                       const struct infer_act *x, size_t t0, size_t t1,
                       size_t p0, size_t p1)
{
    kernels[w->kind](y, ldy, w, x, t0, t1, p0, p1);
}

void infer_kernels_avx512_gemm(struct infer_kernels *k)
{
    for (int i = 0; i < INFER_PACK_COUNT; i++)
        if (kernels[i])
            k->gemm[i] = kernels[i];
}
