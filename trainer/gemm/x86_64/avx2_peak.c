/* avx2_peak.c - the rate of FMA, 8 numbers a time; see peak.inc.h. */
#include "trainer/gemm/peak.h"

#include "core/kernels/x86_64/unroll.h"

#include <immintrin.h>

#define PEAK_VECTOR     __m256
#define PEAK_OP(sum, x) _mm256_fmadd_ps(x, x, sum)
#define PEAK_OPS        16
#define PEAK_NAME       train_peak_avx2

#include "trainer/gemm/x86_64/peak.inc.h"
