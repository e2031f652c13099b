/* blas.h - f32 products through OpenBLAS, on one thread each. */
#ifndef TRAINER_GEMM_BLAS_H
#define TRAINER_GEMM_BLAS_H

#include "trainer/gemm/gemm.h"

/* Once, before the first product: no threads of its own. */
void train_blas_init(void);

/* Part `id` of `n` of the product: rows or columns of C, whichever are more. */
void train_blas_part(const struct train_product *p, int id, int n);

#endif
