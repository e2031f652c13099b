/*
 * panel512.h - reading integer panels and activations with 512-bit vectors;
 * shared by the kernels with VNNI and with AMX, which must agree to the bit.
 */
#ifndef INFER_PANEL512_H
#define INFER_PANEL512_H

#include "core/kernels/kernels.h"
#include "core/kernels/x86_64/vec512.h"

#define INLINE static inline __attribute__((always_inline))

/* Shape of an integer kind; constants once inlined. */
struct shape {
    int bits, subs; /* scales per block of 32 inputs: 1 or 2 */
    bool mins, k;   /* k: scales of a K type */
};

INLINE vf halves_at(const uint8_t *p, size_t i)
{
    return v_load_half((const uint16_t *)(const void *)p + i * INFER_PANEL);
}

/* Weights of inputs 4j .. 4j+3 of block b. */
INLINE __m512i quants(const uint8_t *panel, struct shape h, size_t b, int j)
{
    const __m512i low = _mm512_set1_epi8(15);

    if (h.bits == 8)
        return _mm512_load_si512(panel + b * 512 + (size_t)j * 64);
    const __m512i both =
        _mm512_load_si512(panel + b * 256 + (size_t)(j % 4) * 64);

    return _mm512_and_si512(j < 4 ? both : _mm512_srli_epi16(both, 4), low);
}

/* Scales of 16 outputs for part `sub` of block b, and their minima, negated
 * where K types store them so. */
INLINE vf scales_at(const uint8_t *panel, struct infer_panel_layout layout,
                    size_t b, int sub, const struct shape h, vf *min)
{
    const size_t i = b * (size_t)h.subs + (size_t)sub;
    const size_t n_subs = 8 * (size_t)h.subs; /* of 256 inputs */
    const uint8_t *at = panel + layout.scales;

    if (!h.k) {
        if (h.mins)
            *min = halves_at(panel + layout.mins, i);
        return halves_at(at, i);
    }
    at += b / 8 * layout.k_bytes;
    const uint8_t *scales = at + (h.mins ? 64 : 32);
    const size_t part = i % n_subs * INFER_PANEL;

    if (h.mins)
        *min =
            v_mul(v_sub(v_zero(), halves_at(at, 1)),
                  _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(
                      (const void *)(scales + n_subs * INFER_PANEL + part)))));
    return v_mul(halves_at(at, 0),
                 _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
                     _mm_loadu_si128((const void *)(scales + part)))));
}

/* sum + scale * xscale * dot + min * xsum, rounded in this order. */
INLINE vf add_scaled(vf sum, __m512i dot, vf scale, vf min,
                     const struct infer_act_block *x, int sub,
                     const struct shape h)
{
    sum = v_add(sum,
                v_mul(_mm512_cvtepi32_ps(dot), v_mul(scale, v_set1(x->scale))));
    if (!h.mins)
        return sum;
    const float xsum = h.subs == 1 ? x->wsum : x->scale * (float)x->sum[sub];

    return v_add(sum, v_mul(min, v_set1(xsum)));
}

#endif
