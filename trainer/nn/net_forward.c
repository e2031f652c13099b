/*
 * net_forward.c - embedding, layers, head and loss.
 *
 * A layer is a norm, a product, attention or an activation, and a product that
 * adds to the residual stream, twice. The norm leaves a copy of the stream
 * (with the bias of the branch to come) where that product can add to it, so
 * adding costs no pass of its own; with dropout it does.
 */
#include "trainer/nn/net_parts.h"

#include <string.h>

void net_linear_phase(struct infer_member *me, struct net *net, float *y,
                      const float *x, size_t w, size_t n, size_t k, bool add)
{
    train_gemm_phase(me, net->gemm,
                     &(struct train_product){.tb = true,
                                             .m = net->n_rows,
                                             .n = n,
                                             .k = k,
                                             .alpha = 1.0f,
                                             .a = x,
                                             .lda = k,
                                             .b = net->params + w,
                                             .ldb = k,
                                             .beta = add ? 1.0f : 0.0f,
                                             .c = y,
                                             .ldc = n});
}

/* This member's rows of net->h = norm(x); next: see nn_layers.rmsnorm. */
static void norm(const struct infer_member *me, struct net *net, const float *x,
                 float *stat, float *next, size_t w, size_t b, size_t bias)
{
    const size_t d = net->shape.d_model;
    const float *p = net->params, *add = bias == NET_NONE ? NULL : p + bias;
    const float eps = net->shape.norm_eps;
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    if (next)
        next += r0 * d;
    if (b == NET_NONE)
        net->ops->rmsnorm(net->h + r0 * d, stat + r0, next, x + r0 * d, p + w,
                          add, r1 - r0, d, eps);
    else
        net->ops->layernorm(net->h + r0 * d, stat + 2 * r0, next, x + r0 * d,
                            p + w, p + b, add, r1 - r0, d, eps);
}

static void add_bias(const struct infer_member *me, struct net *net, float *x,
                     size_t bias, size_t n)
{
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    if (bias != NET_NONE)
        net->ops->add_bias(x + r0 * n, net->params + bias, r1 - r0, n);
}

/* to = x + dropped(branch W^T + bias). Without dropout `to` holds x + bias
 * already. */
static void join(struct infer_member *me, struct net *net, float *to,
                 const float *x, const float *branch, size_t k,
                 const struct net_linear *l, uint32_t site)
{
    const size_t d = net->shape.d_model;
    const struct nn_dropout drop = net_dropout(net, site);
    size_t r0, r1;

    if (!net->dropping) {
        net_linear_phase(me, net, to, branch, l->w, d, k, true);
        return;
    }
    net_linear_phase(me, net, net->drop, branch, l->w, d, k, false);
    net_rows(me, net, &r0, &r1);
    add_bias(me, net, net->drop, l->bias, d);
    net->ops->residual(to + r0 * d, x + r0 * d, net->drop + r0 * d, &drop,
                       net->first_row + r0, r1 - r0, d);
}

static void attend(struct infer_member *me, struct net *net,
                   const struct net_layer *y)
{
    const struct nn_attn a = net_attn(net, y);
    const int64_t n = (int64_t)(net->n_seqs * a.n_kv_heads);

    for (int64_t u; (u = infer_team_take(me, n, 1)) >= 0;)
        net->ops->attention(&a, (size_t)u, net->scratch[me->id]);
}

static void activate(const struct infer_member *me, struct net *net,
                     const float *u)
{
    const size_t f = net->shape.d_ff, in = net_up_width(&net->shape);
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    (net_gated(&net->shape) ? net->ops->swiglu
     : net->shape.relu2
         ? net->ops->relu2
         : net->ops->gelu)(net->act + r0 * f, u + r0 * in, r1 - r0, f);
}

static void layer(struct infer_member *me, struct net *net, uint32_t i)
{
    const struct net_shape *s = &net->shape;
    const struct net_layer *y = &net->layers[i];
    float *after = i + 1 < s->n_layers ? y[1].x : net->x_out;
    const size_t d = s->d_model;

    norm(me, net, y->x, y->stat1, net->dropping ? NULL : y->x_mid, y->norm1,
         y->norm1_b, y->out.bias);
    net_linear_phase(me, net, y->qkv, net->h, y->qkv_at.w, net_nqkv(s), d,
                     false);
    if (y->qkv_at.bias != NET_NONE) {
        add_bias(me, net, y->qkv, y->qkv_at.bias, net_nqkv(s));
        infer_team_barrier(me);
    }
    attend(me, net, y);
    join(me, net, y->x_mid, y->x, y->att, net_nq(s), &y->out,
         net_site(i, false));
    norm(me, net, y->x_mid, y->stat2, net->dropping ? NULL : after, y->norm2,
         y->norm2_b, y->down.bias);
    net_linear_phase(me, net, y->up_out, net->h, y->up.w, net_up_width(s), d,
                     false);
    add_bias(me, net, y->up_out, y->up.bias, net_up_width(s));
    activate(me, net, y->up_out);
    join(me, net, after, y->x_mid, net->act, s->d_ff, &y->down,
         net_site(i, true));
}

