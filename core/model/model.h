/*
 * model.h - a loaded decoder: hyper-parameters, packed weights, tokenizer.
 *
 * Architectures are rows of one table (arch.c): which norm, which positions,
 * which feed-forward. The forward pass reads switches, never names. All is
 * proved at load, so that afterwards nothing is distrusted again.
 */
#ifndef INFER_MODEL_H
#define INFER_MODEL_H

#include "core/format/gguf.h"
#include "core/format/quant.h"
#include "core/kernels/kernels.h"
#include "core/tokenizer/tokenizer.h"

enum infer_norm { INFER_NORM_RMS, INFER_NORM_LAYER };
enum infer_positions { INFER_POS_ROPE_PAIRS, INFER_POS_ROPE_HALVES, INFER_POS_LEARNED };
enum infer_ffn { INFER_FFN_SILU_GATED, INFER_FFN_GELU };

/* What an architecture name means. */
struct infer_arch {
    const char *name; /* general.architecture, and the prefix of its keys */
    enum infer_norm norm;
    enum infer_positions positions;
    enum infer_ffn ffn;
    bool qkv_bias;  /* bias tensors of q, k, v must be there (else: may not) */
    bool out_bias;  /* of the attention output and the feed-forward */
    bool fused_qkv; /* one attn_qkv tensor in the file */
    bool qk_norm;   /* rmsnorm of each q and k head */
};

const struct infer_arch *infer_arch_find(struct infer_gguf_str name);

struct infer_hparams {
    const struct infer_arch *arch;
    uint32_t n_vocab, n_ctx, n_layers, n_heads, n_kv_heads;
    uint32_t d_model, d_head, d_ff;
    uint32_t n_rot;       /* rotated values of a head */
    float norm_eps;
    /* rope scaling: none, linear or yarn; llama3 comes as rope_freqs tensor */
    float rope_base;
    float rope_scale;     /* 1 / factor; 1: none */
    bool yarn;
    float yarn_orig_ctx, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
};

/* A matrix and its optional bias. w.data NULL: absent. */
struct infer_linear {
    struct infer_packed w;
    const float *bias; /* [n_panels * 16] or NULL */
};

struct infer_layer {
    const float *attn_norm, *attn_norm_bias; /* [D]; bias NULL for RMS */
    const float *ffn_norm, *ffn_norm_bias;
    const float *q_norm, *k_norm; /* [K] or NULL */
    struct infer_linear q, k, v, out; /* see forward.c on what shares panels */
    struct infer_linear gate, up, down; /* gate absent: plain feed-forward */
};

struct infer_model {
    struct infer_hparams hp;
    struct infer_kernels kern;
    struct infer_gguf *gguf; /* stays open: embedding rows are read from it */
    struct infer_tokenizer *tokenizer;
    const struct infer_gguf_tensor *tok_embd; /* [V][D] in file format */
    const struct infer_gguf_tensor *pos_embd; /* [n_ctx][D] or NULL */
    const float *rope_freqs; /* [n_rot/2] divisors or NULL */
    const float *out_norm, *out_norm_bias;
    struct infer_linear head; /* [V][D] */
    struct infer_layer *layers; /* [L] */
    struct infer_model_info info;
    void *arena; /* what the pointers above point into */
};

#endif
