/* avx512bf16_peak.c - the rate of vdpbf16ps, 16 pairs a time; see peak.inc.h.
 */
#include "trainer/gemm/peak.h"

#include "core/kernels/x86_64/unroll.h"

#include <immintrin.h>

#define PEAK_VECTOR     __m512
#define PEAK_OP(sum, x) _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)x)
#define PEAK_OPS        64
#define PEAK_NAME       train_peak_avx512bf16

#include "trainer/gemm/x86_64/peak.inc.h"
