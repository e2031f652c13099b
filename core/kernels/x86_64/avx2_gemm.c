/*
 * avx2_gemm.c - matrix products on packed panels with AVX2.
 *
 * The panels are the same as for AVX-512; here a panel is two vectors of 8
 * outputs. vpmaddubsw multiplies unsigned by signed and adds pairs in 16 bits
 * with saturation: small weights (4 bits, or at most 127) are its unsigned
 * operand as they are; full 8-bit weights give their sign to the activation,
 * and 2 * 128 * 127 fits. So every sum is exact.
 */
#include "core/kernels/kernels.h"

#include "core/kernels/x86_64/unroll.h"
#include "core/kernels/x86_64/vec256.h"

#define INLINE static inline __attribute__((always_inline))

enum { M_MAX = 3, NV = 2, BLOCK = INFER_ACT_BLOCK };

struct shape {
    int bits, subs; /* scales per block of 32 inputs: 1 or 2 */
    bool mins, k;   /* k: scales of a K type */
};

struct source {
    const uint8_t *panel;
    struct infer_panel_layout at;
    const uint8_t *x;
    size_t x_stride;
    size_t k;
};

INLINE const struct infer_act_block *act_at(const struct source *s, int m,
                                            size_t b)
{
    return (const struct infer_act_block *)(const void *)(s->x +
                                                          (size_t)m *
                                                              s->x_stride) +
           b;
}

INLINE vf halves_at(const uint8_t *p, size_t i, int v)
{
    return v_load_half((const uint16_t *)(const void *)p + i * INFER_PANEL +
                       v * VW);
}

/* Weights of inputs 4j .. 4j+3 of block b, outputs 8v .. 8v+7. */
INLINE __m256i quants(const uint8_t *panel, struct shape h, size_t b, int j,
                      int v)
{
    const __m256i low = _mm256_set1_epi8(15);
    const size_t at = (size_t)(h.bits == 8 ? j : j % 4) * 64 + (size_t)v * 32;

    if (h.bits == 8)
        return _mm256_load_si256((const void *)(panel + b * 512 + at));
    const __m256i both =
        _mm256_load_si256((const void *)(panel + b * 256 + at));

    return _mm256_and_si256(j < 4 ? both : _mm256_srli_epi16(both, 4), low);
}

INLINE __m256i dot4(__m256i w, __m256i x, struct shape h)
{
    __m256i pairs;

    if (h.bits == 8 && !h.mins) {
        w = _mm256_xor_si256(w, _mm256_set1_epi8(-128)); /* u8 - 128 */
        pairs =
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
        pairs = _mm256_maddubs_epi16(w, x);
    }
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* acc = the block's part `sub` of the dot products. */
INLINE void dot_block(__m256i acc[M_MAX][NV], const struct source *s, size_t b,
                      int sub, const int M, const struct shape h)
{
    const int steps = 8 / h.subs;

    EACH (m, M) {
        /* 8-bit weights above are signed already; 4-bit ones are off by 8 */
        const int zero =
            h.bits == 4 && !h.mins ? act_at(s, m, b)->zero / 16 : 0;

        acc[m][0] = acc[m][1] = _mm256_set1_epi32(zero);
    }
    UNROLL
    for (int j = sub * steps; j < (sub + 1) * steps; j++) {
        const __m256i w0 = quants(s->panel, h, b, j, 0);
        const __m256i w1 = quants(s->panel, h, b, j, 1);

        EACH (m, M) {
            int32_t q;

            __builtin_memcpy(&q, act_at(s, m, b)->q + 4 * j, sizeof(q));
            const __m256i x = _mm256_set1_epi32(q);

            acc[m][0] = _mm256_add_epi32(acc[m][0], dot4(w0, x, h));
            acc[m][1] = _mm256_add_epi32(acc[m][1], dot4(w1, x, h));
        }
    }
}

/* Scales of 8 outputs for part `sub` of block b, and their minima. */
INLINE vf scales_at(const struct source *s, int v, size_t b, int sub,
                    const struct shape h, vf *min)
{
    const size_t i = b * (size_t)h.subs + (size_t)sub;
    const size_t n_subs = 8 * (size_t)h.subs; /* of 256 inputs */
    const uint8_t *at = s->panel + s->at.scales;

    if (!h.k) {
        if (h.mins)
            *min = halves_at(s->panel + s->at.mins, i, v);
        return halves_at(at, i, v);
    }
    at += b / 8 * s->at.k_bytes;
    const uint8_t *scales = at + (h.mins ? 64 : 32);
    const size_t part = i % n_subs * INFER_PANEL + (size_t)v * VW;

    if (h.mins)
        *min =
            v_mul(v_sub(v_zero(), halves_at(at, 1, v)),
                  _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(
                      (const void *)(scales + n_subs * INFER_PANEL + part)))));
    return v_mul(halves_at(at, 0, v),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(
                     _mm_loadl_epi64((const void *)(scales + part)))));
}

