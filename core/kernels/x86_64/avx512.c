/* avx512.c - row operations and attention with 512-bit vectors. */
#include "core/kernels/kernels.h"

#include "core/kernels/x86_64/unroll.h"
#include "core/kernels/x86_64/vec512.h"

#include <float.h>
#include <math.h>

#include "core/kernels/x86_64/ops.inc.h"

#include "core/kernels/x86_64/attention.inc.h"

void infer_kernels_avx512(struct infer_kernels *k)
{
    k->name = "avx512vnni";
    k->cpu |= INFER_CPU_AVX512VNNI;
    infer_kernels_avx512_gemm(k);
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
