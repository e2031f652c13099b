/*
 * test_train_layers.c - every layer's backward pass against finite differences
 * of its forward pass, in double: the layers are compiled here a second time
 * with doubles, so that the central difference has ~10 digits.
 *
 * For a layer y = f(x) and weights c, the objective is sum(c * y) with random
 * c; what the backward pass gives for dy = c is its gradient.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NN_REAL double
#define NN_DOUBLE
#define nn_layers nn_layers_double
#include "trainer/nn/layers.inc.h"

#include <stdlib.h>

enum { MAX_N = 1 << 15 };

static const struct nn_layers *const L = &layers_table;
static uint64_t rng = 1;

static double uniform(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (double)(rng >> 11) / 9007199254740992.0 * 2.0 - 1.0;
}

static double *randoms(size_t n)
{
    double *x = malloc(n * sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = uniform();
    return x;
}

/* One input of a layer under test: its values and what backward says. */
struct input {
    double *x;
    const double *dx;
    size_t n;
};

typedef double forward_fn(void *arg);

/* Every derivative of every input; few, as shapes are small. */
static void check_gradients(const char *what, forward_fn *f, void *arg,
                            const struct input *in, size_t n_in)
{
    const double h = 1e-5;

    for (size_t k = 0; k < n_in; k++)
        for (size_t i = 0; i < in[k].n; i++) {
            const double x = in[k].x[i];

            in[k].x[i] = x + h;
            const double hi = f(arg);

            in[k].x[i] = x - h;
            const double lo = f(arg);

            in[k].x[i] = x;
            const double want = (hi - lo) / (2 * h), got = in[k].dx[i];

            if (!(fabs(got - want) <= 1e-7 * (1 + fabs(want))))
                fail_msg("%s: input %zu, value %zu: %.10g, not %.10g", what, k,
                         i, got, want);
        }
}

