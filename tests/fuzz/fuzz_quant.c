/*
 * fuzz_quant.c - libFuzzer over the quantizers: any floats, any importances.
 *
 * They either refuse or make blocks with finite scales, without undefined
 * conversions on the way (that is UBSan's to say).
 */
#include "core/format/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N = 256 };

static void check(uint32_t type, const float *x, const float *weight)
{
    static _Alignas(32) uint8_t blocks[N * 4];
    float y[N];

    if (infer_quantize(type, x, blocks, N, weight, NULL))
        return;
    infer_dequantize(type, blocks, y, N);
    if (!infer_quant_finite(INFER_F32, y, N))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float x[N] = {0}, weight[N];

    if (size > sizeof(x))
        size = sizeof(x);
    memcpy(x, data, size);
    for (int i = 0; i < N; i++)
        weight[i] = isfinite(x[N - 1 - i]) ? fabsf(x[N - 1 - i]) : 0.0f;
    for (uint32_t type = 0; type <= INFER_BF16; type++) {
        check(type, x, NULL);
        check(type, x, weight);
    }
    return 0;
}
