/* vec256.h - the names of vec512.h for AVX2 with FMA and F16C. */
#ifndef INFER_VEC256_H
#define INFER_VEC256_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { VW = 8 }; /* floats in a vector */
typedef __m256 vf;

static inline __m256i v_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}

/* The first n < VW values; the rest are zero and are not touched. */
static inline vf v_load_n(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, v_mask(n));
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    _mm256_maskstore_ps(p, v_mask(n), a);
}

static inline vf v_load_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

static inline vf v_load_half_n(const uint16_t *p, size_t n)
{
    uint16_t h[8] = {0};

    memcpy(h, p, n * sizeof(h[0]));
    return v_load_half(h);
}

static inline void v_store_half(uint16_t *p, vf a)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(a, 0));
}

static inline vf v_set1(float a)
{
    return _mm256_set1_ps(a);
}

static inline vf v_zero(void)
{
    return _mm256_setzero_ps();
}

static inline vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

/* a * b + c */
static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* c - a * b */
static inline vf v_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

static inline vf v_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline float v_sum(vf a)
{
    __m128 s =
        _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

/* Sums in double: what a norm divides by must not depend on the order. */
typedef struct {
    __m256d lo, hi;
} vd;

static inline vd v_dzero(void)
{
    return (vd){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

/* acc + a * b */
static inline vd v_dfma(vf a, vf b, vd acc)
{
    acc.lo =
        _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                        _mm256_cvtps_pd(_mm256_castps256_ps128(b)), acc.lo);
    acc.hi =
        _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)),
                        _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1)), acc.hi);
    return acc;
}

static inline double v_dsum(vd a)
{
    const __m256d s = _mm256_add_pd(a.lo, a.hi);
    const __m128d t =
        _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));

    return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}

/* To half precision and back. */
static inline vf v_round_half(vf a)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(a, 0));
}

/* a where x <= y, else b */
static inline vf v_select_le(vf x, vf y, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LE_OQ));
}

static inline float v_hmax(vf a)
{
    __m128 s =
        _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    s = _mm_max_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

static inline vf v_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf v_exponent(__m256i n)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* a * 2^n, n integral in -150..128: in two steps, as 2^n may be subnormal */
static inline vf v_ldexp(vf a, vf n)
{
    const __m256i all = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(all, 1);

    return v_mul(v_mul(a, v_exponent(half)),
                 v_exponent(_mm256_sub_epi32(all, half)));
}

/* Pairs (a, b) rotated by cs = (cos, sin): (a c - b s, a s + b c),
 * rounded as the definition rounds: nothing is fused. */
static inline vf v_rotate_pairs(vf x, vf cs)
{
    return _mm256_addsub_ps(
        _mm256_mul_ps(x, _mm256_moveldup_ps(cs)),
        _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(cs)));
}

/* VW cosines and VW sines from 2 * VW interleaved values. */
static inline void v_load_cs(const float *cs, vf *c, vf *s)
{
    const vf a = v_load(cs), b = v_load(cs + VW);
    const vf even = _mm256_shuffle_ps(a, b, 0x88);
    const vf odd = _mm256_shuffle_ps(a, b, 0xdd);

    *c = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8));
    *s = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odd), 0xd8));
}

static inline int32_t v_sum_i32(__m256i a)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a),
                              _mm256_extracti128_si256(a, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* 32 floats times inv, rounded half to even, as int8; sums of each 16. */
static inline void v_quantize32(int8_t *q, const float *x, float inv,
                                int32_t sum[2])
{
    for (int i = 0; i < 2; i++) {
        const __m256i a =
            _mm256_cvtps_epi32(v_mul(v_load(x + 16 * i), v_set1(inv)));
        const __m256i b =
            _mm256_cvtps_epi32(v_mul(v_load(x + 16 * i + 8), v_set1(inv)));
        const __m256i ab =
            _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);

        _mm_storeu_si128((void *)(q + 16 * i),
                         _mm_packs_epi16(_mm256_castsi256_si128(ab),
                                         _mm256_extracti128_si256(ab, 1)));
        sum[i] = v_sum_i32(_mm256_add_epi32(a, b));
    }
}

#endif