static double dot(const double *a, const double *b, size_t n)
{
    double s = 0;

    for (size_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

/* ---- norms --------------------------------------------------------------- */

struct norm_case {
    size_t rows, d;
    double *x, *w, *b, *c, *y, stat[64];
    bool rms;
};

static double norm_forward(void *arg)
{
    struct norm_case *n = arg;

    if (n->rms)
        L->rmsnorm(n->y, n->stat, NULL, n->x, n->w, NULL, n->rows, n->d, 1e-5);
    else
        L->layernorm(n->y, n->stat, NULL, n->x, n->w, n->b, NULL, n->rows, n->d,
                     1e-5);
    return dot(n->y, n->c, n->rows * n->d);
}

static void check_norm(size_t rows, size_t d, bool rms)
{
    const size_t all = rows * d;
    struct norm_case n = {.rows = rows, .d = d, .rms = rms};
    double *dx = calloc(all, sizeof(*dx)), *h = randoms(all);
    double *dw = calloc(d, sizeof(*dw)), *db = calloc(d, sizeof(*db));

    n.x = randoms(all);
    n.w = randoms(d);
    n.b = randoms(d);
    n.c = randoms(all);
    n.y = randoms(all);
    norm_forward(&n);
    if (rms)
        L->rmsnorm_back(dx, dw, h, n.c, n.x, n.w, n.stat, rows, d);
    else
        L->layernorm_back(dx, dw, db, h, n.c, n.x, n.w, n.b, n.stat, rows, d);
    for (size_t i = 0; i < all; i++)
        assert_true(fabs(h[i] - n.y[i]) < 1e-12);
    check_gradients(
        rms ? "rmsnorm" : "layernorm", norm_forward, &n,
        (struct input[]){{n.x, dx, all}, {n.w, dw, d}, {n.b, db, rms ? 0 : d}},
        3);
    free(n.x);
    free(n.w);
    free(n.b);
    free(n.c);
    free(n.y);
    free(dx);
    free(h);
    free(dw);
    free(db);
}

static void test_norms(void **state)
{
    (void)state;
    for (size_t d = 1; d < 40; d += 5)
        for (int rms = 0; rms < 2; rms++)
            check_norm(3, d, rms);
}

/* The row that goes on as the residual stream is the input plus the bias. */
static void test_norm_next(void **state)
{
    double x[10], w[5], b[5], y[10], next[10], stat[4];

    (void)state;
    for (size_t i = 0; i < 10; i++)
        x[i] = uniform();
    for (size_t i = 0; i < 5; i++)
        w[i] = b[i] = uniform();
    L->layernorm(y, stat, next, x, w, w, b, 2, 5, 1e-5);
    for (size_t i = 0; i < 10; i++)
        assert_true(next[i] == x[i] + b[i % 5]);
    L->rmsnorm(y, stat, next, x, w, NULL, 2, 5, 1e-5);
    assert_memory_equal(next, x, sizeof(x));
}

/* ---- activations --------------------------------------------------------- */

struct act_case {
    void (*f)(double *, const double *, size_t, size_t);
    size_t rows, width;
    double *x, *c, *h;
};

static double act_forward(void *arg)
{
    struct act_case *a = arg;

    a->f(a->h, a->x, a->rows, a->width);
    return dot(a->h, a->c, a->rows * a->width);
}

static void test_activations(void **state)
{
    static const struct {
        const char *name;
        size_t parts;
    } kinds[] = {{"swiglu", 2}, {"gelu", 1}, {"relu2", 1}};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (size_t f = 1; f < 12; f += 3) {
            const size_t n = 3 * f, n_in = n * kinds[i].parts;
            struct act_case a = {.rows = 3, .width = f};
            double *dx, *dh;

            a.f = i == 0 ? L->swiglu : i == 1 ? L->gelu : L->relu2;
            a.x = randoms(n_in);
            a.c = randoms(n);
            a.h = randoms(n);
            act_forward(&a);
            dx = randoms(n_in);
            dh = randoms(n);
            memcpy(dx, a.x, n_in * sizeof(*dx));
            memcpy(dh, a.c, n * sizeof(*dh));
            (i == 0   ? L->swiglu_back
             : i == 1 ? L->gelu_back
                      : L->relu2_back)(dx, dh, 3, f);
            for (size_t j = 0; j < n; j++)
                assert_true(fabs(dh[j] - a.h[j]) < 1e-12);
            check_gradients(kinds[i].name, act_forward, &a,
                            (struct input[]){{a.x, dx, n_in}}, 1);
            free(a.x);
            free(a.c);
            free(a.h);
            free(dx);
            free(dh);
        }
}

static void test_bias(void **state)
{
    double x[21] = {0}, b[7], db[7] = {0}, c[21];

    (void)state;
    for (size_t i = 0; i < 7; i++)
        b[i] = uniform();
    for (size_t i = 0; i < 21; i++)
        c[i] = uniform();
    L->add_bias(x, b, 3, 7);
    L->add_bias_back(db, c, 3, 7, 0, 4);
    L->add_bias_back(db, c, 3, 7, 4, 7);
    for (size_t i = 0; i < 21; i++)
        assert_true(x[i] == b[i % 7]);
    for (size_t i = 0; i < 7; i++)
        assert_true(fabs(db[i] - (c[i] + c[i + 7] + c[i + 14])) < 1e-12);
}

/* ---- dropout ------------------------------------------------------------- */

static void test_dropout(void **state)
{
    enum { ROWS = 64, D = 100, N = ROWS * D };
    const struct nn_dropout drop = {
        .key = {7, 9}, .threshold = UINT32_MAX / 4, .scale = 4.0 / 3.0};
    double *x = randoms(N), *y = randoms(N), *part = randoms(N);
    size_t zeros = 0;

    (void)state;
    L->dropout(y, x, &drop, 0, ROWS, D);
    for (size_t i = 0; i < N; i++) {
        zeros += y[i] == 0;
        assert_true(y[i] == 0 || y[i] == x[i] * drop.scale);
    }
    assert_in_range(zeros, N / 4 - 150, N / 4 + 150); /* 4 sigma */
    /* the same whoever computes which rows */
    L->dropout(part, x, &drop, 0, 10, D);
    L->dropout(part + 10 * D, x + 10 * D, &drop, 10, ROWS - 10, D);
    assert_memory_equal(part, y, N * sizeof(*y));
    L->residual(part, x, x, &drop, 0, ROWS, D);
    for (size_t i = 0; i < N; i++)
        assert_true(part[i] == x[i] + y[i]);
    free(x);
    free(y);
    free(part);
}

/* ---- embedding and rotation ---------------------------------------------- */

static void test_embedding(void **state)
{
    enum { V = 5, D = 6, T = 3, R = 6 };
    static const int32_t tokens[R] = {4, 0, 4, 2, 2, 1};
    double *tok = randoms(V * D), *pos = randoms(T * D), *c = randoms(R * D);
    double x[R * D], dtok[V * D] = {0}, dpos[T * D] = {0};
    double want[V * D] = {0}, want_pos[T * D] = {0};

    (void)state;
    L->embed(x, tok, pos, tokens, 0, 2, T, D);
    L->embed(x + 2 * D, tok, pos, tokens + 2, 2, R - 2, T, D);
    L->embed_back(dtok, dpos, c, tokens, R, T, D, 0, 4);
    L->embed_back(dtok, dpos, c, tokens, R, T, D, 4, D);
    for (int r = 0; r < R; r++)
        for (int i = 0; i < D; i++) {
            assert_true(x[r * D + i] ==
                        tok[tokens[r] * D + i] + pos[r % T * D + i]);
            want[tokens[r] * D + i] += c[r * D + i];
            want_pos[r % T * D + i] += c[r * D + i];
        }
    assert_memory_equal(dtok, want, sizeof(want));
    assert_memory_equal(dpos, want_pos, sizeof(want_pos));
    free(tok);
    free(pos);
    free(c);
}

static void fill_angles(double *cs, size_t n_tokens, size_t k)
{
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t i = 0; i < k / 2; i++) {
            cs[t * k + 2 * i] = cos((double)t * pow(0.3, (double)i));
            cs[t * k + 2 * i + 1] = sin((double)t * pow(0.3, (double)i));
        }
}

/* Linear: the gradient of sum(c * rope(x)) by x is rope_back(c). */
static void test_rope(void **state)
{
    enum { T = 5, K = 6 };
    double cs[T * K], x[T * K], y[T * K], c[T * K], dx[T * K];

    (void)state;
    fill_angles(cs, T, K);
    for (int halves = 0; halves < 2; halves++) {
        for (int i = 0; i < T * K; i++) {
            y[i] = x[i] = uniform();
            dx[i] = c[i] = uniform();
        }
        L->rope(y, K, cs, T, K, halves);
        L->rope_back(dx, K, cs, T, K, halves);
        assert_true(fabs(dot(c, y, T * K) - dot(dx, x, T * K)) < 1e-12);
        /* the pair of position t turns by t * 0.3^i */
        const int a = halves ? 1 : 2, b = halves ? 1 + K / 2 : 3;

        assert_true(fabs(y[2 * K + a] - (x[2 * K + a] * cos(2 * 0.3) -
                                         x[2 * K + b] * sin(2 * 0.3))) < 1e-12);
    }
}

/* ---- attention ----------------------------------------------------------- */

struct attn_case {
    struct nn_attn a;
    size_t n_seqs;
    const double *qkv; /* input; a.qkv is a copy, as backward overwrites it */
    double *c, *scratch;
    size_t total; /* rows of packed sequences */
};

static double attn_forward(void *arg)
{
    struct attn_case *t = arg;

    for (size_t u = 0; u < t->n_seqs * t->a.n_kv_heads; u++)
        L->attention(&t->a, u, t->scratch);
    const size_t rows = t->a.starts ? t->total : t->n_seqs * t->a.n_tokens;

    return dot(t->a.out, t->c, rows * t->a.n_heads * t->a.d_head);
}

/* The definition, row by row. */
static double attn_plain(const struct attn_case *t, size_t row0, size_t T,
                         size_t row, size_t h, size_t i)
{
    const struct nn_attn *a = &t->a;
    const size_t K = a->d_head;
    const size_t ld = (a->n_heads + 2 * a->n_kv_heads) * K;
    const size_t g = h / (a->n_heads / a->n_kv_heads);
    double num = 0, den = 0;

    for (size_t j = 0; j < (a->both ? T : row + 1); j++) {
        double q[64], k[64];

        memcpy(q, a->qkv + (row0 + row) * ld + h * K, K * sizeof(*q));
        memcpy(k, a->qkv + (row0 + j) * ld + (a->n_heads + g) * K,
               K * sizeof(*k));
        if (a->cs) {
            L->rope(q, K, a->cs + row * K, 1, K, a->halves);
            L->rope(k, K, a->cs + j * K, 1, K, a->halves);
        }
        const double p = exp(dot(q, k, K) / sqrt((double)K));

        num +=
            p *
            a->qkv[(row0 + j) * ld + (a->n_heads + a->n_kv_heads + g) * K + i];
        den += p;
    }
    return num / den;
}

static void check_attention(size_t n_seqs, size_t T, size_t H, size_t G,
                            size_t K, bool rotated, bool halves, bool all)
{
    const size_t rows = n_seqs * T, ld = (H + 2 * G) * K, n = rows * ld;
    double *cs = randoms(T * K);
    struct attn_case t = {.n_seqs = n_seqs};
    double *dx = randoms(n);

    fill_angles(cs, T, K);
    t.c = randoms(rows * H * K);
    t.scratch = randoms(L->attention_scratch(T, K));
    t.a = (struct nn_attn){.qkv = randoms(n),
                           .out = randoms(rows * H * K),
                           .lse = randoms(rows * H),
                           .dout = t.c,
                           .cs = rotated ? cs : NULL,
                           .halves = halves,
                           .n_tokens = T,
                           .n_heads = H,
                           .n_kv_heads = G,
                           .d_head = K};
    attn_forward(&t);
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < H; h++)
            assert_true(fabs(t.a.out[(r * H + h) * K] -
                             attn_plain(&t, r / T * T, T, r % T, h, 0)) <
                        1e-12);
    memcpy(dx, t.a.qkv, n * sizeof(*dx));
    struct nn_attn back = t.a;

    back.qkv = dx;
    for (size_t u = 0; u < n_seqs * G; u++)
        L->attention_back(&back, u, t.scratch);
    /* long ones: the last rows only, which see every tile */
    const size_t from = all ? 0 : n - 3 * ld;

    check_gradients("attention", attn_forward, &t,
                    (struct input[]){{t.a.qkv + from, dx + from, n - from},
                                     {t.a.qkv, dx, all ? 0 : ld}},
                    2);
    free(cs);
    free(dx);
    free(t.c);
    free(t.scratch);
    free(t.a.qkv);
    free(t.a.out);
    free(t.a.lse);
}

