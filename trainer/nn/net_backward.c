/*
 * net_backward.c - gradients, last layer first.
 *
 * A product's input gradient comes before its weight gradient: what is done
 * beside it turns what was kept (or the incoming gradient) into the recomputed
 * input that the weight gradient needs, in place. Gradients of biases are sums
 * of an operand of that product, those of norms are summed per block of rows
 * and put together in order, those of embeddings have one owner per column: no
 * result depends on timing.
 */
#include "trainer/nn/net_parts.h"

#include <string.h>

/* dx [R][k] = dy [R][n] W [n][k]; dx NULL: to what is beside. */
static void input_back(struct infer_member *me, struct net *net, float *dx,
                       struct net_kept dy, size_t w, size_t n, size_t k,
                       const struct train_beside *beside)
{
    train_gemm_phase(me, net->gemm,
                     &(struct train_product){.m = net->n_rows,
                                             .n = k,
                                             .k = n,
                                             .alpha = 1.0f,
                                             .a = dy.f32,
                                             .a16 = dy.bf16,
                                             .lda = n,
                                             .b = net->params + w,
                                             .ldb = k,
                                             .c = dx,
                                             .ldc = k,
                                             .beside = beside});
}

/* dW [n][k] += dy^T x, dbias [n] += sums of dy */
static void weight_back(struct infer_member *me, struct net *net,
                        const struct net_linear *l, struct net_kept dy,
                        struct net_input x, size_t n, size_t k)
{
    float *db = l->bias == NET_NONE ? NULL : net->grads + l->bias;

    train_gemm_phase(me, net->gemm,
                     &(struct train_product){.ta = true,
                                             .m = n,
                                             .n = k,
                                             .k = net->n_rows,
                                             .alpha = 1.0f,
                                             .a = dy.f32,
                                             .a16 = dy.bf16,
                                             .lda = n,
                                             .b = x.f32,
                                             .packed = x.packed,
                                             .ldb = k,
                                             .beta = 1.0f,
                                             .c = net->grads + l->w,
                                             .ldc = k,
                                             .a_sums = db});
}

/* dx += gradient through a norm of rows that become the normed rows. */
struct norm_back {
    const struct net *net;
    const float *x, *stat;
    size_t w, b;
};

static void block_back(const struct norm_back *m, float *dy, size_t row,
                       size_t rows)
{
    const struct net *net = m->net;
    const size_t d = net->shape.d_model;
    const float *p = net->params, *x = m->x + row * d;
    float *dx = net->dx + row * d;
    float *dw = net->partial + row / TRAIN_ROW_BLOCK * 2 * d;

    memset(dw, 0, 2 * d * sizeof(*dw));
    if (net_post_norm(&net->shape)) { /* all of dx came through the norm */
        for (size_t r = 0; r < rows; r++)
            net->ops->blend(dy + r * d, 1.0f, dx + r * d, 1.0f, d);
        memset(dx, 0, rows * d * sizeof(*dx));
    }
    if (m->b == NET_NONE)
        net->ops->rmsnorm_back(dx, dw, dy, dy, x, p + m->w, m->stat + row, rows,
                               d);
    else
        net->ops->layernorm_back(dx, dw, dw + d, dy, dy, x, p + m->w, p + m->b,
                                 m->stat + 2 * row, rows, d);
    if (net->half && x != net->x_out + row * d) /* the head's are in h */
        train_packed_rows(net->normed.packed, dy, d, row, rows, 0, d);
}

static void finish_norm_back(const void *arg, float *c, size_t ldc, size_t row,
                             size_t rows, size_t c0, size_t c1)
{
    (void)c0;
    (void)c1;
    for (size_t r = 0; r < rows; r += TRAIN_ROW_BLOCK)
        block_back(arg, c + r * ldc, row + r,
                   rows - r < TRAIN_ROW_BLOCK ? rows - r : TRAIN_ROW_BLOCK);
}

/* The norm's own gradients, from those of all blocks. */
static void gather_norm(const struct infer_member *me, struct net *net,
                        const struct norm_back *m)
{
    const size_t d = net->shape.d_model;
    size_t c0, c1;

    infer_team_share(me, d, 16, &c0, &c1);
    for (size_t row = 0; row < net->n_rows; row += TRAIN_ROW_BLOCK) {
        const float *part = net->partial + row / TRAIN_ROW_BLOCK * 2 * d;

        net->ops->blend(net->grads + m->w + c0, 1, part + c0, 1, c1 - c0);
        if (m->b != NET_NONE)
            net->ops->blend(net->grads + m->b + c0, 1, part + d + c0, 1,
                            c1 - c0);
    }
}

/* Through a product and the norm before it. */
static void norm_linear_back(struct infer_member *me, struct net *net,
                             const struct norm_back *m,
                             const struct net_linear *l, struct net_kept dy,
                             size_t n)
{
    const size_t d = net->shape.d_model;
    const struct train_beside beside = {
        .finish = finish_norm_back, .finish_arg = m, .whole = true};

    input_back(me, net, net->half ? NULL : net->wide, dy, l->w, n, d, &beside);
    gather_norm(me, net, m);
    weight_back(me, net, l, dy, net->normed, n, d);
}

/* The gradient that enters a branch: all of dx, or what was not dropped. */
static struct net_kept branch_gradient(const struct infer_member *me,
                                       struct net *net, uint32_t site)
{
    const size_t d = net->shape.d_model;
    const struct nn_dropout drop = net_dropout(net, site);
    size_t r0, r1;

