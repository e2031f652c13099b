/*
 * quantize_k.h - quantizers of the K formats, private to quantize.c.
 *
 * One block of 256 values; w [256] is the importance of each.
 */
#ifndef INFER_FORMAT_QUANTIZE_K_H
#define INFER_FORMAT_QUANTIZE_K_H

#include "core/format/quant.h"

void infer_quantize_q4_k(const float *x, const float *w,
                         struct infer_block_q4_k *b);
void infer_quantize_q5_k(const float *x, const float *w,
                         struct infer_block_q5_k *b);
void infer_quantize_q6_k(const float *x, const float *w,
                         struct infer_block_q6_k *b);

#endif
