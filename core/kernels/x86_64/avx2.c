/* avx2.c - row operations and attention with 256-bit vectors. */
#include "core/kernels/kernels.h"

#include "core/kernels/x86_64/unroll.h"
#include "core/kernels/x86_64/vec256.h"

#include <float.h>
#include <math.h>

#include "core/kernels/x86_64/ops.inc.h"

#include "core/kernels/x86_64/attention.inc.h"

void infer_kernels_avx2(struct infer_kernels *k)
{
    k->name = "avx2";
    k->cpu |= INFER_CPU_AVX2;
    infer_kernels_avx2_gemm(k);
    k->quantize_act = quantize_act;
    k->quantize_act_k = quantize_act_k;
    k->rmsnorm = rmsnorm;
    k->layernorm = layernorm;
    k->add = add;
    k->silu_mul = silu_mul;
    k->gelu = gelu;
    k->rope = rope;
    k->kv_store = kv_store;
    k->attention = attention;
    k->exp_sum = exp_sum;
    k->argmax = argmax;
}
