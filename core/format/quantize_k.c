/*
 * quantize_k.c - floats into Q4_K, Q5_K and Q6_K blocks.
 *
 * Two levels of scales: each sub-block's own best fit first, then those become
 * 6-bit (8-bit) integers times one half for the block. Rounding the scales
 * moves every value, so the block's halves are solved for again with the
 * integers at hand, and the values rounded again, while that gains.
 */
#include "core/format/quantize_k.h"

#include "core/base/half.h"
#include "core/format/fit.h"

enum { BLOCK = 256, SUB = 32, N_SUBS = 8, SUB6 = 16, N_SUBS6 = 16, PASSES = 3 };

/* ---- Q4_K, Q5_K: value = d * scale[j] * q - dmin * min[j] -----------------
 */

struct affine {
    uint16_t d, dmin; /* halves */
    uint8_t scale[N_SUBS], min[N_SUBS];
    uint8_t q[BLOCK];
};

/* Round the values with the block's scales as they are. Returns the error. */
static float affine_round(struct affine *a, const float *x, const float *w,
                          int top)
{
    float sum = 0.0f;

    for (int i = 0; i < BLOCK; i++) {
        const int j = i / SUB;
        const float scale = infer_f16_to_f32(a->d) * a->scale[j];
        const float min = infer_f16_to_f32(a->dmin) * a->min[j];
        const int q =
            scale > 0.0f ? infer_nearest((x[i] + min) / scale, 0, top) : 0;
        const float e = scale * (float)q - min - x[i];

        a->q[i] = (uint8_t)q;
        sum += w[i] * e * e;
    }
    return sum;
}

/* The best d and dmin for the integers at hand; false: none. */
static bool affine_solve(struct affine *a, const float *x, const float *w)
{
    float ss = 0.0f, sm = 0.0f, mm = 0.0f, xs = 0.0f, xm = 0.0f, det, d, dmin;

    for (int i = 0; i < BLOCK; i++) {
        const float s = (float)(a->scale[i / SUB] * a->q[i]);
        const float m = -(float)a->min[i / SUB];

        ss += w[i] * s * s;
        sm += w[i] * s * m;
        mm += w[i] * m * m;
        xs += w[i] * x[i] * s;
        xm += w[i] * x[i] * m;
    }
    if (mm > 0.0f) {
        det = ss * mm - sm * sm;
        d = (xs * mm - xm * sm) / det;
        dmin = (xm * ss - xs * sm) / det;
    } else {
        d = xs / ss;
        dmin = 0.0f;
    }
    if (!(d > 0.0f && d < INFINITY && dmin >= 0.0f && dmin < INFINITY))
        return false;
    a->d = infer_f32_to_f16(d);
    a->dmin = infer_f32_to_f16(dmin);
    return true;
}

/* The first choice: every sub-block fitted alone. */
static void affine_start(struct affine *a, const float *x, const float *w,
                         int top)
{
    float scale[N_SUBS], min[N_SUBS], max_scale = 0.0f, max_min = 0.0f;
    float d, dmin;

    for (int j = 0; j < N_SUBS; j++) {
        infer_fit_affine(x + j * SUB, w + j * SUB, SUB, top, false, &scale[j],
                         &min[j]);
        max_scale = fmaxf(max_scale, scale[j]);
        max_min = fmaxf(max_min, -min[j]);
    }
    a->d = infer_f32_to_f16(max_scale / 63.0f);
    a->dmin = infer_f32_to_f16(max_min / 63.0f);
    d = infer_f16_to_f32(a->d);
    dmin = infer_f16_to_f32(a->dmin);
    for (int j = 0; j < N_SUBS; j++) {
        a->scale[j] =
            d > 0.0f ? (uint8_t)infer_nearest(scale[j] / d, 0, 63) : 0;
        a->min[j] =
            dmin > 0.0f ? (uint8_t)infer_nearest(-min[j] / dmin, 0, 63) : 0;
    }
}

static void affine_fit(struct affine *best, const float *x, const float *w,
                       int top)
{
    struct affine next;
    float error, least;

    affine_start(best, x, w, top);
    least = affine_round(best, x, w, top);
    next = *best;
    for (int pass = 0; pass < PASSES && affine_solve(&next, x, w); pass++) {
        error = affine_round(&next, x, w, top);
        if (!(error < least))
            break;
        least = error;
        *best = next;
    }
}

/* The inverse of infer_k_scale_min(). */
static void pack_scales(uint8_t out[12], const struct affine *a)
{
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(a->scale[j] | (a->scale[j + 4] >> 4) << 6);
        out[j + 4] = (uint8_t)(a->min[j] | (a->min[j + 4] >> 4) << 6);
        out[j + 8] =
            (uint8_t)((a->scale[j + 4] & 15) | (a->min[j + 4] & 15) << 4);
    }
}

