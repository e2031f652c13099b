/*
 * net_backward.c - gradients, last layer first.
 *
 * A product's input gradient comes before its weight gradient: the pass in
 * between turns what was kept (or the incoming gradient) into the recomputed
 * input that the weight gradient needs, in place. Gradients of norms are summed
 * per member and put together at the end in the order of members, those of
 * biases and embeddings have one owner per column: no result depends on timing.
 */
#include "trainer/nn/net_parts.h"

#include <string.h>

/* dx [R][k] = dy [R][n] W [n][k] */
static void input_back(struct infer_member *me, struct net *net, float *dx,
                       const float *dy, size_t w, size_t n, size_t k)
{
    train_gemm_phase(me, net->gemm,
                     &(struct train_product){.m = net->n_rows,
                                             .n = k,
                                             .k = n,
                                             .alpha = 1.0f,
                                             .a = dy,
                                             .lda = n,
                                             .b = net->params + w,
                                             .ldb = k,
                                             .c = dx,
                                             .ldc = k});
}

/* dW [n][k] += dy^T x */
static void weight_back(struct infer_member *me, struct net *net, size_t w,
                        const float *dy, const float *x, size_t n, size_t k)
{
    train_gemm_phase(me, net->gemm,
                     &(struct train_product){.ta = true,
                                             .m = n,
                                             .n = k,
                                             .k = net->n_rows,
                                             .alpha = 1.0f,
                                             .a = dy,
                                             .lda = n,
                                             .b = x,
                                             .ldb = k,
                                             .beta = 1.0f,
                                             .c = net->grads + w,
                                             .ldc = k});
}

static void bias_back(const struct infer_member *me, struct net *net,
                      size_t bias, const float *dy, size_t n)
{
    size_t c0, c1;

    infer_team_share(me, n, 16, &c0, &c1);
    if (bias != NET_NONE)
        net->ops->add_bias_back(net->grads + bias, dy, net->n_rows, n, c0, c1);
}

/* dx += gradient through norm number `index` of net->wide, which becomes the
 * normed rows. */
static void norm_back(const struct infer_member *me, struct net *net,
                      size_t index, const float *x, const float *stat, size_t w,
                      size_t b)
{
    const size_t d = net->shape.d_model;
    const float *p = net->params;
    float *dw = net->partial[me->id] + index * 2 * d;
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    float *dx = net->dx + r0 * d, *dy = net->wide + r0 * d;

    if (b == NET_NONE)
        net->ops->rmsnorm_back(dx, dw, dy, dy, x + r0 * d, p + w, stat + r0,
                               r1 - r0, d);
    else
        net->ops->layernorm_back(dx, dw, dw + d, dy, dy, x + r0 * d, p + w,
                                 p + b, stat + 2 * r0, r1 - r0, d);
}

/* The gradient that enters a branch: all of dx, or what was not dropped. */
static const float *branch_gradient(const struct infer_member *me,
                                    struct net *net, uint32_t site)
{
    const size_t d = net->shape.d_model;
    const struct nn_dropout drop = net_dropout(net, site);
    size_t r0, r1;

    if (!net->dropping)
        return net->dx;
    net_rows(me, net, &r0, &r1);
    net->ops->dropout(net->drop + r0 * d, net->dx + r0 * d, &drop,
                      net->first_row + r0, r1 - r0, d);
    return net->drop;
}

static void activation_back(const struct infer_member *me, struct net *net,
                            float *u)
{
    const size_t f = net->shape.d_ff, in = net_up_width(&net->shape);
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    (net_gated(&net->shape) ? net->ops->swiglu_back
     : net->shape.relu2
         ? net->ops->relu2_back
         : net->ops->gelu_back)(u + r0 * in, net->act + r0 * f, r1 - r0, f);
}

