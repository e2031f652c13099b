/*
 * quant.h - the block formats that weights have in files.
 *
 * These are ggml's formats, bit for bit: what a file holds. How the kernels
 * want weights in memory is kernels.h (packed panels); core/model/pack.c goes
 * from one to the other.
 *
 * Reference  ggml's block_* structures; checked against shared oracle files.
 */
#ifndef INFER_FORMAT_QUANT_H
#define INFER_FORMAT_QUANT_H

#include "infer.h"

/* ggml's numbers. */
enum infer_qtype {
    INFER_F32 = 0,
    INFER_F16 = 1,
    INFER_Q4_0 = 2,
    INFER_Q4_1 = 3,
    INFER_Q5_0 = 6,
    INFER_Q5_1 = 7,
    INFER_Q8_0 = 8,
    INFER_Q2_K = 10,
    INFER_Q3_K = 11,
    INFER_Q4_K = 12,
    INFER_Q5_K = 13,
    INFER_Q6_K = 14,
    INFER_IQ4_NL = 20,
    INFER_BF16 = 30
};

/* Blocks as they lie in a file, of 32 values each, the K formats of 256. d, m
 * and dmin are IEEE binary16, little-endian; unpack.c has the layouts. */
struct infer_block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};
struct infer_block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};
struct infer_block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct infer_block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct infer_block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};
struct infer_block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};
struct infer_block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};
struct infer_block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};
struct infer_block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};
struct infer_block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
struct infer_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};

/* The 16 values of IQ4_NL, in 1/127 of the block's largest. */
extern const int8_t infer_iq4_nl_values[16];

/* 6-bit scale and minimum j (0..7) of a Q4_K or Q5_K block's packed scales. */
void infer_k_scale_min(const uint8_t scales[12], int j, uint8_t *scale,
                       uint8_t *min);

/* Everything that depends on a type alone. */
struct infer_qtype_info {
    const char *name; /* "Q8_0" */
    uint32_t block;   /* values per block */
    uint32_t block_bytes;
};

/* NULL: a type this engine does not know. */
const struct infer_qtype_info *infer_qtype_info(uint32_t type);

/* "q8_0" (any case) → type, -1: unknown. */
int infer_qtype_parse(const char *name);

/* Bytes of n values; n must be whole blocks. */
size_t infer_qtype_bytes(uint32_t type, size_t n);

/*
 * Values of n (whole blocks) weights: ggml's dequantize_row, bit for bit.
 *   src   [n / block] blocks   in, aligned to 2 bytes
 *   dst   [n]                  out
 */
void infer_dequantize(uint32_t type, const void *src, float *dst, size_t n);

/*
 * Blocks of n (whole blocks) values. Formats of 32 by ggml's reference rounding
 * where weight is NULL; with it, and for the K formats, the least squared error
 * that a search finds (about 70 ns a value).
 *   dst     [n / block] blocks, aligned to 2 bytes   out
 *   weight  [n] or NULL   in   importance of each value, finite and not
 *                              negative (mean squared activations)
 * Errors  EUNSUPPORTED (no quantizer for type), EINVAL (a value is not finite,
 *         or too large for the type)
 */
int infer_quantize(uint32_t type, const float *src, void *dst, size_t n,
                   const float *weight, struct infer_error *err);

/* Is every scale of these blocks finite? Floats: is every value? */
bool infer_quant_finite(uint32_t type, const void *src, size_t n);

#endif
