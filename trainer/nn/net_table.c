/*
 * net_table.c - which tensors a net has, in the names and layouts of GGUF.
 *
 * Tensors that one product computes follow each other without a gap; any other
 * starts at a multiple of a cache line.
 */
#include "trainer/nn/net_parts.h"

#include "core/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALIGN_VALUES = 16, MAX_PER_LAYER = 16, MAX_OUTSIDE = 10 };

struct builder {
    struct net *net;
    size_t next; /* value */
};

static size_t add(struct builder *b, enum net_param_kind kind, uint64_t in,
                  uint64_t out, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static size_t add(struct builder *b, enum net_param_kind kind, uint64_t in,
                  uint64_t out, const char *fmt, ...)
{
    struct net_param *p = &b->net->table[b->net->n_table++];
    va_list args;

    *p = (struct net_param){.n_dims = kind == NET_VECTOR ? 1 : 2,
                            .dims = {in, out},
                            .offset = b->next,
                            .n = (size_t)(in * out),
                            .kind = kind,
                            .decay = kind != NET_VECTOR};
    va_start(args, fmt);
    vsnprintf(p->name, sizeof(p->name), fmt, args);
    va_end(args);
    b->next += p->n;
    return p->offset;
}

static void align(struct builder *b)
{
    b->next = (b->next + ALIGN_VALUES - 1) / ALIGN_VALUES * ALIGN_VALUES;
}

static size_t add_vector(struct builder *b, uint64_t n, const char *what,
                         uint32_t layer, const char *part)
{
    align(b);
    return add(b, NET_VECTOR, n, 1, "blk.%u.%s.%s", layer, what, part);
}

/* "blk.N.<what>.weight" [out][in] and, but in llama, its bias. */
static struct net_linear add_linear(struct builder *b, uint64_t in,
                                    uint64_t out, const char *what,
                                    uint32_t layer)
{
    struct net_linear l = {.bias = NET_NONE};

    align(b);
    l.w = add(b, NET_MATRIX, in, out, "blk.%u.%s.weight", layer, what);
    if (net_biased(&b->net->shape))
        l.bias = add_vector(b, out, what, layer, "bias");
    return l;
}

static struct net_linear add_qkv(struct builder *b, uint32_t layer)
{
    const struct net_shape *s = &b->net->shape;
    const uint64_t nk = (uint64_t)s->n_kv_heads * s->d_head;
    struct net_linear l = {.bias = NET_NONE};

    if (s->arch == NET_GPT2)
        return add_linear(b, s->d_model, net_nqkv(s), "attn_qkv", layer);
    align(b);
    l.w = add(b, NET_MATRIX, s->d_model, net_nq(s), "blk.%u.attn_q.weight",
              layer);
    add(b, NET_MATRIX, s->d_model, nk, "blk.%u.attn_k.weight", layer);
    add(b, NET_MATRIX, s->d_model, nk, "blk.%u.attn_v.weight", layer);
    if (s->arch == NET_BERT) {
        l.bias = add_vector(b, net_nq(s), "attn_q", layer, "bias");
        add(b, NET_VECTOR, nk, 1, "blk.%u.attn_k.bias", layer);
        add(b, NET_VECTOR, nk, 1, "blk.%u.attn_v.bias", layer);
    }
    return l;
}

static struct net_linear add_up(struct builder *b, uint32_t layer)
{
    const struct net_shape *s = &b->net->shape;
    struct net_linear l = {.bias = NET_NONE};

    if (!net_gated(s))
        return add_linear(b, s->d_model, s->d_ff, "ffn_up", layer);
    align(b);
    l.w = add(b, NET_MATRIX, s->d_model, s->d_ff, "blk.%u.ffn_gate.weight",
              layer);
    add(b, NET_MATRIX, s->d_model, s->d_ff, "blk.%u.ffn_up.weight", layer);
    return l;
}

/* A layer's norm, of rows that are D wide. */
static void add_norm(struct builder *b, const char *what, uint32_t layer,
                     size_t *w, size_t *bias)
{
    const struct net_shape *s = &b->net->shape;

    *w = add_vector(b, s->d_model, what, layer, "weight");
    *bias = net_biased(s) ? add_vector(b, s->d_model, what, layer, "bias")
                          : NET_NONE;
}

static void add_layer(struct builder *b, uint32_t i)
{
    const struct net_shape *s = &b->net->shape;
    struct net_layer *y = &b->net->layers[i];
    const bool post = net_post_norm(s);

    y->norm1 = b->net->norm;
    y->norm1_b = b->net->norm_b;
    if (!post)
        add_norm(b, "attn_norm", i, &y->norm1, &y->norm1_b);
    y->qkv_at = add_qkv(b, i);
    y->out = add_linear(b, net_nq(s), s->d_model, "attn_output", i);
    add_norm(b, post ? "attn_output_norm" : "ffn_norm", i, &y->norm2,
             &y->norm2_b);
    y->up = add_up(b, i);
    y->down = add_linear(b, s->d_ff, s->d_model, "ffn_down", i);
    if (post)
        add_norm(b, "layer_output_norm", i, &b->net->norm, &b->net->norm_b);
}

/* A norm outside the layers. */
static void add_outer_norm(struct builder *b, const char *what)
{
    struct net *net = b->net;
    const uint64_t d = net->shape.d_model;

    align(b);
    net->norm = add(b, NET_VECTOR, d, 1, "%s.weight", what);
    align(b);
    if (net_biased(&net->shape))
        net->norm_b = add(b, NET_VECTOR, d, 1, "%s.bias", what);
    align(b);
}

int net_build_table(struct net *net, struct infer_error *err)
{
    const struct net_shape *s = &net->shape;
    struct builder b = {.net = net};

    net->layers = calloc((size_t)s->n_layers + 1, sizeof(*net->layers));
    net->table = calloc((size_t)s->n_layers * MAX_PER_LAYER + MAX_OUTSIDE,
                        sizeof(*net->table));
    if (!net->layers || !net->table)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    net->tok =
        add(&b, NET_EMBEDDING, s->d_model, s->n_vocab, "token_embd.weight");
    net->head = net->tok;
    net->pos = net->type = net->norm = net->norm_b = NET_NONE;
    align(&b);
    if (net_biased(s))
        net->pos = add(&b, NET_EMBEDDING, s->d_model, s->n_ctx,
                       "position_embd.weight");
    if (s->arch == NET_BERT) {
        align(&b);
        net->type = add(&b, NET_EMBEDDING, s->d_model, s->n_types,
                        "token_types.weight");
        add_outer_norm(&b, "token_embd_norm");
    }
    for (uint32_t i = 0; i < s->n_layers; i++)
        add_layer(&b, i);
    if (s->arch != NET_BERT)
        add_outer_norm(&b, "output_norm");
    if (!s->tied && !s->encoder)
        net->head =
            add(&b, NET_EMBEDDING, s->d_model, s->n_vocab, "output.weight");
    align(&b);
    if (s->n_classes) {
        add(&b, NET_EMBEDDING, s->d_model, s->n_classes, "cls.output.weight");
        align(&b);
        add(&b, NET_VECTOR, s->n_classes, 1, "cls.output.bias");
        align(&b);
    }
    if (s->n_classes && s->dense) {
        add(&b, NET_MATRIX, s->d_model, s->d_model, "cls.weight");
        align(&b);
        add(&b, NET_VECTOR, s->d_model, 1, "cls.bias");
        align(&b);
    }
    net->n_values = b.next;
    return INFER_OK;
}