/* sum += scale * xscale * acc + min * xsum */
INLINE void scale_block(vf sum[M_MAX][NV], __m256i acc[M_MAX][NV],
                        const struct source *s, size_t b, int sub, const int M,
                        const struct shape h)
{
    EACH (v, NV) {
        vf min = v_zero();
        const vf scale = scales_at(s, v, b, sub, h, &min);

        EACH (m, M) {
            const struct infer_act_block *x = act_at(s, m, b);
            const float xsum =
                h.subs == 1 ? x->wsum : x->scale * (float)x->sum[sub];

            sum[m][v] = v_add(sum[m][v], v_mul(_mm256_cvtepi32_ps(acc[m][v]),
                                               v_mul(scale, v_set1(x->scale))));
            if (h.mins)
                sum[m][v] = v_add(sum[m][v], v_mul(min, v_set1(xsum)));
        }
    }
}

INLINE void tile_int(float *y, size_t ldy, const struct source *s, const int M,
                     const struct shape h)
{
    vf sum[M_MAX][NV];

    EACH (m, M)
        sum[m][0] = sum[m][1] = v_zero();
    for (size_t b = 0; b < s->k / BLOCK; b++) {
        for (int sub = 0; sub < h.subs; sub++) {
            __m256i acc[M_MAX][NV];

            dot_block(acc, s, b, sub, M, h);
            scale_block(sum, acc, s, b, sub, M, h);
        }
    }
    EACH (m, M)
        EACH (v, NV)
            v_store(y + (size_t)m * ldy + v * VW, sum[m][v]);
}

/* Weights of inputs k and k + 1, outputs 8v .. 8v+7; one input for f32, f16. */
INLINE void floats_at(const struct source *s, enum infer_pack kind, size_t k,
                      int v, vf w[2])
{
    const size_t i = k * INFER_PANEL + (size_t)v * VW;

    if (kind == INFER_PACK_F32) {
        w[0] = v_load((const float *)(const void *)s->panel + i);
    } else if (kind == INFER_PACK_F16) {
        w[0] = v_load_half((const uint16_t *)(const void *)s->panel + i);
    } else {
        const __m256i pair = _mm256_load_si256(
            (const void *)(s->panel + k / 2 * 64 + (size_t)v * 32));

        w[0] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
        w[1] = _mm256_castsi256_ps(
            _mm256_and_si256(pair, _mm256_set1_epi32(-65536)));
    }
}

INLINE vf x_at(const struct source *s, enum infer_pack kind, int m, size_t k)
{
    const uint8_t *row = s->x + (size_t)m * s->x_stride;

    if (kind != INFER_PACK_BF16)
        return v_set1(((const float *)(const void *)row)[k]);
    const uint32_t bits = (uint32_t)((const uint16_t *)(const void *)row)[k];

    return _mm256_castsi256_ps(_mm256_set1_epi32((int)(bits << 16)));
}

INLINE void tile_float(float *y, size_t ldy, const struct source *s,
                       const int M, const enum infer_pack kind)
{
    const int step = kind == INFER_PACK_BF16 ? 2 : 1;
    vf sum[M_MAX][NV];

    EACH (m, M)
        sum[m][0] = sum[m][1] = v_zero();
    for (size_t k = 0; k < s->k; k += (size_t)step) {
        vf w[NV][2];

        floats_at(s, kind, k, 0, w[0]);
        floats_at(s, kind, k, 1, w[1]);
        EACH (m, M)
            for (int i = 0; i < step; i++) {
                const vf x = x_at(s, kind, m, k + (size_t)i);

                sum[m][0] = v_fma(w[0][i], x, sum[m][0]);
                sum[m][1] = v_fma(w[1][i], x, sum[m][1]);
            }
    }
    EACH (m, M)
        EACH (v, NV)
            v_store(y + (size_t)m * ldy + v * VW, sum[m][v]);
}