/* Sequences of several lengths, packed: what the definition gives for each,
 * and gradients of it. */
static void check_packed(const uint32_t *starts, size_t n_seqs, size_t H,
                         size_t G, size_t K, bool both)
{
    const size_t rows = starts[n_seqs], ld = (H + 2 * G) * K, n = rows * ld;
    double *cs = randoms(200 * K), *dx = randoms(n);
    struct attn_case t = {.n_seqs = n_seqs};
    struct nn_attn back;

    fill_angles(cs, 200, K);
    t.c = randoms(rows * H * K);
    t.scratch = randoms(L->attention_scratch(200, K));
    t.a = (struct nn_attn){.qkv = randoms(n),
                           .out = randoms(rows * H * K),
                           .lse = randoms(rows * H),
                           .dout = t.c,
                           .cs = cs,
                           .both = both,
                           .starts = starts,
                           .n_heads = H,
                           .n_kv_heads = G,
                           .d_head = K};
    t.a.n_tokens = 0;
    for (size_t u = 0; u < n_seqs * G; u++)
        L->attention(&t.a, u, t.scratch);
    for (size_t b = 0; b < n_seqs; b++)
        for (size_t r = starts[b]; r < starts[b + 1]; r++)
            for (size_t h = 0; h < H; h++)
                assert_true(
                    fabs(t.a.out[(r * H + h) * K] -
                         attn_plain(&t, starts[b], starts[b + 1] - starts[b],
                                    r - starts[b], h, 0)) < 1e-12);
    memcpy(dx, t.a.qkv, n * sizeof(*dx));
    back = t.a;
    back.qkv = dx;
    for (size_t u = 0; u < n_seqs * G; u++)
        L->attention_back(&back, u, t.scratch);
    t.total = rows;
    check_gradients(
        "packed attention", attn_forward, &t,
        (struct input[]){{t.a.qkv, dx, n < 600 ? n : 2 * ld},
                         {t.a.qkv + n - 2 * ld, dx + n - 2 * ld, 2 * ld}},
        2);
    free(cs);
    free(dx);
    free(t.c);
    free(t.scratch);
    free(t.a.qkv);
    free(t.a.out);
    free(t.a.lse);
}

