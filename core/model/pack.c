/*
 * pack.c - repack a tensor's rows into panels of 16.
 *
 * Done once, at load: a panel interleaves 16 rows so that a register holds the
 * same inputs of 16 outputs. Integer formats all come through
 * infer_unpack32(), so this file knows panels and nothing about bit layouts.
 */
#include "core/model/pack.h"

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/format/unpack.h"

#include <math.h>
#include <string.h>

enum infer_pack infer_pack_kind(uint32_t qtype)
{
    switch ((enum infer_qtype)qtype) {
    case INFER_F32:
        return INFER_PACK_F32;
    case INFER_F16:
        return INFER_PACK_F16;
    case INFER_BF16:
        return INFER_PACK_BF16;
    case INFER_Q8_0:
    case INFER_Q5_0:
    case INFER_IQ4_NL:
        return INFER_PACK_I8;
    case INFER_Q5_1:
        return INFER_PACK_I8_MIN;
    case INFER_Q4_0:
        return INFER_PACK_I4;
    case INFER_Q4_1:
        return INFER_PACK_I4_MIN;
    case INFER_Q4_K:
        return INFER_PACK_I4_K;
    case INFER_Q5_K:
        return INFER_PACK_I8_K;
    case INFER_Q6_K:
    case INFER_Q3_K:
        return INFER_PACK_I8_K16;
    case INFER_Q2_K:
        return INFER_PACK_I8_K16MIN;
    }
    return INFER_PACK_COUNT;
}

size_t infer_pack_bytes(uint32_t qtype, size_t n, size_t k)
{
    return (n + INFER_PANEL - 1) / INFER_PANEL *
           infer_pack_layout(infer_pack_kind(qtype), k).bytes;
}

/* 32 quants of row r, block b. */
static void put_quants(uint8_t *panel, int bits, size_t b, size_t r,
                       const uint8_t u[32])
{
    if (bits == 8) {
        for (size_t j = 0; j < 8; j++)
            memcpy(panel + b * 512 + j * 64 + r * 4, u + 4 * j, 4);
        return;
    }
    for (size_t k = 0; k < 16; k++)
        panel[b * 256 + k / 4 * 64 + r * 4 + k % 4] =
            (uint8_t)(u[k] | u[k + 16] << 4);
}

static void put_half(uint8_t *p, size_t i, uint16_t h)
{
    ((uint16_t *)(void *)p)[i] = h;
}

/* Scales of block b, row r (layout: kernels.h). */
static void put_scales(uint8_t *panel, const struct infer_pack_info *info,
                       struct infer_panel_layout at, size_t b, size_t r,
                       const struct infer_unpacked *u)
{
    const size_t n = 32u / info->block;

    if (!info->k) {
        put_half(panel + at.scales, b * INFER_PANEL + r,
                 infer_f32_to_f16(u->scale[0]));
        if (info->mins)
            put_half(panel + at.mins, b * INFER_PANEL + r,
                     infer_f32_to_f16(u->min[0]));
        return;
    }
    uint8_t *k = panel + at.scales + b / 8 * at.k_bytes;
    uint8_t *scales = k + (info->mins ? 2 : 1) * INFER_PANEL * 2;

    put_half(k, r, u->d);
    if (info->mins)
        put_half(k, INFER_PANEL + r, u->dmin);
    for (size_t s = 0; s < n; s++) {
        const size_t i = (b % 8 * n + s) * INFER_PANEL + r;

        scales[i] = (uint8_t)u->sub_scale[s];
        if (info->mins)
            scales[8 * n * INFER_PANEL + i] = u->sub_min[s];
    }
}

static void pack_int_row(uint8_t *panel, const struct infer_packed *w, size_t r,
                         uint32_t type, const uint8_t *row)
{
    const struct infer_pack_info *info = &infer_pack_info[w->kind];
    const struct infer_panel_layout at = infer_pack_layout(w->kind, w->k);

    for (size_t b = 0; b < w->k / 32; b++) {
        struct infer_unpacked u;

        infer_unpack32(type, row, b, &u);
        put_quants(panel, info->bits, b, r, u.u);
        put_scales(panel, info, at, b, r, &u);
    }
}

static void pack_float_row(uint8_t *panel, const struct infer_packed *w,
                           size_t r, uint32_t type, const uint8_t *row)
{
    if (type == INFER_F32) {
        for (size_t k = 0; k < w->k; k++)
            memcpy(panel + (k * INFER_PANEL + r) * 4, row + k * 4, 4);
    } else {
        const bool pairs = type == INFER_BF16;

        for (size_t k = 0; k < w->k; k++) {
            const size_t i = pairs ? k / 2 * 2 * INFER_PANEL + r * 2 + k % 2
                                   : k * INFER_PANEL + r;

            memcpy(panel + i * 2, row + k * 2, 2);
        }
    }
}

int infer_pack_rows(struct infer_packed *w, uint8_t *data,
                    const struct infer_gguf_tensor *t, size_t row0, size_t n,
                    struct infer_error *err)
{
    const size_t k = t->dims[0];
    const size_t row_bytes = infer_qtype_bytes(t->type, k);
    const enum infer_pack kind = infer_pack_kind(t->type);

    *w = (struct infer_packed){
        .kind = kind,
        .n = (uint32_t)n,
        .k = (uint32_t)k,
        .n_panels = (uint32_t)((n + INFER_PANEL - 1) / INFER_PANEL),
        .panel_bytes = infer_pack_layout(kind, k).bytes,
        .data = data,
    };
    for (size_t i = 0; i < n; i++) {
        uint8_t *panel = data + i / INFER_PANEL * w->panel_bytes;
        const uint8_t *row = (const uint8_t *)t->data + (row0 + i) * row_bytes;

        if (infer_pack_info[kind].block)
            pack_int_row(panel, w, i % INFER_PANEL, t->type, row);
        else
            pack_float_row(panel, w, i % INFER_PANEL, t->type, row);
        if (!infer_quant_finite(t->type, row, k))
            return infer_fail(err, INFER_EFORMAT,
                              "tensor '%s', row %zu: a value is not finite",
                              t->name, row0 + i);
    }
    return INFER_OK;
}
