/* layers.inc.h - all layers and the table of them, for one instruction set. */
#include "trainer/nn/vec.inc.h"

#include "trainer/nn/layers_norm.inc.h"

#include "trainer/nn/layers_act.inc.h"

#include "trainer/nn/layers_attention_mm.inc.h"

#include "trainer/nn/layers_attention.inc.h"

#include "trainer/nn/layers_loss.inc.h"

#include "trainer/nn/layers_heads.inc.h"

#include "trainer/nn/layers_optim.inc.h"

static const struct nn_layers layers_table = {
    .name = sizeof(real) == sizeof(double) ? "double"
            : VEC_BYTES == 64              ? "avx512"
            : VEC_BYTES == 32              ? "avx2"
                                           : "plain",
    .rmsnorm = rmsnorm,
    .rmsnorm_back = rmsnorm_back,
    .layernorm = layernorm,
    .layernorm_back = layernorm_back,
    .add_bias = add_bias,
    .add_bias_back = add_bias_back,
    .residual = residual,
    .dropout = dropout,
    .swiglu = swiglu,
    .swiglu_back = swiglu_back,
    .gelu = gelu,
    .gelu_back = gelu_back,
    .relu2 = relu2,
    .relu2_back = relu2_back,
    .embed = embed,
    .embed_back = embed_back,
    .rope = rope,
    .rope_back = rope_back,
    .attention = attention,
    .attention_back = attention_back,
    .attention_scratch = attention_scratch,
    .cross_entropy = cross_entropy,
    .unit = unit,
    .unit_back = unit_back,
    .binary = binary,
    .squares = squares,
    .pair_order = pair_order,
    .sgd = sgd,
    .adam = adam,
    .nesterov = nesterov,
    .widen = widen,
    .narrow = narrow,
    .blend = blend,
    .sum_squares = sum_squares,
};
