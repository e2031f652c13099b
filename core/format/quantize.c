/*
 * quantize.c - floats into file blocks.
 *
 * The formats of 32 follow ggml's reference rounding exactly when all values
 * count the same, so that our files are what others would have written; with
 * importances they take the least-squares scale instead, as the K formats
 * always do. The result is checked, not the way there: a scale that left the
 * range of a half makes the whole call fail.
 */
#include "core/format/quant.h"

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/format/fit.h"
#include "core/format/quantize_k.h"

enum { BLOCK = 32, K_BLOCK = 256 };

/* ggml rounds by adding a half and cutting off; NaN becomes 0. */
static uint8_t cut(float v, int top)
{
    return (uint8_t)(v > 0.0f ? v < (float)top ? (int)v : top : 0);
}

/* 0 for a scale too small to matter: it is 0 as a half, too. */
static float inverse(float d)
{
    return fabsf(d) > 1e-30f ? 1.0f / d : 0.0f;
}

/* The value of largest magnitude, with its sign; the first of equals. */
static float extreme(const float *x)
{
    float max = 0.0f;

    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) > fabsf(max))
            max = x[i];
    return max;
}

/* ---- integers of one block ----------------------------------------------- */

/* q in 0 .. 2 half - 1 for scale * (q - half). The extreme becomes 0, the side
 * that reaches further. Returns the scale as a half. */
static uint16_t symmetric(const float *x, const float *w, int half, uint8_t *q)
{
    const float d = w ? infer_fit_scale(x, w, BLOCK, -half, half - 1)
                      : extreme(x) / (float)-half;
    const float id = inverse(d);

    for (int i = 0; i < BLOCK; i++)
        if (w)
            q[i] = (uint8_t)(infer_nearest(x[i] * id, -half, half - 1) + half);
        else
            q[i] = cut(x[i] * id + ((float)half + 0.5f), 2 * half - 1);
    return infer_f32_to_f16(d);
}

/* q in 0 .. top for scale * q + min. */
static uint16_t affine(const float *x, const float *w, int top, uint8_t *q,
                       uint16_t *min)
{
    float lo = x[0], hi = x[0], d, id;

    for (int i = 1; i < BLOCK; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    d = (hi - lo) / (float)top;
    if (w)
        infer_fit_affine(x, w, BLOCK, top, true, &d, &lo);
    id = inverse(d);
    for (int i = 0; i < BLOCK; i++)
        if (w)
            q[i] = (uint8_t)infer_nearest((x[i] - lo) * id, 0, top);
        else
            q[i] = cut((x[i] - lo) * id + 0.5f, top);
    *min = infer_f32_to_f16(lo);
    return infer_f32_to_f16(d);
}

static void pack_nibbles(uint8_t *qs, const uint8_t *q)
{
    for (int i = 0; i < BLOCK / 2; i++)
        qs[i] = (uint8_t)((q[i] & 15) | (q[i + BLOCK / 2] & 15) << 4);
}

static void pack_fifth_bits(uint8_t qh[4], const uint8_t *q)
{
    memset(qh, 0, 4);
    for (int i = 0; i < BLOCK; i++)
        qh[i / 8] = (uint8_t)(qh[i / 8] | (q[i] >> 4) << (i % 8));
}

/* ---- blocks ---------------------------------------------------------------
 */

static void q4_0(const float *x, const float *w, struct infer_block_q4_0 *b)
{
    uint8_t q[BLOCK];

    b->d = symmetric(x, w, 8, q);
    pack_nibbles(b->qs, q);
}

static void q4_1(const float *x, const float *w, struct infer_block_q4_1 *b)
{
    uint8_t q[BLOCK];

    b->d = affine(x, w, 15, q, &b->m);
    pack_nibbles(b->qs, q);
}

static void q5_0(const float *x, const float *w, struct infer_block_q5_0 *b)
{
    uint8_t q[BLOCK];

    b->d = symmetric(x, w, 16, q);
    pack_nibbles(b->qs, q);
    pack_fifth_bits(b->qh, q);
}

static void q5_1(const float *x, const float *w, struct infer_block_q5_1 *b)
{
    uint8_t q[BLOCK];

    b->d = affine(x, w, 31, q, &b->m);
    pack_nibbles(b->qs, q);
    pack_fifth_bits(b->qh, q);
}

/* Eight bits leave nothing for importances to decide. */
static void q8_0(const float *x, struct infer_block_q8_0 *b)
{
    const float d = fabsf(extreme(x)) / 127.0f;
    const float id = inverse(d);

    for (int i = 0; i < BLOCK; i++)
        b->qs[i] = (int8_t)roundf(x[i] * id);
    b->d = infer_f32_to_f16(d);
}

static void quantize_k(uint32_t type, const float *x, const float *w, void *b)
{
    float ones[K_BLOCK];

    for (int i = 0; i < K_BLOCK; i++)
        ones[i] = 1.0f;
    if (!w)
        w = ones;
    if (type == INFER_Q4_K)
        infer_quantize_q4_k(x, w, b);
    else if (type == INFER_Q5_K)
        infer_quantize_q5_k(x, w, b);
    else
        infer_quantize_q6_k(x, w, b);
}

/* False: no quantizer. */
static bool quantize_block(uint32_t type, const float *x, const float *w,
                           void *b)
{
    switch ((enum infer_qtype)type) {
    case INFER_F32:
        memcpy(b, x, sizeof(*x));
        return true;
    case INFER_F16:
        *(uint16_t *)b = infer_f32_to_f16(*x);
        return true;
    case INFER_BF16:
        *(uint16_t *)b = infer_f32_to_bf16(*x);
        return true;
    case INFER_Q4_0:
        q4_0(x, w, b);
        return true;
    case INFER_Q4_1:
        q4_1(x, w, b);
        return true;
    case INFER_Q5_0:
        q5_0(x, w, b);
        return true;
    case INFER_Q5_1:
        q5_1(x, w, b);
        return true;
    case INFER_Q8_0:
        q8_0(x, b);
        return true;
    case INFER_Q4_K:
    case INFER_Q5_K:
    case INFER_Q6_K:
        quantize_k(type, x, w, b);
        return true;
    case INFER_Q2_K:
    case INFER_Q3_K:
    case INFER_IQ4_NL:
        break;
    }
    return false;
}

int infer_quantize(uint32_t type, const float *src, void *dst, size_t n,
                   const float *weight, struct infer_error *err)
{
    const struct infer_qtype_info *info = infer_qtype_info(type);
    uint8_t *b = dst;

    if (!info)
        return infer_fail(err, INFER_EUNSUPPORTED, "no tensor type is %u",
                          type);
    if (!infer_quant_finite(INFER_F32, src, n))
        return infer_fail(err, INFER_EINVAL,
                          "cannot quantize to %s: a value is not finite",
                          info->name);
    for (size_t i = 0; i < n; i += info->block, b += info->block_bytes)
        if (!quantize_block(type, src + i, weight ? weight + i : NULL, b))
            return infer_fail(err, INFER_EUNSUPPORTED,
                              "cannot quantize to %s: not supported",
                              info->name);
    if (!infer_quant_finite(type, dst, n))
        return infer_fail(err, INFER_EINVAL,
                          "cannot quantize to %s: a value is too large",
                          info->name);
    return 0;
}