typedef void tile_fn(float *y, size_t ldy, const struct source *s);

static void cover(float *y, size_t ldy, const struct infer_packed *w,
                  const struct infer_act *x, size_t t0, size_t t1, size_t p0,
                  size_t p1, tile_fn *const tiles[M_MAX])
{
    struct source s = {.at = infer_pack_layout(w->kind, w->k),
                       .x_stride = x->stride,
                       .k = w->k};

    for (size_t p = p0; p < p1; p++) {
        s.panel = w->data + p * w->panel_bytes;
        for (size_t t = t0; t < t1;) {
            const size_t m = t1 - t < M_MAX ? t1 - t : M_MAX;

            s.x = x->data + t * x->stride;
            tiles[m - 1](y + (t - t0) * ldy + (p - p0) * INFER_PANEL, ldy, &s);
            t += m;
        }
    }
}

#define KERNEL(name, call1, call2, call3)                                      \
    static void name##_1(float *y, size_t ldy, const struct source *s)         \
    {                                                                          \
        call1;                                                                 \
    }                                                                          \
    static void name##_2(float *y, size_t ldy, const struct source *s)         \
    {                                                                          \
        call2;                                                                 \
    }                                                                          \
    static void name##_3(float *y, size_t ldy, const struct source *s)         \
    {                                                                          \
        call3;                                                                 \
    }                                                                          \
    static void gemm_##name(                                                   \
        float *y, size_t ldy, const struct infer_packed *w,                    \
        const struct infer_act *x, size_t t0, size_t t1, size_t p0, size_t p1) \
    {                                                                          \
        static tile_fn *const tiles[M_MAX] = {name##_1, name##_2, name##_3};   \
                                                                               \
        cover(y, ldy, w, x, t0, t1, p0, p1, tiles);                            \
    }
#define INT_KERNEL(name, bits, subs, mins, k)                                  \
    KERNEL(name,                                                               \
           tile_int(y, ldy, s, 1, ((struct shape){bits, subs, mins, k})),      \
           tile_int(y, ldy, s, 2, ((struct shape){bits, subs, mins, k})),      \
           tile_int(y, ldy, s, 3, ((struct shape){bits, subs, mins, k})))
#define FLOAT_KERNEL(name, kind)                                               \
    KERNEL(name, tile_float(y, ldy, s, 1, kind),                               \
           tile_float(y, ldy, s, 2, kind), tile_float(y, ldy, s, 3, kind))

INT_KERNEL(i8, 8, 1, false, false)
INT_KERNEL(i8_min, 8, 1, true, false)
INT_KERNEL(i4, 4, 1, false, false)
INT_KERNEL(i4_min, 4, 1, true, false)
INT_KERNEL(i4_k, 4, 1, true, true)
INT_KERNEL(i8_k, 8, 1, true, true)
INT_KERNEL(i8_k16, 8, 2, false, true)
INT_KERNEL(i8_k16min, 8, 2, true, true)
FLOAT_KERNEL(f32, INFER_PACK_F32)
FLOAT_KERNEL(f16, INFER_PACK_F16)
FLOAT_KERNEL(bf16, INFER_PACK_BF16)

void infer_kernels_avx2_gemm(struct infer_kernels *k)
{
    k->gemm[INFER_PACK_I8] = gemm_i8;
    k->gemm[INFER_PACK_I8_MIN] = gemm_i8_min;
    k->gemm[INFER_PACK_I4] = gemm_i4;
    k->gemm[INFER_PACK_I4_MIN] = gemm_i4_min;
    k->gemm[INFER_PACK_I4_K] = gemm_i4_k;
    k->gemm[INFER_PACK_I8_K] = gemm_i8_k;
    k->gemm[INFER_PACK_I8_K16] = gemm_i8_k16;
    k->gemm[INFER_PACK_I8_K16MIN] = gemm_i8_k16min;
    k->gemm[INFER_PACK_F32] = gemm_f32;
    k->gemm[INFER_PACK_F16] = gemm_f16;
    k->gemm[INFER_PACK_BF16] = gemm_bf16;
}
