/*
 * net.h - a decoder or encoder that can be trained: parameters, forward and
 * backward.
 *
 * The parameters are one flat array of floats and the gradients another, both
 * laid out by one table, so that optimizers, checkpoints and all-reduces see
 * vectors. The table's names, dimensions and order of values are those of a
 * GGUF file of the same architecture: export and import are copies. Rotary
 * positions turn neighbours (2i, 2i + 1), as "llama" files mean it.
 *
 * Memory, in bytes for a token of the batch, next to 4 each for parameters and
 * gradients (f32, nothing is kept twice):
 *   a layer  4 (2 D + 2 H K + 2 G K + H + U) + 16    U: 2 F SwiGLU, else F
 *   shared   4 (3 D + max(D, H K) + F) + 8; with dropout 4 D more
 * and the logits of a block of rows (at most 64 MiB or 64 rows).
 * A 384-wide, 6-layer SwiGLU net: 18.5 KB a layer, 121 KB a token in all.
 *
 * An encoder (shape.encoder) is the same layers seen from both sides, with a
 * pooled vector in place of next tokens: net_encode(). What is made of the
 * vector is the caller's; a head's parameters are among the net's.
 */
#ifndef TRAINER_NN_NET_H
#define TRAINER_NN_NET_H

#include "trainer/gemm/gemm.h"

enum net_arch {
    NET_LLAMA, /* RMSNorm, rotary positions, SwiGLU, no biases */
    NET_GPT2,  /* LayerNorm, learned positions, GELU, biases */
    NET_BERT   /* the same, norms behind the additions; encoder only */
};

/* llama.cpp's numbers; rank, a head on the first token, is in files only */
enum net_pooling { NET_POOL_MEAN = 1, NET_POOL_FIRST = 2, NET_POOL_RANK = 4 };

struct net_shape {
    enum net_arch arch;
    bool relu2;   /* relu^2 instead: no gate; the engine does not serve it */
    bool tied;    /* the head is the embedding */
    bool encoder; /* llama, bert; n_layers may be 0 */
    enum net_pooling pooling;
    uint32_t n_classes; /* rows of an encoder's head; 0: it has none */
    bool dense;         /* the head has a hidden layer of d_model values */
    uint32_t n_vocab, n_ctx, n_layers;
    uint32_t n_types; /* bert: token types of the file; all are the first */
    uint32_t n_heads, n_kv_heads; /* gpt2, bert: equal */
    uint32_t d_model, d_head, d_ff;
    float rope_base;       /* llama; 10000 */
    float norm_eps;        /* 1e-5 */
    float dropout;         /* 0 <= share < 1, of the embedding and of what each
                              branch adds */
    float label_smoothing; /* 0 <= share < 1 */
};

enum net_param_kind { NET_MATRIX, NET_EMBEDDING, NET_VECTOR };

struct net_param {
    char name[48]; /* of the GGUF tensor */
    uint32_t n_dims;
    uint64_t dims[2]; /* dims[0] is contiguous; a matrix is [dims[1]][dims[0]]
                         = [out][in]. A vector's dims[1] is 1. */
    size_t offset, n; /* values, in net_params() and net_grads() */
    enum net_param_kind kind;
    bool decay; /* not norms and biases */
};

struct net; /* opaque; one thread at a time */

/* EINVAL with a sentence, or 0. */
int net_shape_check(const struct net_shape *shape, struct infer_error *err);

/* Bytes of a net in f32; in bf16 it takes less. Work space of products is not
 * counted. The shape must be checked. */
uint64_t net_bytes(const struct net_shape *shape, size_t max_batch,
                   size_t max_tokens, int n_threads);

/*
 * Memory for a net and for batches of up to max_batch sequences of max_tokens.
 * All parameters are zero until net_init() or a copy into net_params().
 *
 *   team  runs everything; borrowed
 * Errors  EINVAL (shape, max_tokens over n_ctx), ENOMEM
 */
int net_create(struct net **net, const struct net_shape *shape,
               size_t max_batch, size_t max_tokens, struct infer_team *team,
               enum train_precision precision, struct infer_error *err);
void net_free(struct net *net);

const struct net_shape *net_shape(const struct net *net);
struct infer_team *net_team(const struct net *net);
const struct train_gemm_ctx *net_gemm(const struct net *net);

/* [n], and the values between tensors, which stay zero. */
size_t net_n_values(const struct net *net);
float *net_params(struct net *net);
float *net_grads(struct net *net);
const struct net_param *net_param_table(const struct net *net, size_t *n);

/* Parameters proper, for reports. */
size_t net_n_params(const struct net *net);

/* Floating-point operations of a training step, per token, products only:
 * the share of the machine's peak is computed from it. */
double net_flops_per_token(const struct net *net, size_t n_tokens);

/* Normal, deviation 0.02, and 0.02 / sqrt(2 L) where a branch joins the
 * residual stream (Radford et al. 2019); norms 1, biases 0. Any number of
 * threads gives the same values. */
void net_init(struct net *net, uint64_t seed);

void net_zero_grads(struct net *net);

/*
 * Forward and backward: gradients += grad_scale * d(loss)/d(parameters).
 *
 *   tokens        [B][T]  in  0 <= id < n_vocab: checked by the caller
 *   targets       [B][T]  in  the same, or -1: not counted
 *   grad_scale    1 / (counted targets of the whole step) makes it a mean
 *   dropout_seed  another for every call
 * Returns the loss summed over counted targets, in nats, with label smoothing;
 * NaN or infinity when the net has diverged. Bits depend on the inputs and the
 * number of threads only.
 */
double net_train(struct net *net, const int32_t *tokens, const int32_t *targets,
                 size_t n_seqs, size_t n_tokens, float grad_scale,
                 uint64_t dropout_seed);

/* The batches to come are part of a larger one, in which their first row (of
 * n_seqs * n_tokens) is row `row`: dropout then drops what it would have
 * dropped there. 0 after net_create(). */
void net_set_first_row(struct net *net, size_t row);

/* Forward only, without dropout and smoothing: the sum of -log p(target);
 * *n_counted targets were not -1. */
double net_eval(struct net *net, const int32_t *tokens, const int32_t *targets,
                size_t n_seqs, size_t n_tokens, size_t *n_counted);

/* ---- encoders -------------------------------------------------------------
 */

/* Texts packed one behind another. */
struct net_texts {
    const int32_t *tokens;  /* [starts[n]] */
    const uint32_t *starts; /* [n + 1], starts[0] = 0; no text longer than
                               max_tokens, all together max_batch * max_tokens
                               at most */
    size_t n;               /* at most max_batch */
};

/*
 * The pooled vectors [n][D] of n texts, in the net's memory until its next run.
 * With train, dropout is drawn and what net_encode_back() needs is kept; the
 * texts must then stay.
 */
float *net_encode(struct net *net, const struct net_texts *texts, bool train,
                  uint64_t dropout_seed);

/* Gradients += those of a loss whose derivative by the pooled vectors is
 * dpooled [n][D]. Once for each net_encode(). */
void net_encode_back(struct net *net, const float *dpooled);

/* A parameter by name; NULL: none. */
const struct net_param *net_param_find(const struct net *net, const char *name);

#endif
