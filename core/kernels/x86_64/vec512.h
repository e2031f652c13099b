/*
 * vec512.h - short names for AVX-512 float vectors, so that ops.inc.h and
 * attention.inc.h are written once for 256 and 512 bits (see vec256.h).
 */
#ifndef INFER_VEC512_H
#define INFER_VEC512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum { VW = 16 }; /* floats in a vector */
typedef __m512 vf;

static inline __mmask16 v_mask(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

static inline vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

/* The first n < VW values; the rest are zero and are not touched. */
static inline vf v_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(v_mask(n), p);
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    _mm512_mask_storeu_ps(p, v_mask(n), a);
}

static inline vf v_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

static inline vf v_load_half_n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_mask(n), p));
}

static inline void v_store_half(uint16_t *p, vf a)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(a, 0));
}

static inline vf v_set1(float a)
{
    return _mm512_set1_ps(a);
}

static inline vf v_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

/* a * b + c */
static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* c - a * b */
static inline vf v_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

static inline vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}

static inline float v_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}

/* Sums in double: what a norm divides by must not depend on the order. */
typedef struct {
    __m512d lo, hi;
} vd;

static inline vd v_dzero(void)
{
    return (vd){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

/* acc + a * b */
static inline vd v_dfma(vf a, vf b, vd acc)
{
    acc.lo =
        _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)),
                        _mm512_cvtps_pd(_mm512_castps512_ps256(b)), acc.lo);
    acc.hi =
        _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)),
                        _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1)), acc.hi);
    return acc;
}

static inline double v_dsum(vd a)
{
    return _mm512_reduce_add_pd(_mm512_add_pd(a.lo, a.hi));
}

/* To half precision and back. */
static inline vf v_round_half(vf a)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(a, 0));
}

/* a where x <= y, else b */
static inline vf v_select_le(vf x, vf y, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LE_OQ), b, a);
}

static inline float v_hmax(vf a)
{
    return _mm512_reduce_max_ps(a);
}

static inline vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT);
}

/* a * 2^n, n integral in -150..128 */
static inline vf v_ldexp(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}

/* Pairs (a, b) rotated by cs = (cos, sin): (a c - b s, a s + b c),
 * rounded as the definition rounds: nothing is fused. */
static inline vf v_rotate_pairs(vf x, vf cs)
{
    const vf a = _mm512_mul_ps(x, _mm512_moveldup_ps(cs));
    const vf b =
        _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(cs));

    return _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0x5555, a, b);
}

/* VW cosines and VW sines from 2 * VW interleaved values. */
static inline void v_load_cs(const float *cs, vf *c, vf *s)
{
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14,
                                          12, 10, 8, 6, 4, 2, 0);
    const vf lo = v_load(cs), hi = v_load(cs + VW);

    *c = _mm512_permutex2var_ps(lo, even, hi);
    *s = _mm512_permutex2var_ps(lo, _mm512_or_si512(even, _mm512_set1_epi32(1)),
                                hi);
}

/* 32 floats times inv, rounded half to even, as int8; sums of each 16. */
static inline void v_quantize32(int8_t *q, const float *x, float inv,
                                int32_t sum[2])
{
    const __m128i lo = _mm512_cvtepi32_epi8(
        _mm512_cvtps_epi32(_mm512_mul_ps(v_load(x), v_set1(inv))));
    const __m128i hi = _mm512_cvtepi32_epi8(
        _mm512_cvtps_epi32(_mm512_mul_ps(v_load(x + 16), v_set1(inv))));
    const __m256i all = _mm256_set_m128i(hi, lo);
    __m256i s =
        _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), all);

    s = _mm256_hadd_epi32(s, s);
    s = _mm256_hadd_epi32(s, s);
    _mm256_storeu_si256((void *)q, all);
    sum[0] = _mm256_extract_epi32(s, 0);
    sum[1] = _mm256_extract_epi32(s, 4);
}

#endif
