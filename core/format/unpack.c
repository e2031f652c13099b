/*
 * unpack.c - the bit layouts of ggml's quantized blocks, read 32 at a time.
 *
 * Formats of 32 store the first 16 weights in low nibbles and the second 16 in
 * high ones. The K formats hold 256 weights with 6-bit (or 4-bit) scales of
 * their own; sub-block j of 32 is in half j / 4, where four sub-blocks share
 * bytes and take different bits of them.
 */
#include "core/format/unpack.h"

#include "core/base/half.h"

static void set_scale(struct infer_unpacked *o, int zero, float scale,
                      float min)
{
    o->zero = zero;
    o->scale[0] = o->scale[1] = scale;
    o->min[0] = o->min[1] = min;
}

/* Scales of a K block's part; sub_scale and sub_min are set. */
static void set_k_scales(struct infer_unpacked *o, int zero, uint16_t d,
                         uint16_t dmin)
{
    o->zero = zero;
    o->d = d;
    o->dmin = dmin;
    for (int h = 0; h < 2; h++) {
        o->scale[h] = infer_f16_to_f32(d) * (float)o->sub_scale[h];
        o->min[h] = -(infer_f16_to_f32(dmin) * (float)o->sub_min[h]);
    }
}

static void nibbles(uint8_t u[32], const uint8_t *qs)
{
    for (int i = 0; i < 16; i++) {
        u[i] = qs[i] & 15;
        u[i + 16] = qs[i] >> 4;
    }
}

static void add_fifth_bit(uint8_t u[32], const uint8_t qh[4])
{
    for (int i = 0; i < 32; i++)
        u[i] = (uint8_t)(u[i] | ((qh[i / 8] >> (i % 8)) & 1) << 4);
}

static void add_all(uint8_t u[32], int by)
{
    for (int i = 0; i < 32; i++)
        u[i] = (uint8_t)(u[i] + by);
}

static void unpack_q4_0(const struct infer_block_q4_0 *b,
                        struct infer_unpacked *o)
{
    nibbles(o->u, b->qs);
    set_scale(o, 8, infer_f16_to_f32(b->d), 0.0f);
}

static void unpack_q4_1(const struct infer_block_q4_1 *b,
                        struct infer_unpacked *o)
{
    nibbles(o->u, b->qs);
    set_scale(o, 0, infer_f16_to_f32(b->d), infer_f16_to_f32(b->m));
}

static void unpack_q5_0(const struct infer_block_q5_0 *b,
                        struct infer_unpacked *o)
{
    nibbles(o->u, b->qs);
    add_fifth_bit(o->u, b->qh);
    add_all(o->u, 128 - 16);
    set_scale(o, 128, infer_f16_to_f32(b->d), 0.0f);
}

static void unpack_q5_1(const struct infer_block_q5_1 *b,
                        struct infer_unpacked *o)
{
    nibbles(o->u, b->qs);
    add_fifth_bit(o->u, b->qh);
    set_scale(o, 0, infer_f16_to_f32(b->d), infer_f16_to_f32(b->m));
}

static void unpack_q8_0(const struct infer_block_q8_0 *b,
                        struct infer_unpacked *o)
{
    for (int i = 0; i < 32; i++)
        o->u[i] = (uint8_t)(b->qs[i] ^ -128);
    set_scale(o, 128, infer_f16_to_f32(b->d), 0.0f);
}

static void unpack_iq4_nl(const struct infer_block_iq4_nl *b,
                          struct infer_unpacked *o)
{
    nibbles(o->u, b->qs);
    for (int i = 0; i < 32; i++)
        o->u[i] = (uint8_t)(infer_iq4_nl_values[o->u[i]] + 128);
    set_scale(o, 128, infer_f16_to_f32(b->d), 0.0f);
}

static void unpack_q2_k(const struct infer_block_q2_k *b, int j,
                        struct infer_unpacked *o)
{
    const uint8_t *qs = b->qs + j / 4 * 32;

    for (int i = 0; i < 32; i++)
        o->u[i] = (qs[i] >> (2 * (j % 4))) & 3;
    for (int h = 0; h < 2; h++) {
        o->sub_scale[h] = b->scales[2 * j + h] & 15;
        o->sub_min[h] = b->scales[2 * j + h] >> 4;
    }
    set_k_scales(o, 0, b->d, b->dmin);
}

