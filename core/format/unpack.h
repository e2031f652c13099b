/*
 * unpack.h - 32 weights of any block format in one common form.
 *
 * Every quantized format of quant.h is, 32 weights at a time,
 *     w[i] = scale[i / 16] * (u[i] - zero) + min[i / 16]
 * with unsigned u. The packer lays these out for the kernels.
 */
#ifndef INFER_FORMAT_UNPACK_H
#define INFER_FORMAT_UNPACK_H

#include "core/format/quant.h"

struct infer_unpacked {
    uint8_t u[32];
    int zero;       /* 0, 8 or 128 */
    float scale[2]; /* of the first and the second 16 */
    float min[2];
    /* K formats: scale = d * sub_scale and min = -dmin * sub_min, with the
     * halves d and dmin shared by 256 weights */
    uint16_t d, dmin;
    int8_t sub_scale[2];
    uint8_t sub_min[2];
};

/* Weights 32 i .. 32 i + 31 of a row of blocks of a quantized type. */
void infer_unpack32(uint32_t type, const void *row, size_t i,
                    struct infer_unpacked *out);

#endif
