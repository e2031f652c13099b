/*
 * quant.c - the table of block formats, and their values as floats.
 *
 * The bit layouts are unpack.c's alone; here its common form becomes floats in
 * ggml's order of operations: one product, and one sum where the format has
 * minimums. (A sum with 0 elsewhere would turn -0 into 0, hence has_min.)
 * Nothing in a serving loop needs this to be fast: an embedding row a token.
 */
#include "core/format/quant.h"

#include "core/base/half.h"
#include "core/format/unpack.h"

#include <strings.h>

/* Blocks are read in place: they must be what the file has, byte for byte. */
#define PACKED(name, bytes)                                                    \
    _Static_assert(sizeof(struct infer_block_##name) == (bytes),               \
                   "padding in infer_block_" #name)
PACKED(q4_0, 18);
PACKED(q4_1, 20);
PACKED(q5_0, 22);
PACKED(q5_1, 24);
PACKED(q8_0, 34);
PACKED(iq4_nl, 18);
PACKED(q2_k, 84);
PACKED(q3_k, 110);
PACKED(q4_k, 144);
PACKED(q5_k, 176);
PACKED(q6_k, 210);

#define BLOCK(name, n, type)                                                   \
    {                                                                          \
        name, n, sizeof(struct infer_block_##type)                             \
    }
static const struct infer_qtype_info types[] = {
    [INFER_F32] = {"F32", 1, 4},
    [INFER_F16] = {"F16", 1, 2},
    [INFER_BF16] = {"BF16", 1, 2},
    [INFER_Q4_0] = BLOCK("Q4_0", 32, q4_0),
    [INFER_Q4_1] = BLOCK("Q4_1", 32, q4_1),
    [INFER_Q5_0] = BLOCK("Q5_0", 32, q5_0),
    [INFER_Q5_1] = BLOCK("Q5_1", 32, q5_1),
    [INFER_Q8_0] = BLOCK("Q8_0", 32, q8_0),
    [INFER_Q2_K] = BLOCK("Q2_K", 256, q2_k),
    [INFER_Q3_K] = BLOCK("Q3_K", 256, q3_k),
    [INFER_Q4_K] = BLOCK("Q4_K", 256, q4_k),
    [INFER_Q5_K] = BLOCK("Q5_K", 256, q5_k),
    [INFER_Q6_K] = BLOCK("Q6_K", 256, q6_k),
    [INFER_IQ4_NL] = BLOCK("IQ4_NL", 32, iq4_nl),
};
enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

const int8_t infer_iq4_nl_values[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const struct infer_qtype_info *infer_qtype_info(uint32_t type)
{
    return type < N_TYPES && types[type].name ? &types[type] : NULL;
}

int infer_qtype_parse(const char *name)
{
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].name && strcasecmp(types[i].name, name) == 0)
            return i;
    return -1;
}

size_t infer_qtype_bytes(uint32_t type, size_t n)
{
    return n / types[type].block * types[type].block_bytes;
}

/* Bytes 0..3 scales, 4..7 minimums of sub-blocks 0..3, 6 bits each; their top
 * two bits belong to sub-blocks 4..7, whose low four are in bytes 8..11. */
void infer_k_scale_min(const uint8_t s[12], int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *min = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

/* ---- values -------------------------------------------------------------- */

static bool has_min(uint32_t type)
{
    return type == INFER_Q4_1 || type == INFER_Q5_1 || type == INFER_Q2_K ||
           type == INFER_Q4_K || type == INFER_Q5_K;
}

static void dequantize_blocks(uint32_t type, const void *src, float *dst,
                              size_t n)
{
    struct infer_unpacked u;

    for (size_t i = 0; i < n / 32; i++) {
        infer_unpack32(type, src, i, &u);
        for (int j = 0; j < 32; j++, dst++) {
            *dst = u.scale[j / 16] * (float)(u.u[j] - u.zero);
            if (has_min(type))
                *dst += u.min[j / 16];
        }
    }
}

void infer_dequantize(uint32_t type, const void *src, float *dst, size_t n)
{
    const uint16_t *h = src;

    switch ((enum infer_qtype)type) {
    case INFER_F32:
        memcpy(dst, src, n * sizeof(float));
        break;
    case INFER_F16:
        for (size_t i = 0; i < n; i++)
            dst[i] = infer_f16_to_f32(h[i]);
        break;
    case INFER_BF16:
        for (size_t i = 0; i < n; i++)
            dst[i] = infer_bf16_to_f32(h[i]);
        break;
    default:
        dequantize_blocks(type, src, dst, n);
        break;
    }
}

/* ---- are they finite? ---------------------------------------------------- */

static bool f32_finite(const uint8_t *p, size_t n)
{
    uint32_t bad = 0; /* no early exit: the loop vectorizes */

    for (size_t i = 0; i < n; i++) {
        uint32_t u;

        memcpy(&u, p + 4 * i, sizeof(u));
        bad |= (u & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

/* n halves or pairs of halves, stride bytes apart. */
static bool halves_finite(const uint8_t *p, size_t stride, size_t n, bool pair,
                          uint32_t exponent)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++, p += stride) {
        uint16_t h[2] = {0, 0};

        memcpy(h, p, pair ? sizeof(h) : sizeof(h[0]));
        bad |= (h[0] & exponent) == exponent;
        bad |= (h[1] & exponent) == exponent;
    }
    return !bad;
}

bool infer_quant_finite(uint32_t type, const void *src, size_t n)
{
    enum { F16_EXP = 0x7c00, BF16_EXP = 0x7f80 };
    const uint8_t *p = src;
    const size_t stride = types[type].block_bytes;
    const size_t blocks = n / types[type].block;

    switch ((enum infer_qtype)type) {
    case INFER_F32:
        return f32_finite(p, n);
    case INFER_BF16:
        return halves_finite(p, stride, n, false, BF16_EXP);
    case INFER_F16:
    case INFER_Q4_0:
    case INFER_Q5_0:
    case INFER_Q8_0:
    case INFER_IQ4_NL:
        return halves_finite(p, stride, blocks, false, F16_EXP);
    case INFER_Q4_1:
    case INFER_Q5_1:
    case INFER_Q4_K:
    case INFER_Q5_K:
        return halves_finite(p, stride, blocks, true, F16_EXP);
    case INFER_Q2_K:
        return halves_finite(p + offsetof(struct infer_block_q2_k, d), stride,
                             blocks, true, F16_EXP);
    case INFER_Q3_K:
        return halves_finite(p + offsetof(struct infer_block_q3_k, d), stride,
                             blocks, false, F16_EXP);
    case INFER_Q6_K:
        return halves_finite(p + offsetof(struct infer_block_q6_k, d), stride,
                             blocks, false, F16_EXP);
    }
    return false;
}
