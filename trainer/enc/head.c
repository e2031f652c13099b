/* head.c - see head.h. */
#include "trainer/enc/head.h"

#include "core/base/error.h"
#include "trainer/nn/layers.h"

#include <math.h>
#include <stdlib.h>

/* A product with a bias: its parameters and gradients. */
struct linear {
    float *w, *b, *dw, *db; /* [out][in], [out] */
    size_t out, in;
};

static struct linear linear_of(struct net *net, const char *weight,
                               const char *bias)
{
    const struct net_param *w = net_param_find(net, weight);
    const struct net_param *b = net_param_find(net, bias);

    if (!w || !b)
        return (struct linear){0};
    return (struct linear){.w = net_params(net) + w->offset,
                           .b = net_params(net) + b->offset,
                           .dw = net_grads(net) + w->offset,
                           .db = net_grads(net) + b->offset,
                           .out = (size_t)w->dims[1],
                           .in = (size_t)w->dims[0]};
}

static struct linear output_of(struct net *net)
{
    return linear_of(net, "cls.output.weight", "cls.output.bias");
}

static struct linear hidden_of(struct net *net)
{
    return linear_of(net, "cls.weight", "cls.bias");
}

static void forward(struct net *net, const struct linear *l, const float *x,
                    size_t n, float *y)
{
    train_gemm(net_gemm(net), false, true, n, l->out, l->in, 1.0f, x, l->in,
               l->w, l->in, 0.0f, y, l->out);
    nn_layers()->add_bias(y, l->b, n, l->out);
}

static void back(struct net *net, const struct linear *l, const float *x,
                 size_t n, const float *dy, float *dx)
{
    const struct train_gemm_ctx *g = net_gemm(net);

    nn_layers()->add_bias_back(l->db, dy, n, l->out, 0, l->out);
    train_gemm(g, true, false, l->out, l->in, n, 1.0f, dy, l->out, x, l->in,
               1.0f, l->dw, l->in);
    train_gemm(g, false, false, n, l->in, l->out, 1.0f, dy, l->out, l->w, l->in,
               0.0f, dx, l->in);
}

int enc_head_create(struct enc_head *h, struct net *net, size_t max_batch,
                    struct infer_error *err)
{
    const size_t n = max_batch * net_shape(net)->d_model;

    h->net = net;
    if (!net_shape(net)->dense)
        return 0;
    h->hidden = malloc(n * sizeof(*h->hidden));
    h->dback = malloc(n * sizeof(*h->dback));
    return h->hidden && h->dback
               ? 0
               : infer_fail(err, INFER_ENOMEM, "out of memory");
}

void enc_head_release(struct enc_head *h)
{
    free(h->hidden);
    free(h->dback);
    *h = (struct enc_head){0};
}

void enc_head_init(struct net *net)
{
    const struct linear l = hidden_of(net);

    for (size_t i = 0; i < l.out * l.in; i++)
        l.w[i] = i % (l.in + 1) ? 0.0f : 1.0f;
}

void enc_head_forward(struct enc_head *h, const float *vectors, size_t n,
                      float *logits)
{
    const struct linear out = output_of(h->net);

    if (h->hidden) {
        const struct linear l = hidden_of(h->net);

        forward(h->net, &l, vectors, n, h->hidden);
        for (size_t i = 0; i < n * l.out; i++)
            h->hidden[i] = tanhf(h->hidden[i]);
        vectors = h->hidden;
    }
    forward(h->net, &out, vectors, n, logits);
}

void enc_head_back(struct enc_head *h, const float *vectors, size_t n,
                   const float *dlogits, float *dvectors)
{
    const struct linear out = output_of(h->net);

    if (!h->hidden) {
        back(h->net, &out, vectors, n, dlogits, dvectors);
        return;
    }
    const struct linear l = hidden_of(h->net);

    back(h->net, &out, h->hidden, n, dlogits, h->dback);
    for (size_t i = 0; i < n * l.out; i++)
        h->dback[i] *= 1.0f - h->hidden[i] * h->hidden[i];
    back(h->net, &l, vectors, n, h->dback, dvectors);
}

void enc_head_scale(struct enc_head *h, double a, double b)
{
    const struct linear l = output_of(h->net);

    for (size_t i = 0; i < l.out * l.in; i++)
        l.w[i] *= (float)a;
    for (size_t i = 0; i < l.out; i++)
        l.b[i] = l.b[i] * (float)a + (float)b;
}
