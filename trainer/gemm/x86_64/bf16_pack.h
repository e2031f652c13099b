/* bf16_pack.h - the packing functions of AVX-512 BF16; see bf16.h. */
#ifndef TRAINER_GEMM_BF16_PACK_H
#define TRAINER_GEMM_BF16_PACK_H

#include "trainer/gemm/bf16.h"

bf16_pack_fn train_bf16_along, train_bf16_across;

/* Tiles of A as AMX wants them. */
bf16_rows_fn train_bf16_rows_along, train_bf16_rows_across;

bf16_sums_fn train_bf16_sums;

#endif