/* Scale i of 16: low 4 bits in byte i % 8, high 2 bits in byte 8 + i % 4. */
static int q3_k_scale(const uint8_t s[12], int i)
{
    const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;

    return (low | ((s[8 + i % 4] >> (2 * (i / 4))) & 3) << 4) - 32;
}

static void unpack_q3_k(const struct infer_block_q3_k *b, int j,
                        struct infer_unpacked *o)
{
    const uint8_t *qs = b->qs + j / 4 * 32;

    for (int i = 0; i < 32; i++) {
        const int low = (qs[i] >> (2 * (j % 4))) & 3;
        const int high = (b->hmask[i] >> j) & 1;

        o->u[i] = (uint8_t)(128 + low - (high ? 0 : 4));
    }
    for (int h = 0; h < 2; h++) {
        o->sub_scale[h] = (int8_t)q3_k_scale(b->scales, 2 * j + h);
        o->sub_min[h] = 0;
    }
    set_k_scales(o, 128, b->d, 0);
}

static void k_scale(struct infer_unpacked *o, uint16_t d, uint16_t dmin,
                    const uint8_t scales[12], int j)
{
    uint8_t scale, min;

    infer_k_scale_min(scales, j, &scale, &min);
    o->sub_scale[0] = o->sub_scale[1] = (int8_t)scale;
    o->sub_min[0] = o->sub_min[1] = min;
    set_k_scales(o, 0, d, dmin);
}

static void unpack_q4_k(const struct infer_block_q4_k *b, int j,
                        struct infer_unpacked *o)
{
    const uint8_t *qs = b->qs + j / 2 * 32;

    for (int i = 0; i < 32; i++)
        o->u[i] = j % 2 ? qs[i] >> 4 : qs[i] & 15;
    k_scale(o, b->d, b->dmin, b->scales, j);
}

static void unpack_q5_k(const struct infer_block_q5_k *b, int j,
                        struct infer_unpacked *o)
{
    const uint8_t *qs = b->qs + j / 2 * 32;

    for (int i = 0; i < 32; i++) {
        const int low = j % 2 ? qs[i] >> 4 : qs[i] & 15;

        o->u[i] = (uint8_t)(low | ((b->qh[i] >> j) & 1) << 4);
    }
    k_scale(o, b->d, b->dmin, b->scales, j);
}

static void unpack_q6_k(const struct infer_block_q6_k *b, int j,
                        struct infer_unpacked *o)
{
    const uint8_t *ql = b->ql + j / 4 * 64 + j % 2 * 32;
    const uint8_t *qh = b->qh + j / 4 * 32;

    for (int i = 0; i < 32; i++) {
        const int low = j % 4 < 2 ? ql[i] & 15 : ql[i] >> 4;
        const int high = (qh[i] >> (2 * (j % 4))) & 3;

        o->u[i] = (uint8_t)(128 - 32 + (low | high << 4));
    }
    for (int h = 0; h < 2; h++) {
        o->sub_scale[h] = b->scales[2 * j + h];
        o->sub_min[h] = 0;
    }
    set_k_scales(o, 128, b->d, 0);
}

void infer_unpack32(uint32_t type, const void *row, size_t i,
                    struct infer_unpacked *out)
{
    const struct infer_qtype_info *info = infer_qtype_info(type);
    const size_t per_block = info->block / 32u;
    const void *b =
        (const uint8_t *)row + i / per_block * (size_t)info->block_bytes;
    const int j = (int)(i % per_block);

    switch ((enum infer_qtype)type) {
    case INFER_Q4_0:
        unpack_q4_0(b, out);
        break;
    case INFER_Q4_1:
        unpack_q4_1(b, out);
        break;
    case INFER_Q5_0:
        unpack_q5_0(b, out);
        break;
    case INFER_Q5_1:
        unpack_q5_1(b, out);
        break;
    case INFER_Q8_0:
        unpack_q8_0(b, out);
        break;
    case INFER_IQ4_NL:
        unpack_iq4_nl(b, out);
        break;
    case INFER_Q2_K:
        unpack_q2_k(b, j, out);
        break;
    case INFER_Q3_K:
        unpack_q3_k(b, j, out);
        break;
    case INFER_Q4_K:
        unpack_q4_k(b, j, out);
        break;
    case INFER_Q5_K:
        unpack_q5_k(b, j, out);
        break;
    case INFER_Q6_K:
        unpack_q6_k(b, j, out);
        break;
    case INFER_F32:
    case INFER_F16:
    case INFER_BF16:
        break; /* not blocks; never asked for */
    }
}