static void test_packed_attention(void **state)
{
    static const uint32_t one[] = {0, 5}, few[] = {0, 3, 4, 11};
    static const uint32_t many[] = {0, 70, 71, 135, 265};

    (void)state;
    check_packed(one, 1, 1, 1, 4, true);
    check_packed(few, 3, 4, 2, 6, true);
    check_packed(few, 3, 2, 2, 2, false);
    check_packed(many, 4, 2, 1, 2, true);
    check_packed(many, 4, 1, 1, 4, false);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(2, 5, 2, 2, 6, false, false, true);
    check_attention(1, 7, 4, 2, 4, true, false, true);
    check_attention(2, 3, 3, 1, 2, true, true, true);
    check_attention(1, 1, 1, 1, 8, true, false, true);
    check_attention(1, 70, 2, 1, 4, true, false, false);
    check_attention(2, 64, 1, 1, 3, false, false, false);
    check_attention(1, 130, 1, 1, 2, true, true, false);
}

/* ---- loss ---------------------------------------------------------------- */

struct loss_case {
    size_t rows, v;
    double *x, smoothing;
    int32_t *targets;
};

static double loss_forward(void *arg)
{
    const struct loss_case *c = arg;
    double *copy = malloc(c->rows * c->v * sizeof(*copy));
    double loss[8], nll[8], sum = 0;

    assert_non_null(copy);
    memcpy(copy, c->x, c->rows * c->v * sizeof(*copy));
    L->cross_entropy(copy, c->targets, loss, nll, c->rows, c->v, c->smoothing,
                     false, 0);
    for (size_t r = 0; r < c->rows; r++)
        sum += loss[r];
    free(copy);
    return sum * 0.5;
}

