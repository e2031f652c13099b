/*
 * model.h - a loaded model: hyper-parameters, packed weights, tokenizer.
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
#include "core/tokenizer/ngrams.h"
#include "core/tokenizer/tokenizer.h"

enum infer_norm { INFER_NORM_RMS, INFER_NORM_LAYER };
enum infer_positions {
    INFER_POS_ROPE_PAIRS,
    INFER_POS_ROPE_HALVES,
    INFER_POS_LEARNED
};
enum infer_ffn { INFER_FFN_SILU_GATED, INFER_FFN_GELU };

/* What an architecture name means. */
struct infer_arch {
    const char *name; /* general.architecture, and the prefix of its keys */
    enum infer_norm norm;
    enum infer_positions positions;
    enum infer_ffn ffn;
    bool qkv_bias;  /* q, k and v have biases (llama: may have) */
    bool all_bias;  /* so do the norms, the attention output and the FFN */
    bool fused_qkv; /* one attn_qkv tensor in the file */
    bool qk_norm;   /* rmsnorm of each q and k head */
    bool encoder;   /* rows see all keys; pooling and classes, no output */
    bool post_norm; /* norms stand behind the additions (BERT) */
};

struct infer_hparams {
    const struct infer_arch *arch;
    uint32_t n_vocab, n_ctx, n_layers, n_heads, n_kv_heads;
    uint32_t d_model, d_head, d_ff;
    float norm_eps;
    float score_scale; /* of attention; 0: 1 / sqrt(d_head) */
    struct infer_rope {
        uint32_t n_rot; /* rotated values of a head, even */
        float base;
        float scale; /* of positions: 1 / factor; 1: none */
        bool yarn;   /* interpolate by frequency instead of for all */
        float orig_ctx, ext_factor, attn_factor, beta_fast, beta_slow;
    } rope;
    struct infer_ngrams_spec ngrams; /* buckets 0: none */
};

/*
 * Read and check a file's hyper-parameters.
 * Errors  EUNSUPPORTED (architecture, scaling), EFORMAT (names the key)
 */
int infer_hparams_read(struct infer_hparams *hp, const struct infer_gguf *g,
                       struct infer_error *err);

/*
 * Rotation of each position and frequency.
 *   factors  [n_rot / 2] or NULL   divisors of the frequencies
 *   cs       [n_ctx][n_rot / 2][2] out   cosine and sine
 * Papers   Su et al. 2021, arXiv:2104.09864; YaRN: Peng et al. 2023,
 *          arXiv:2309.00071
 */
void infer_rope_table(float *cs, const struct infer_rope *rope,
                      const float *factors, uint32_t n_ctx);

/* A matrix and its optional bias. w.data NULL: absent. */
struct infer_linear {
    struct infer_packed w;
    const float *bias; /* [n_panels * 16] or NULL */
};

/*
 * Norms stand before attention and feed-forward. BERT has them behind; that is
 * the same chain of norms begun one earlier, if each also replaces what it
 * reads: attn_norm is then the norm behind the layer (or embedding) before.
 */
struct infer_layer {
    const float *attn_norm, *attn_norm_bias; /* [D]; bias NULL for RMS */
    const float *ffn_norm, *ffn_norm_bias;
    const float *q_norm, *k_norm;     /* [K] or NULL */
    struct infer_linear q, k, v, out; /* see forward.c on what shares panels */
    struct infer_linear gate, up, down; /* gate absent: plain feed-forward */
};

/* What an encoder's vectors become. */
struct infer_head {
    enum infer_pooling pooling;
    enum infer_classifier_kind kind;
    uint32_t n_classes; /* 0: no head */
    float temperature, oos_threshold;
    char **labels;     /* [n_classes], owned */
    float *thresholds; /* [n_classes], owned; NULL: not multi-label */
    char *oos_label;   /* owned, or NULL */
    bool pair;
    uint32_t *widths; /* [n_widths] ascending, owned */
    uint32_t n_widths;
};

struct infer_model {
    struct infer_hparams hp;
    struct infer_kernels kern;
    struct infer_gguf *gguf; /* while it loads; then NULL */
    struct infer_tokenizer *tokenizer;
    struct infer_gguf_tensor tok_embd; /* [V][D] in file format, in the arena */
    struct infer_gguf_tensor pos_embd; /* [n_ctx][D]; data NULL: none */
    const float *rope_freqs;           /* [n_rot/2] divisors or NULL */
    const float *out_norm, *out_norm_bias;
    struct infer_linear head; /* [V][D]; decoders */
    const float *type_embd;   /* [D] of the first token type, or NULL */
    struct infer_gguf_tensor ngram_embd; /* [buckets][D]; data NULL: none */
    struct infer_linear cls_dense;       /* [D][D] or absent */
    struct infer_linear cls_output;      /* [C][D] or absent */
    struct infer_layer *layers;          /* [L] */
    struct infer_head result;            /* encoders */
    struct infer_model_info info;
    char *path, *name,
        *chat_template; /* what info points to; the last or NULL */
    void *arena;        /* what the weights above point into */
    size_t arena_bytes; /* reserved; info.weight_bytes are used */
};

#endif
