/* half.h - 16-bit floats, in plain C: exact, branch-light, for every machine.
 */
#ifndef INFER_BASE_HALF_H
#define INFER_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float infer_f32_from_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

static inline uint32_t infer_f32_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static inline float infer_bf16_to_f32(uint16_t h)
{
    return infer_f32_from_bits((uint32_t)h << 16);
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t infer_f32_to_bf16(float f)
{
    const uint32_t u = infer_f32_bits(f);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 64u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float infer_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exp = (h >> 10) & 31u;
    const uint32_t man = h & 0x3ffu;

    if (exp == 31)
        return infer_f32_from_bits(sign | 0x7f800000u | man << 13);
    if (exp == 0) { /* zero or subnormal: man * 2^-24, exact in f32 */
        const float v = (float)man * 5.9604644775390625e-8f;

        return sign ? -v : v;
    }
    return infer_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
}

/* Round to nearest, ties to even; too large becomes infinity. */
static inline uint16_t infer_f32_to_f16(float f)
{
    const uint32_t u = infer_f32_bits(f);
    const uint32_t sign = (u >> 16) & 0x8000u;
    const uint32_t a = u & 0x7fffffffu;

    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { /* below 2^-14: the sum's last bit is worth 2^-24 */
        const float t = infer_f32_from_bits(a) + 0.5f;

        return (uint16_t)(sign | (infer_f32_bits(t) - 0x3f000000u));
    }
    return (uint16_t)(sign |
                      ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
}

#endif