static void test_cross_entropy(void **state)
{
    int32_t targets[4] = {0, -1, 2, 1};

    (void)state;
    for (size_t v = 3; v < 30; v += 4)
        for (int s = 0; s < 2; s++) {
            struct loss_case c = {
                .rows = 4, .v = v, .smoothing = 0.1 * s, .targets = targets};
            double *dx, loss[4], nll[4], sum = 0;

            c.x = randoms(4 * v);
            for (size_t i = 0; i < 4 * v; i++)
                c.x[i] *= 5;
            dx = randoms(4 * v);
            memcpy(dx, c.x, 4 * v * sizeof(*dx));
            L->cross_entropy(dx, targets, loss, nll, 4, v, c.smoothing, true,
                             0.5);
            for (size_t i = 0; i < v; i++)
                sum += exp(c.x[i]);
            assert_true(fabs(nll[0] - (log(sum) - c.x[0])) < 1e-12);
            assert_true(loss[1] == 0 && nll[1] == 0);
            check_gradients("cross-entropy", loss_forward, &c,
                            (struct input[]){{c.x, dx, 4 * v}}, 1);
            free(c.x);
            free(dx);
        }
}

/* ---- heads --------------------------------------------------------------- */

struct head_case {
    size_t rows, c;
    double *z, *targets, *weights, *y, *len;
    int kind;
};