void net_forward(struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    const float *pos = net->pos == NET_NONE ? NULL : net->params + net->pos;
    float *x = net->shape.n_layers ? net->layers[0].x : net->x_out;
    const struct nn_dropout drop = net_dropout(net, NET_SITE_EMBED);
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    net->ops->embed(x + r0 * d, net->params + net->tok, pos, net->tokens + r0,
                    r0, r1 - r0, net->n_tokens, d);
    if (net->dropping)
        net->ops->dropout(x + r0 * d, x + r0 * d, &drop, net->first_row + r0,
                          r1 - r0, d);
    for (uint32_t i = 0; i < net->shape.n_layers; i++)
        layer(me, net, i);
    norm(me, net, net->x_out, net->stat_out, NULL, net->norm, net->norm_b,
         NET_NONE);
}

/* One block of rows: logits, loss, and in training what flows back. */
static void head_block(struct infer_member *me, struct net *net, size_t at,
                       size_t rows)
{
    const size_t d = net->shape.d_model, v = net->shape.n_vocab;
    const struct train_product logits = {.tb = true,
                                         .m = rows,
                                         .n = v,
                                         .k = d,
                                         .alpha = 1.0f,
                                         .a = net->h + at * d,
                                         .lda = d,
                                         .b = net->params + net->head,
                                         .ldb = d,
                                         .c = net->logits,
                                         .ldc = v};
    const struct train_product dh = {.m = rows,
                                     .n = d,
                                     .k = v,
                                     .alpha = 1.0f,
                                     .a = net->logits,
                                     .lda = v,
                                     .b = net->params + net->head,
                                     .ldb = d,
                                     .c = net->wide + at * d,
                                     .ldc = d};
    const struct train_product dw = {.ta = true,
                                     .m = v,
                                     .n = d,
                                     .k = rows,
                                     .alpha = 1.0f,
                                     .a = net->logits,
                                     .lda = v,
                                     .b = net->h + at * d,
                                     .ldb = d,
                                     .beta = 1.0f,
                                     .c = net->grads + net->head,
                                     .ldc = d};
    size_t r0, r1;

    train_gemm_phase(me, net->gemm, &logits);
    infer_team_share(me, rows, 1, &r0, &r1);
    net->ops->cross_entropy(net->logits + r0 * v, net->targets + at + r0,
                            net->loss + at + r0, net->nll + at + r0, r1 - r0, v,
                            net->smoothing, net->train, net->grad_scale);
    if (!net->train)
        return;
    train_gemm_phase(me, net->gemm, &dh);
    train_gemm_phase(me, net->gemm, &dw);
}

void net_head(struct infer_member *me, struct net *net)
{
    for (size_t at = 0; at < net->n_rows; at += net->head_rows) {
        const size_t left = net->n_rows - at;

        head_block(me, net, at, left < net->head_rows ? left : net->head_rows);
    }
}

/* ---- encoders -------------------------------------------------------------
 */

/* The rows that a text's vector is the mean of. */
static size_t pooled_rows(const struct net *net, size_t seq)
{
    const size_t n = net->starts[seq + 1] - net->starts[seq];

    return net->shape.pooling == NET_POOL_FIRST && n > 1 ? 1 : n;
}

void net_pool(struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    size_t s0, s1;

    infer_team_barrier(me);
    infer_team_share(me, net->n_seqs, 1, &s0, &s1);
    for (size_t s = s0; s < s1; s++) {
        const size_t n = pooled_rows(net, s);
        float *to = net->pooled + s * d;

        memset(to, 0, d * sizeof(*to));
        for (size_t r = 0; r < n; r++)
            net->ops->blend(to, 1.0f, net->h + (net->starts[s] + r) * d,
                            1.0f / (float)n, d);
    }
}

/* This member's rows of net->wide, the gradient of the normed rows. */
void net_pool_back(const struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    size_t r0, r1, s = 0;

    net_rows(me, net, &r0, &r1);
    memset(net->wide + r0 * d, 0, (r1 - r0) * d * sizeof(*net->wide));
    for (size_t r = r0; r < r1; r++) {
        while (net->starts[s + 1] <= r)
            s++;
        const size_t n = pooled_rows(net, s);

        if (r - net->starts[s] < n)
            net->ops->blend(net->wide + r * d, 0.0f, net->dpooled + s * d,
                            1.0f / (float)n, d);
    }
}
