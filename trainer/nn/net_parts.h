/* net_parts.h - what the files of the net share: its insides. */
#ifndef TRAINER_NN_NET_PARTS_H
#define TRAINER_NN_NET_PARTS_H

#include "trainer/nn/layers.h"
#include "trainer/nn/net.h"

/* Offsets into params and grads. q, k and v, and gate and up, are neighbours:
 * one product computes them all. */
struct net_linear {
    size_t w, bias; /* bias NET_NONE: none */
};

#define NET_NONE SIZE_MAX

/* Rows that only products read: f32, or bfloat16 where those round them anyway
 * (the other is NULL). */
struct net_kept {
    float *f32;
    uint16_t *bf16;
};

/* Rows that only a weight's gradient reads: f32, or packed for that. */
struct net_input {
    float *f32;
    struct train_packed *packed;
};

struct net_layer {
    size_t norm1, norm1_b, norm2, norm2_b;
    struct net_linear qkv_at, out, up, down;
    /* kept from the forward pass, R rows of the batch */
    float *x;               /* [R][D] the residual stream before attention */
    float *x_mid;           /* [R][D] and before the feed-forward */
    float *stat1, *stat2;   /* [R][2] of the norms */
    struct net_kept qkv;    /* [R][(H + 2 G) K]; backward: its gradient */
    float *att;             /* [R][H K] */
    float *lse;             /* [R][H] */
    struct net_kept up_out; /* [R][U]; backward: its gradient */
};

struct net {
    struct net_shape shape;
    struct infer_team *team;
    struct train_gemm_ctx *gemm;
    const struct nn_layers *ops;
    size_t max_rows, max_tokens, max_batch;
    bool half; /* struct net_kept are bfloat16, net_input are packed */

    size_t n_values, n_table;
    struct net_param *table;                   /* [n_table] */
    float *params, *grads;                     /* [n_values] */
    size_t tok, pos, type, head, norm, norm_b; /* NET_NONE: it has none */
    struct net_layer *layers;                  /* [L] */

    void *arena; /* all below, and the layers' arrays */
    size_t arena_bytes;
    float *x_out;            /* [R][D] after the last layer */
    float *stat_out;         /* [R][2] */
    float *h;                /* [R][D] normed rows */
    float *dx;               /* [R][D] gradient of the residual stream */
    float *wide;             /* [R][max(D, H K)] gradient on its way */
    float *drop;             /* [R][D] dropped rows; NULL without dropout */
    struct net_input act;    /* [R][F] what down multiplied, in backward */
    struct net_input normed; /* [R][D] what qkv and up did; f32: wide */
    float *logits;           /* [head_rows][V]; decoders only, as the next */
    float *loss, *nll;       /* [R] */
    float *pooled;           /* [B][D]; encoders only */
    float *cs;               /* [max_tokens][K/2][2] */
    float **scratch;         /* [threads] -> attention, one head */
    float *partial; /* [R / TRAIN_ROW_BLOCK][2][D] gradients of a norm */
    size_t head_rows;

    /* the run in progress */
    const int32_t *tokens, *targets;
    const uint32_t *starts; /* [n_seqs + 1] of an encoder's texts, else NULL */
    const float *dpooled;   /* [n_seqs][D] in its backward pass */
    size_t n_rows, n_tokens, n_seqs;
    bool train;
    float grad_scale, smoothing;
    uint64_t dropout_seed; /* used when dropping */
    size_t first_row;      /* of the whole batch */
    bool dropping;
};

static inline size_t net_nq(const struct net_shape *s)
{
    return (size_t)s->n_heads * s->d_head;
}

static inline size_t net_nqkv(const struct net_shape *s)
{
    return ((size_t)s->n_heads + 2 * (size_t)s->n_kv_heads) * s->d_head;
}

/* LayerNorm and biases. */
static inline bool net_biased(const struct net_shape *s)
{
    return s->arch != NET_LLAMA;
}

/* BERT: the residual stream goes on with the normed rows, not around the norm.
 * The norm before a layer's attention is the one behind the layer before it, or
 * behind the embedding (Vaswani et al. 2017; Devlin et al. 2018). */
static inline bool net_post_norm(const struct net_shape *s)
{
    return s->arch == NET_BERT;
}

static inline bool net_gated(const struct net_shape *s)
{
    return s->arch == NET_LLAMA && !s->relu2;
}

static inline size_t net_up_width(const struct net_shape *s)
{
    return net_gated(s) ? 2 * (size_t)s->d_ff : s->d_ff;
}

/* Scramble 64 bits (Steele et al. 2014, SplitMix). */
static inline uint64_t net_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Bring the same part of the next row, which is a stream of its own. */
static inline void net_fetch(const uint16_t *u, size_t n)
{
    for (size_t i = 0; i < n; i += 32)
        __builtin_prefetch(u + i);
}

/* Columns [c, c + n) of the hidden layer's row of inputs u [U], in f32: n
 * values, or with a gate twice n. And back. */
static inline void net_up_load(const struct net *net, float *to,
                               const uint16_t *u, size_t c, size_t n)
{
    const size_t next = net_up_width(&net->shape);

    net_fetch(u + next + c, n);
    if (net_gated(&net->shape))
        net_fetch(u + next + net->shape.d_ff + c, n);
    net->ops->widen(to, u + c, n);
    if (net_gated(&net->shape))
        net->ops->widen(to + n, u + net->shape.d_ff + c, n);
}

static inline void net_up_store(const struct net *net, uint16_t *u,
                                const float *from, size_t c, size_t n)
{
    net->ops->narrow(u + c, from, n);
    if (net_gated(&net->shape))
        net->ops->narrow(u + net->shape.d_ff + c, from + n, n);
}

enum { NET_UP_PART = 512 }; /* columns of it loaded at once */

/* net_table.c: fill the table and the offsets; ENOMEM. */
int net_build_table(struct net *net, struct infer_error *err);

/* What both passes do, one member's share of each. */
struct nn_dropout net_dropout(const struct net *net, uint32_t site);

/* Whole passes, run by every member. */
void net_forward(struct infer_member *me, struct net *net);
void net_head(struct infer_member *me, struct net *net);
void net_pool(struct infer_member *me, struct net *net);
void net_pool_back(const struct infer_member *me, struct net *net);
void net_backward(struct infer_member *me, struct net *net);

/* Sites of dropout: the embedding, and two in each layer. */
enum { NET_SITE_EMBED = 0 };

static inline uint32_t net_site(uint32_t layer, bool ffn)
{
    return 1 + 2 * layer + ffn;
}

/* Rows [r0, r1) of a member, whole blocks: the same in every phase, so that
 * phases that only look at rows follow each other without a barrier. */
static inline void net_rows(const struct infer_member *me,
                            const struct net *net, size_t *r0, size_t *r1)
{
    infer_team_share(me, net->n_rows, TRAIN_ROW_BLOCK, r0, r1);
}

static inline struct nn_attn net_attn(const struct net *net,
                                      const struct net_layer *y)
{
    return (struct nn_attn){.mul = train_gemm_kernels(net->gemm),
                            .qkv = y->qkv.f32,
                            .qkv16 = y->qkv.bf16,
                            .out = y->att,
                            .lse = y->lse,
                            .dout = net->wide,
                            .cs = net->shape.arch == NET_LLAMA ? net->cs : NULL,
                            .both = net->shape.encoder,
                            .n_tokens = net->n_tokens,
                            .starts = net->starts,
                            .n_heads = net->shape.n_heads,
                            .n_kv_heads = net->shape.n_kv_heads,
                            .d_head = net->shape.d_head};
}

#endif
