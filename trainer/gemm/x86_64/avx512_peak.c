/* avx512_peak.c - the rate of FMA, 16 numbers a time; see peak.inc.h. */
#include "trainer/gemm/peak.h"

#include "core/kernels/x86_64/unroll.h"

#include <immintrin.h>

#define PEAK_VECTOR     __m512
#define PEAK_OP(sum, x) _mm512_fmadd_ps(x, x, sum)
#define PEAK_OPS        32
#define PEAK_NAME       train_peak_avx512

#include "trainer/gemm/x86_64/peak.inc.h"
