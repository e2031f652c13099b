/*
 * avx512bf16_pack.c - rows of f32, or of bf16, to interleaved pairs of bf16.
 *
 * Rounding is vcvtne2ps2bf16's: to nearest, ties to even, denormals to zero.
 * Where the inputs of a column are neighbours in memory, 16 columns by 16
 * pairs are turned in registers: 64 shuffles for 512 numbers, 1 to 2 % of a
 * product with 384 columns.
 */
#include "trainer/gemm/x86_64/bf16_pack.h"

#include "core/kernels/x86_64/unroll.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { L = BF16_LANES };

INLINE __mmask16 low_lanes(size_t n)
{
    return (__mmask16)(n >= L ? 0xffffu : (1u << n) - 1);
}

/* 32 bf16: low half from lo, high half from hi. */
INLINE __m512i round2(__m512 hi, __m512 lo)
{
    return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

INLINE __m256i load16(struct bf16_source s, size_t at, __mmask16 lanes)
{
    return _mm256_maskz_loadu_epi16(lanes, s.bf16 + (lanes ? at : 0));
}

/* 32 bf16: low half those at lo, high half those at hi. */
INLINE __m512i load32(struct bf16_source s, size_t lo, __mmask16 lo_lanes,
                      size_t hi, __mmask16 hi_lanes)
{
    if (s.f32)
        return round2(
            _mm512_maskz_loadu_ps(hi_lanes, s.f32 + (hi_lanes ? hi : 0)),
            _mm512_maskz_loadu_ps(lo_lanes, s.f32 + (lo_lanes ? lo : 0)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(load16(s, lo, lo_lanes)),
                              load16(s, hi, hi_lanes), 1);
}

/* ---- inputs of a column lie ld apart --------------------------------------
 */

/* The order lo[0], hi[0], lo[1], hi[1], ... of what round2() returns. */
INLINE __m512i pair_order(void)
{
    const __m512i lane =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    return _mm512_add_epi32(
        _mm512_set1_epi32(16 << 16),
        _mm512_mullo_epi32(_mm512_set1_epi32(0x10001), lane));
}

void train_bf16_across(uint32_t *dst, size_t stride, int lanes,
                       struct bf16_source src, int width, size_t k)
{
    const __mmask16 in = low_lanes((size_t)width);
    const __mmask16 out = low_lanes((size_t)lanes);
    const __m512i pairs = pair_order();

    for (size_t i = 0; i < k; i += 2, dst += stride)
        _mm512_mask_storeu_epi32(
            dst, out,
            _mm512_permutexvar_epi16(pairs, load32(src, i * src.ld, in,
                                                   (i + 1) * src.ld,
                                                   i + 1 < k ? in : 0)));
}

void train_bf16_sums(float *sums, struct bf16_source src, size_t rows, size_t k)
{
    for (size_t at = 0; at < rows; at += L) {
        const __mmask16 in = low_lanes(rows - at);
        __m512 sum = _mm512_maskz_loadu_ps(in, sums + at);

        for (size_t i = 0; i < k; i++) {
            const size_t from = i * src.ld + at;
            const __m512 x =
                src.f32
                    ? _mm512_maskz_loadu_ps(in, src.f32 + from)
                    : _mm512_castsi512_ps(_mm512_slli_epi32(
                          _mm512_cvtepu16_epi32(load16(src, from, in)), 16));

            sum = _mm512_add_ps(sum, x);
        }
        _mm512_mask_storeu_ps(sums + at, in, sum);
    }
}

/* ---- inputs of a column are neighbours ------------------------------------
 */

/* r[i] lane j <-> r[j] lane i, in four steps of pairs 1, 2, 4 and 8 apart. */
INLINE void transpose(__m512i r[L])
{
    __m512i t[L];

    UNROLL
    for (int i = 0; i < L; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < L; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4g + c]: columns 4g .. 4g+3 of pairs c, 4+c, 8+c, 12+c */
    EACH (c, 4) {
        t[c] = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
        t[8 + c] = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
        t[12 + c] = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
    }
    EACH (c, 4) {
        r[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
        r[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xdd);
        r[4 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0x88);
        r[12 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0xdd);
    }
}

/* Up to 32 inputs of up to 16 columns. */
INLINE void block(uint32_t *dst, size_t stride, __mmask16 out,
                  struct bf16_source src, size_t at, int width, size_t k)
{
    const __mmask16 lo = low_lanes(k), hi = low_lanes(k > L ? k - L : 0);
    __m512i r[L];

    EACH (j, L) {
        r[j] = _mm512_setzero_si512();
        if (j < width) {
            const size_t row = (size_t)j * src.ld + at;

            r[j] = load32(src, row, lo, row + L, hi);
        }
    }
    transpose(r);
    EACH (i, L) {
        if ((size_t)(2 * i) < k)
            _mm512_mask_storeu_epi32(dst + (size_t)i * stride, out, r[i]);
    }
}

void train_bf16_along(uint32_t *dst, size_t stride, int lanes,
                      struct bf16_source src, int width, size_t k)
{
    const __mmask16 out = low_lanes((size_t)lanes);
    size_t i = 0;

    for (; i + 2 * L <= k; i += 2 * L)
        block(dst + i / 2 * stride, stride, out, src, i, width, 2 * L);
    if (i < k)
        block(dst + i / 2 * stride, stride, out, src, i, width, k - i);
}

/* ---- tiles of AMX: 16 rows of 32 inputs ------------------------------------
 */

enum { TILE_K = 32, TILE_ROWS = 16, TILE_WORDS = TILE_ROWS * L };

/* Input tile `at` of sub-tile `sub`, of a tile of A of `rows` rows. */
INLINE uint32_t *rows_tile(uint32_t *dst, int rows, size_t at, int sub)
{
    const size_t subs = (size_t)(rows + TILE_ROWS - 1) / TILE_ROWS;

    return dst + (at / TILE_K * subs + (size_t)(sub / TILE_ROWS)) * TILE_WORDS;
}

void train_bf16_rows_along(uint32_t *dst, struct bf16_source src, int rows,
                           size_t k)
{
    for (int sub = 0; sub < rows; sub += TILE_ROWS)
        for (size_t at = 0; at < k; at += TILE_K) {
            const size_t left = k - at;
            const __mmask16 lo = low_lanes(left);
            const __mmask16 hi = low_lanes(left > L ? left - L : 0);
            uint32_t *to = rows_tile(dst, rows, at, sub);

            for (int r = 0; r < TILE_ROWS; r++, to += L) {
                const size_t row = (size_t)(sub + r) * src.ld + at;
                __m512i x = _mm512_setzero_si512();

                if (sub + r < rows)
                    x = load32(src, row, lo, row + L, hi);
                _mm512_store_si512(to, x);
            }
        }
}

void train_bf16_rows_across(uint32_t *dst, struct bf16_source src, int rows,
                            size_t k)
{
    const __m512i pairs = pair_order();

    for (size_t at = 0; at < k; at += TILE_K)
        for (int sub = 0; sub < rows; sub += TILE_ROWS) {
            const __mmask16 in = low_lanes((size_t)(rows - sub));
            const size_t from = at * src.ld + (size_t)sub;
            uint32_t *to = rows_tile(dst, rows, at, sub);
            const size_t left = k - at;
            __m512i r[L];

            EACH (i, L) {
                const size_t even = (size_t)(2 * i);
                const __mmask16 lo = even < left ? in : 0;
                const __mmask16 hi = even + 1 < left ? in : 0;
                const size_t row = from + even * src.ld;

                r[i] = _mm512_permutexvar_epi16(
                    pairs, load32(src, row, lo, row + src.ld, hi));
            }
            transpose(r);
            EACH (i, L)
                _mm512_store_si512(to + i * L, r[i]);
        }
}
