/*
 * net_forward.c - embedding, layers, head and loss.
 *
 * A layer is a norm, a product, attention or an activation, and a product that
 * adds to the residual stream, twice. Norms and activations are made beside the
 * product that reads them (struct train_beside), rows at a time, and biases are
 * part of it, so that they cost no pass over memory. The norm leaves a copy of
 * the stream (with the bias of the branch to come) where the branch's product
 * can add to it; with dropout that is done when its rows are finished. Norms
 * that stand behind the additions leave a copy of what they made instead.
 */
#include "trainer/nn/net_parts.h"

#include <string.h>

/* y [R][n] = x [R][k] W^T + bias */
static struct train_product linear(const struct net *net,
                                   const struct net_linear *l, float *y,
                                   const float *x, size_t n, size_t k)
{
    return (struct train_product){
        .tb = true,
        .m = net->n_rows,
        .n = n,
        .k = k,
        .alpha = 1.0f,
        .a = x,
        .lda = k,
        .b = net->params + l->w,
        .ldb = k,
        .c = y,
        .ldc = n,
        .bias = l->bias == NET_NONE ? NULL : net->params + l->bias};
}

/* to = norm(x); next: see nn_layers.rmsnorm. */
struct norm {
    const struct net *net;
    const float *x;
    float *stat, *next;
    size_t w, b, bias;
};

/* to [rows][D] = from + add (NULL: 0); to NULL: nothing */
static void copy_rows(const struct net *net, float *to, const float *from,
                      const float *add, size_t rows)
{
    const size_t d = net->shape.d_model;

    if (!to)
        return;
    memcpy(to, from, rows * d * sizeof(*to));
    for (size_t r = 0; r < rows && add; r++)
        net->ops->blend(to + r * d, 1.0f, add, 1.0f, d);
}

static void make_norm(const void *arg, float *to, size_t row, size_t rows)
{
    const struct norm *m = arg;
    const struct net *net = m->net;
    const size_t d = net->shape.d_model;
    const float *p = net->params, *x = m->x + row * d;
    const float *add = m->bias == NET_NONE ? NULL : p + m->bias;
    const float eps = net->shape.norm_eps;
    float *next = m->next ? m->next + row * d : NULL;

    if (net_post_norm(&net->shape)) {
        net->ops->layernorm(to, m->stat + 2 * row, NULL, x, p + m->w, p + m->b,
                            NULL, rows, d, eps);
        copy_rows(net, next, to, add, rows);
        return;
    }
    if (m->b == NET_NONE)
        net->ops->rmsnorm(to, m->stat + row, next, x, p + m->w, add, rows, d,
                          eps);
    else
        net->ops->layernorm(to, m->stat + 2 * row, next, x, p + m->w, p + m->b,
                            add, rows, d, eps);
}

/* Rows of a product, to be kept as [R][n] in bfloat16. */
struct kept {
    const struct net *net;
    uint16_t *to;
    size_t n;
};

static void finish_kept(const void *arg, float *c, size_t ldc, size_t row,
                        size_t rows, size_t c0, size_t c1)
{
    const struct kept *k = arg;

    for (size_t r = 0; r < rows; r++)
        k->net->ops->narrow(k->to + (row + r) * k->n + c0, c + r * ldc,
                            c1 - c0);
}

/* y = norm(x) W^T + bias */
static void norm_linear(struct infer_member *me, struct net *net,
                        const struct norm *m, const struct net_linear *l,
                        struct net_kept y, size_t n)
{
    const struct kept kept = {net, y.bf16, n};
    const struct train_beside beside = {.make = make_norm,
                                        .make_arg = m,
                                        .made = net->h,
                                        .finish = y.bf16 ? finish_kept : NULL,
                                        .finish_arg = &kept};
    struct train_product p =
        linear(net, l, y.f32, y.bf16 ? NULL : net->h, n, net->shape.d_model);

    p.beside = &beside;
    train_gemm_phase(me, net->gemm, &p);
}

/* to = x + dropped(branch) */
struct joint {
    const struct net *net;
    float *to;
    const float *x;
    struct nn_dropout drop;
};

static void finish_joint(const void *arg, float *c, size_t ldc, size_t row,
                         size_t rows, size_t c0, size_t c1)
{
    const struct joint *j = arg;
    const size_t d = c1, at = row * d;

    (void)c0;
    (void)ldc;
    j->net->ops->residual(j->to + at, j->x + at, c, &j->drop,
                          j->net->first_row + row, rows, d);
}

/* to = x + dropped(branch W^T + bias). Without dropout `to` holds x + bias
 * already. beside: what makes the branch's rows, or nothing. */
static void join(struct infer_member *me, struct net *net, float *to,
                 const float *x, const float *branch, size_t k,
                 const struct net_linear *l, uint32_t site,
                 struct train_beside beside)
{
    const size_t d = net->shape.d_model;
    const struct joint joint = {net, to, x, net_dropout(net, site)};
    struct train_product p = linear(net, l, to, branch, d, k);