static double head_forward(void *arg)
{
    struct head_case *h = arg;
    const size_t n = h->rows * h->c;
    double work[64];

    if (h->kind == 0)
        return 0.5 *
               L->binary(h->z, h->targets, h->weights, h->rows, h->c, false, 0);
    if (h->kind == 1)
        return 0.5 * L->squares(h->z, h->targets, n, false, 0);
    if (h->kind == 2)
        return 0.5 * L->pair_order(h->z, h->targets, n, 0.3, false, 0, work);
    L->unit(h->y, h->len, h->z, h->rows, h->c);
    return dot(h->y, h->targets, n);
}

static void test_heads(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct head_case h = {.rows = 3, .c = 7, .kind = kind};
        const size_t n = h.rows * h.c;
        double *dx = calloc(n, sizeof(*dx)), work[64];

        h.z = randoms(n);
        h.y = randoms(n);
        h.len = randoms(h.rows);
        h.weights = randoms(h.c);
        h.targets = randoms(n);
        for (size_t i = 0; i < n; i++) {
            h.z[i] *= 4;
            h.targets[i] = fabs(h.targets[i]);
        }
        for (size_t i = 0; i < h.c; i++)
            h.weights[i] = 1 + fabs(h.weights[i]);
        h.targets[3] = h.targets[5] = 0.25; /* a tie has no order */
        if (kind < 3)
            memcpy(dx, h.z, n * sizeof(*dx));
        if (kind == 0)
            L->binary(dx, h.targets, h.weights, 3, 7, true, 0.5);
        if (kind == 1)
            L->squares(dx, h.targets, n, true, 0.5);
        if (kind == 2)
            L->pair_order(dx, h.targets, n, 0.3, true, 0.5, work);
        head_forward(&h);
        if (kind == 3)
            L->unit_back(dx, h.targets, h.y, h.len, 3, 7);
        check_gradients("head", head_forward, &h,
                        (struct input[]){{h.z, dx, n}}, 1);
        free(dx);
        free(h.z);
        free(h.y);
        free(h.len);
        free(h.weights);
        free(h.targets);
    }
}

/* Values worked out by hand; large logits do not overflow. */
static void test_head_values(void **state)
{
    double z[4] = {0, 1000, -1000, 0}, t[4] = {1, 1, 0, 0}, w[2] = {3, 1};
    double s[2] = {0.5, 0.5}, order[2] = {2, 1}, work[2];

    (void)state;
    assert_true(fabs(L->binary(z, t, NULL, 2, 2, false, 0) - 2 * log(2)) <
                1e-12);
    assert_true(fabs(L->binary(z, t, w, 2, 2, false, 0) - 4 * log(2)) < 1e-12);
    assert_true(L->squares(z, t, 1, false, 0) == 1.0);
    assert_true(fabs(L->pair_order(s, order, 2, 0.05, true, 1, work) - log(2)) <
                1e-12);
    assert_true(fabs(s[0] + 10) < 1e-9 && fabs(s[1] - 10) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_norm_next),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_packed_attention),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_head_values),
    };

    return cmocka_run_group_tests_name("train layers", tests, NULL, NULL);
}
