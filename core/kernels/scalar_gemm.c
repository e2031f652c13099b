/*
 * scalar_gemm.c - the definition of the matrix products on packed panels.
 *
 * One loop for the integer kinds and one for the float kinds; infer_pack_info
 * says how a kind stores its weights. Slow and plain on purpose.
 */
#include "core/kernels/kernels.h"

#include "core/base/half.h"

/* Unsigned quant of input k, row i of an integer panel (layout: kernels.h). */
static int quant_at(const uint8_t *panel, int bits, size_t k, size_t i)
{
    if (bits == 8)
        return panel[k / 4 * 64 + i * 4 + k % 4];
    const size_t half = k % 32 / 16, j = k % 16 / 4;
    const uint8_t byte = panel[k / 32 * 256 + j * 64 + i * 4 + k % 4];

    return half ? byte >> 4 : byte & 15;
}

static float half_at(const uint8_t *p, size_t i)
{
    return infer_f16_to_f32(((const uint16_t *)(const void *)p)[i]);
}

/* An integer matrix as the loops below want it. */
struct view {
    const struct infer_pack_info *info;
    struct infer_panel_layout at;
    size_t k;
};

/* Scale and minimum of block b, row i. */
static float scales_at(const struct view *w, const uint8_t *panel, size_t b,
                       size_t i, float *min)
{
    const struct infer_pack_info *info = w->info;
    const struct infer_panel_layout at = w->at;

    if (!info->k) {
        *min =
            info->mins ? half_at(panel + at.mins, b * INFER_PANEL + i) : 0.0f;
        return half_at(panel + at.scales, b * INFER_PANEL + i);
    }
    const size_t subs = INFER_K_BLOCK / info->block;
    const uint8_t *k = panel + at.scales + b / subs * at.k_bytes;
    const uint8_t *scales = k + (info->mins ? 2 : 1) * INFER_PANEL * 2;
    const uint8_t *mins = scales + subs * INFER_PANEL;
    const size_t at_sub = b % subs * INFER_PANEL + i;

    *min = info->mins ? -(half_at(k, INFER_PANEL + i) * (float)mins[at_sub])
                      : 0.0f;
    return half_at(k, i) * (float)(int8_t)scales[at_sub];
}

static float dot_int(const struct view *w, const uint8_t *panel,
                     const struct infer_act_block *x, size_t i)
{
    const struct infer_pack_info *info = w->info;
    const int zero = info->mins ? 0 : 1 << (info->bits - 1);
    float sum = 0.0f;

    for (size_t b = 0; b < w->k / info->block; b++) {
        const size_t k0 = b * info->block;
        const struct infer_act_block *xb = x + k0 / INFER_ACT_BLOCK;
        const int8_t *q = xb->q + k0 % INFER_ACT_BLOCK;
        const float xsum =
            info->block == 32 ? xb->wsum : xb->scale * (float)xb->sum[b % 2];
        int32_t dot = 0; /* exact: |dot| <= 32 * 255 * 127 */
        float min, scale = scales_at(w, panel, b, i, &min);

        for (size_t k = 0; k < info->block; k++)
            dot += (quant_at(panel, info->bits, k0 + k, i) - zero) * q[k];
        sum += (float)dot * (scale * xb->scale);
        if (info->mins)
            sum += min * xsum;
    }
    return sum;
}

static void gemm_int(float *y, size_t ldy, const struct infer_packed *w,
                     const struct infer_act *x, size_t t0, size_t t1, size_t p0,
                     size_t p1)
{
    const struct view view = {.info = &infer_pack_info[w->kind],
                              .at = infer_pack_layout(w->kind, w->k),
                              .k = w->k};

    for (size_t t = t0; t < t1; t++) {
        const struct infer_act_block *row =
            (const void *)(x->data + t * x->stride);

        for (size_t p = p0; p < p1; p++)
            for (size_t i = 0; i < INFER_PANEL; i++)
                y[(t - t0) * ldy + (p - p0) * INFER_PANEL + i] =
                    dot_int(&view, w->data + p * w->panel_bytes, row, i);
    }
}

static float dot_float(const struct infer_packed *w, const uint8_t *panel,
                       const uint8_t *x, size_t i)
{
    const float *w32 = (const void *)panel, *x32 = (const void *)x;
    const uint16_t *w16 = (const void *)panel, *x16 = (const void *)x;
    float sum = 0.0f;

    for (size_t k = 0; k < w->k; k++) {
        if (w->kind == INFER_PACK_F32)
            sum += w32[k * INFER_PANEL + i] * x32[k];
        else if (w->kind == INFER_PACK_F16)
            sum += infer_f16_to_f32(w16[k * INFER_PANEL + i]) * x32[k];
        else
            sum += infer_bf16_to_f32(
                       w16[k / 2 * 2 * INFER_PANEL + i * 2 + k % 2]) *
                   infer_bf16_to_f32(x16[k]);
    }
    return sum;
}

static void gemm_float(float *y, size_t ldy, const struct infer_packed *w,
                       const struct infer_act *x, size_t t0, size_t t1,
                       size_t p0, size_t p1)
{
    for (size_t t = t0; t < t1; t++)
        for (size_t p = p0; p < p1; p++)
            for (size_t i = 0; i < INFER_PANEL; i++)
                y[(t - t0) * ldy + (p - p0) * INFER_PANEL + i] =
                    dot_float(w, w->data + p * w->panel_bytes,
                              x->data + t * x->stride, i);
}

void infer_kernels_scalar_gemm(struct infer_kernels *k)
{
    for (int i = 0; i < INFER_PACK_COUNT; i++)
        k->gemm[i] = infer_pack_info[i].block ? gemm_int : gemm_float;
}