    if (net->dropping) {
        beside.finish = finish_joint;
        beside.finish_arg = &joint;
        beside.whole = true;
        p.c = net->half ? NULL : net->drop;
    } else {
        p.bias = NULL;
        p.beta = 1.0f;
    }
    p.beside = beside.make || beside.finish ? &beside : NULL;
    train_gemm_phase(me, net->gemm, &p);
}

static void attend(struct infer_member *me, struct net *net,
                   const struct net_layer *y)
{
    const struct nn_attn a = net_attn(net, y);
    const int64_t n = (int64_t)(net->n_seqs * a.n_kv_heads);

    for (int64_t u; (u = infer_team_take(me, n, 1)) >= 0;)
        net->ops->attention(&a, (size_t)u, net->scratch[me->id]);
}

/* Rows of activation(u). */
struct activation {
    const struct net *net;
    struct net_kept u;
};

static void activate(const struct net *net, float *to, const float *u,
                     size_t rows, size_t f)
{
    (net_gated(&net->shape) ? net->ops->swiglu
     : net->shape.relu2     ? net->ops->relu2
                            : net->ops->gelu)(to, u, rows, f);
}

static void make_activation(const void *arg, float *to, size_t row, size_t rows)
{
    const struct activation *a = arg;
    const struct net *net = a->net;
    const size_t f = net->shape.d_ff, in = net_up_width(&net->shape);
    float part[2 * NET_UP_PART];

    if (a->u.f32) {
        activate(net, to, a->u.f32 + row * in, rows, f);
        return;
    }
    for (size_t r = row; r < row + rows; r++, to += f)
        for (size_t c = 0; c < f; c += NET_UP_PART) {
            const size_t n = f - c < NET_UP_PART ? f - c : NET_UP_PART;

            net_up_load(net, part, a->u.bf16 + r * in, c, n);
            activate(net, to + c, part, 1, n);
        }
}

static void layer(struct infer_member *me, struct net *net, uint32_t i)
{
    const struct net_shape *s = &net->shape;
    const struct net_layer *y = &net->layers[i];
    float *after = i + 1 < s->n_layers ? y[1].x : net->x_out;
    const bool post = net_post_norm(s), copy = post || !net->dropping;
    const struct norm norm1 = {net,
                               y->x,
                               y->stat1,
                               copy ? y->x_mid : NULL,
                               y->norm1,
                               y->norm1_b,
                               net->dropping ? NET_NONE : y->out.bias};
    const struct norm norm2 = {net,
                               y->x_mid,
                               y->stat2,
                               copy ? after : NULL,
                               y->norm2,
                               y->norm2_b,
                               net->dropping ? NET_NONE : y->down.bias};
    const struct activation act = {net, y->up_out};

    norm_linear(me, net, &norm1, &y->qkv_at, y->qkv, net_nqkv(s));
    attend(me, net, y);
    join(me, net, y->x_mid, post ? y->x_mid : y->x, y->att, net_nq(s), &y->out,
         net_site(i, false), (struct train_beside){0});
    norm_linear(me, net, &norm2, &y->up, y->up_out, net_up_width(s));
    join(me, net, after, post ? after : y->x_mid, net->act.f32, s->d_ff,
         &y->down, net_site(i, true),
         (struct train_beside){
             .make = make_activation, .make_arg = &act, .made = net->act.f32});
}

/* Rows of packed texts get those of their places, and of the token type. */
static void add_places(const struct net *net, float *x, size_t r0, size_t r1)
{
    const size_t d = net->shape.d_model;
    const float *pos = net->params + net->pos, *type = net->params + net->type;
    size_t s = 0;

    for (size_t r = r0; r < r1; r++) {
        while (net->starts[s + 1] <= r)
            s++;
        net->ops->blend(x + r * d, 1.0f, pos + (r - net->starts[s]) * d, 1.0f,
                        d);
        net->ops->blend(x + r * d, 1.0f, type, 1.0f, d);
    }
}

void net_forward(struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    const float *pos = net->pos == NET_NONE ? NULL : net->params + net->pos;
    float *x = net->shape.n_layers ? net->layers[0].x : net->x_out;
    const struct nn_dropout drop = net_dropout(net, NET_SITE_EMBED);
    const struct norm last = {net,       net->x_out,  net->stat_out, NULL,
                              net->norm, net->norm_b, NET_NONE};
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    net->ops->embed(x + r0 * d, net->params + net->tok,
                    net->starts ? NULL : pos, net->tokens + r0, r0, r1 - r0,
                    net->n_tokens, d);
    if (net->starts && pos)
        add_places(net, x, r0, r1);
    if (net->dropping)
        net->ops->dropout(x + r0 * d, x + r0 * d, &drop, net->first_row + r0,
                          r1 - r0, d);
    for (uint32_t i = 0; i < net->shape.n_layers; i++)
        layer(me, net, i);
    make_norm(&last, net->h + r0 * d, r0, r1 - r0);
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