    if (!net->dropping)
        return (struct net_kept){.f32 = net->dx};
    net_rows(me, net, &r0, &r1);
    net->ops->dropout(net->drop + r0 * d, net->dx + r0 * d, &drop,
                      net->first_row + r0, r1 - r0, d);
    return (struct net_kept){.f32 = net->drop};
}

/* Rows of a gradient become activation(u), u its gradient. */
struct activation_back {
    const struct net *net;
    struct net_kept u;
};

static void activate_back(const struct net *net, float *u, float *dh,
                          size_t rows, size_t f)
{
    (net_gated(&net->shape) ? net->ops->swiglu_back
     : net->shape.relu2     ? net->ops->relu2_back
                            : net->ops->gelu_back)(u, dh, rows, f);
}

static void finish_activation_back(const void *arg, float *c, size_t ldc,
                                   size_t row, size_t rows, size_t c0,
                                   size_t c1)
{
    const struct activation_back *a = arg;
    const struct net *net = a->net;
    const size_t in = net_up_width(&net->shape);
    float part[2 * NET_UP_PART];

    if (a->u.f32) {
        activate_back(net, a->u.f32 + row * in, c, rows, net->shape.d_ff);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t at = c0; at < c1; at += NET_UP_PART) {
            const size_t n = c1 - at < NET_UP_PART ? c1 - at : NET_UP_PART;
            uint16_t *u = a->u.bf16 + (row + r) * in;

            net_up_load(net, part, u, at, n);
            activate_back(net, part, c + r * ldc + at - c0, 1, n);
            net_up_store(net, u, part, at, n);
        }
    train_packed_rows(net->act.packed, c, ldc, row, rows, c0, c1);
}

static void ffn_back(struct infer_member *me, struct net *net, uint32_t i)
{
    const struct net_shape *s = &net->shape;
    const struct net_layer *y = &net->layers[i];
    const size_t d = s->d_model, f = s->d_ff;
    const struct net_kept dy = branch_gradient(me, net, net_site(i, true));
    const struct activation_back act = {net, y->up_out};
    const struct train_beside beside = {.finish = finish_activation_back,
                                        .finish_arg = &act};
    const struct norm_back norm = {net, y->x_mid, y->stat2, y->norm2,
                                   y->norm2_b};

    input_back(me, net, net->act.f32, dy, y->down.w, d, f, &beside);
    weight_back(me, net, &y->down, dy, net->act, d, f);
    norm_linear_back(me, net, &norm, &y->up, y->up_out, net_up_width(s));
}

static void attention_back(struct infer_member *me, struct net *net, uint32_t i)
{
    const struct net_shape *s = &net->shape;
    const struct net_layer *y = &net->layers[i];
    const size_t d = s->d_model, nq = net_nq(s);
    const struct net_kept dy = branch_gradient(me, net, net_site(i, false));
    const struct nn_attn a = net_attn(net, y);
    const int64_t units = (int64_t)(net->n_seqs * a.n_kv_heads);
    const struct norm_back norm = {net, y->x, y->stat1, y->norm1, y->norm1_b};

    input_back(me, net, net->wide, dy, y->out.w, d, nq, NULL);
    weight_back(me, net, &y->out, dy, (struct net_input){.f32 = y->att}, d, nq);
    for (int64_t unit; (unit = infer_team_take(me, units, 1)) >= 0;)
        net->ops->attention_back(&a, (size_t)unit, net->scratch[me->id]);
    norm_linear_back(me, net, &norm, &y->qkv_at, y->qkv, net_nqkv(s));
}

/* Columns [c0, c1) of the gradients of places and of the token type. */
static void places_back(struct net *net, size_t c0, size_t c1)
{
    const size_t d = net->shape.d_model;
    float *pos = net->grads + net->pos, *type = net->grads + net->type;
    size_t s = 0;

    for (size_t r = 0; r < net->n_rows; r++) {
        const float *dx = net->dx + r * d + c0;

        while (net->starts[s + 1] <= r)
            s++;
        net->ops->blend(pos + (r - net->starts[s]) * d + c0, 1.0f, dx, 1.0f,
                        c1 - c0);
        net->ops->blend(type + c0, 1.0f, dx, 1.0f, c1 - c0);
    }
}

static void embedding_back(struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    const struct nn_dropout drop = net_dropout(net, NET_SITE_EMBED);
    const bool places = net->pos != NET_NONE;
    float *dpos = places && !net->starts ? net->grads + net->pos : NULL;
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
    if (places && net->starts)
        places_back(net, c0, c1);
}

void net_backward(struct infer_member *me, struct net *net)
{
    const size_t d = net->shape.d_model;
    const struct norm_back last = {net, net->x_out, net->stat_out, net->norm,
                                   net->norm_b};
    size_t r0, r1;

    net_rows(me, net, &r0, &r1);
    memset(net->dx + r0 * d, 0, (r1 - r0) * d * sizeof(*net->dx));
    finish_norm_back(&last, net->wide + r0 * d, d, r0, r1 - r0, 0, d);
    infer_team_barrier(me);
    gather_norm(me, net, &last);
    for (uint32_t i = net->shape.n_layers; i-- > 0;) {
        ffn_back(me, net, i);
        attention_back(me, net, i);
    }
    embedding_back(me, net);
}