static void ffn_back(struct infer_member *me, struct net *net, uint32_t i)
{
    const struct net_shape *s = &net->shape;
    const struct net_layer *y = &net->layers[i];
    const size_t d = s->d_model, f = s->d_ff, u = net_up_width(s);
    const float *dy = branch_gradient(me, net, net_site(i, true));

    input_back(me, net, net->act, dy, y->down.w, d, f);
    bias_back(me, net, y->down.bias, dy, d);
    activation_back(me, net, y->up_out);
    weight_back(me, net, y->down.w, dy, net->act, d, f);
    input_back(me, net, net->wide, y->up_out, y->up.w, u, d);
    bias_back(me, net, y->up.bias, y->up_out, u);
    norm_back(me, net, 2 * i + 1, y->x_mid, y->stat2, y->norm2, y->norm2_b);
    weight_back(me, net, y->up.w, y->up_out, net->wide, u, d);
}

static void attention_back(struct infer_member *me, struct net *net, uint32_t i)
{
    const struct net_shape *s = &net->shape;
    const struct net_layer *y = &net->layers[i];
    const size_t d = s->d_model, nq = net_nq(s), n = net_nqkv(s);
    const float *dy = branch_gradient(me, net, net_site(i, false));
    const struct nn_attn a = net_attn(net, y);
    const int64_t units = (int64_t)(net->n_seqs * a.n_kv_heads);

    input_back(me, net, net->wide, dy, y->out.w, d, nq);
    bias_back(me, net, y->out.bias, dy, d);
    weight_back(me, net, y->out.w, dy, y->att, d, nq);
    for (int64_t unit; (unit = infer_team_take(me, units, 1)) >= 0;)
        net->ops->attention_back(&a, (size_t)unit, net->scratch[me->id]);
    input_back(me, net, net->wide, y->qkv, y->qkv_at.w, n, d);
    bias_back(me, net, y->qkv_at.bias, y->qkv, n);
    norm_back(me, net, 2 * i, y->x, y->stat1, y->norm1, y->norm1_b);
    weight_back(me, net, y->qkv_at.w, y->qkv, net->wide, n, d);
}

static void embedding_back(struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    const struct nn_dropout drop = net_dropout(net, NET_SITE_EMBED);
    float *dpos = net->pos == NET_NONE ? NULL : net->grads + net->pos;
    size_t r0, r1, c0, c1;

    net_rows(me, net, &r0, &r1);
    if (net->dropping) {
        net->ops->dropout(net->dx + r0 * d, net->dx + r0 * d, &drop,
                          net->first_row + r0, r1 - r0, d);
        infer_team_barrier(me);
    }
    infer_team_share(me, d, 16, &c0, &c1);
    net->ops->embed_back(net->grads + net->tok, dpos, net->dx, net->tokens,
                         net->n_rows, net->n_tokens, d, c0, c1);
}

/* One norm's gradients from every member's. */
static void gather_norm(struct net *net, const struct infer_member *me,
                        size_t index, size_t w, size_t b)
{
    const size_t d = net->shape.d_model;
    size_t c0, c1;

    infer_team_share(me, d, 16, &c0, &c1);
    for (int i = 0; i < me->n; i++) {
        const float *part = net->partial[i] + index * 2 * d;

        net->ops->blend(net->grads + w + c0, 1, part + c0, 1, c1 - c0);
        if (b != NET_NONE)
            net->ops->blend(net->grads + b + c0, 1, part + d + c0, 1, c1 - c0);
    }
}

void net_backward(struct infer_member *me, struct net *net)
{
    const uint32_t n = net->shape.n_layers;
    const size_t d = net->shape.d_model;
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    memset(net->dx + r0 * d, 0, (r1 - r0) * d * sizeof(*net->dx));
    memset(net->partial[me->id], 0,
           net->partial_floats * sizeof(*net->partial[0]));
    norm_back(me, net, 2 * (size_t)n, net->x_out, net->stat_out, net->norm,
              net->norm_b);
    for (uint32_t i = n; i-- > 0;) {
        ffn_back(me, net, i);
        attention_back(me, net, i);
    }
    embedding_back(me, net);
    infer_team_barrier(me);
    for (uint32_t i = 0; i < n; i++) {
        const struct net_layer *y = &net->layers[i];

        gather_norm(net, me, 2 * i, y->norm1, y->norm1_b);
        gather_norm(net, me, 2 * i + 1, y->norm2, y->norm2_b);
    }
    gather_norm(net, me, 2 * (size_t)n, net->norm, net->norm_b);
}