/* Low nibbles of two neighbouring sub-blocks share bytes. */
static void pack_nibbles(uint8_t *out, const uint8_t *q)
{
    for (int i = 0; i < BLOCK / 2; i++) {
        const int at = i / SUB * 2 * SUB + i % SUB;

        out[i] = (uint8_t)((q[at] & 15) | (q[at + SUB] & 15) << 4);
    }
}

void infer_quantize_q4_k(const float *x, const float *w,
                         struct infer_block_q4_k *b)
{
    struct affine a;

    affine_fit(&a, x, w, 15);
    b->d = a.d;
    b->dmin = a.dmin;
    pack_scales(b->scales, &a);
    pack_nibbles(b->qs, a.q);
}

void infer_quantize_q5_k(const float *x, const float *w,
                         struct infer_block_q5_k *b)
{
    struct affine a;

    affine_fit(&a, x, w, 31);
    b->d = a.d;
    b->dmin = a.dmin;
    pack_scales(b->scales, &a);
    pack_nibbles(b->qs, a.q);
    memset(b->qh, 0, sizeof(b->qh));
    for (int i = 0; i < BLOCK; i++)
        b->qh[i % SUB] = (uint8_t)(b->qh[i % SUB] | (a.q[i] >> 4) << (i / SUB));
}

/* ---- Q6_K: value = d * scale[j] * q ---------------------------------------
 */

struct scaled {
    uint16_t d; /* half */
    int8_t scale[N_SUBS6];
    int8_t q[BLOCK]; /* -32 .. 31 */
};

static float scaled_round(struct scaled *s, const float *x, const float *w)
{
    float sum = 0.0f;

    for (int i = 0; i < BLOCK; i++) {
        const float scale = infer_f16_to_f32(s->d) * s->scale[i / SUB6];
        const int q = scale != 0.0f ? infer_nearest(x[i] / scale, -32, 31) : 0;
        const float e = scale * (float)q - x[i];

        s->q[i] = (int8_t)q;
        sum += w[i] * e * e;
    }
    return sum;
}

static bool scaled_solve(struct scaled *s, const float *x, const float *w)
{
    float xs = 0.0f, ss = 0.0f, d;

    for (int i = 0; i < BLOCK; i++) {
        const float v = (float)(s->scale[i / SUB6] * s->q[i]);

        xs += w[i] * x[i] * v;
        ss += w[i] * v * v;
    }
    d = xs / ss;
    if (!(fabsf(d) < INFINITY))
        return false;
    s->d = infer_f32_to_f16(d);
    return true;
}

static void scaled_start(struct scaled *s, const float *x, const float *w)
{
    float scale[N_SUBS6], max = 0.0f, d;

    for (int j = 0; j < N_SUBS6; j++) {
        scale[j] = infer_fit_scale(x + j * SUB6, w + j * SUB6, SUB6, -32, 31);
        if (fabsf(scale[j]) > fabsf(max))
            max = scale[j];
    }
    s->d = infer_f32_to_f16(max / -128.0f);
    d = infer_f16_to_f32(s->d);
    for (int j = 0; j < N_SUBS6; j++)
        s->scale[j] =
            d != 0.0f ? (int8_t)infer_nearest(scale[j] / d, -128, 127) : 0;
}

static void pack_q6(struct infer_block_q6_k *b, const struct scaled *s)
{
    memset(b, 0, sizeof(*b));
    b->d = s->d;
    memcpy(b->scales, s->scale, sizeof(b->scales));
    for (int i = 0; i < BLOCK; i++) {
        const int j = i / SUB, u = s->q[i] + 32;
        uint8_t *ql = &b->ql[j / 4 * 64 + j % 2 * 32 + i % SUB];
        uint8_t *qh = &b->qh[j / 4 * 32 + i % SUB];

        *ql = (uint8_t)(*ql | (u & 15) << (j % 4 < 2 ? 0 : 4));
        *qh = (uint8_t)(*qh | (u >> 4) << (2 * (j % 4)));
    }
}

void infer_quantize_q6_k(const float *x, const float *w,
                         struct infer_block_q6_k *b)
{
    struct scaled best, next;
    float error, least;

    scaled_start(&best, x, w);
    least = scaled_round(&best, x, w);
    next = best;
    for (int pass = 0; pass < PASSES && scaled_solve(&next, x, w); pass++) {
        error = scaled_round(&next, x, w);
        if (!(error < least))
            break;
        least = error;
        best = next;
    }
    pack_q6(b, &best);
}
