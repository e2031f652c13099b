/*
 * test_train_optim.c - optimizers against their definitions in double, the
 * average of parameters, schedules, and tiny nets that learn a batch by heart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/nn/optim.h"
#include "trainer/nn/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 4, T = 12, V = 30, N_STEPS = 4 };

static const struct net_shape shape = {.arch = NET_LLAMA,
                                       .n_vocab = V,
                                       .n_ctx = T,
                                       .n_layers = 2,
                                       .n_heads = 2,
                                       .n_kv_heads = 1,
                                       .d_model = 32,
                                       .d_head = 16,
                                       .d_ff = 48,
                                       .rope_base = 10000.0f,
                                       .norm_eps = 1e-5f};

static struct infer_team *team;

static int setup(void **state)
{
    (void)state;
    return infer_team_create(&team, 2, 0, NULL);
}

static int teardown(void **state)
{
    (void)state;
    infer_team_free(team);
    return 0;
}

static struct net *make_net(void)
{
    struct net *net = NULL;

    assert_int_equal(net_create(&net, &shape, B, T, team, TRAIN_F32, NULL), 0);
    net_init(net, 2);
    return net;
}

/* Gradient i of step s: any numbers of different sizes. */
static double gradient(size_t i, int s)
{
    return sin((double)i * 1.7 + s) * (1.0 + (double)(i % 7)) * 1e-2;
}

/* ---- definitions ----------------------------------------------------------
 */

struct plain {
    double *p, *m, *v, *g;
};

static void plain_value(struct plain *a, size_t i, bool decays, double clip,
                        int step, const struct optim_config *c, double lr)
{
    const double wd = decays ? (double)c->weight_decay : 0.0;
    const double b1 = (double)c->beta1, b2 = (double)c->beta2;
    double g = a->g[i] * clip;

    if (c->kind == OPTIM_SGD || c->kind == OPTIM_ADAM)
        g += wd * a->p[i];
    if (c->kind == OPTIM_SGD) {
        a->m[i] = (double)c->momentum * a->m[i] + g;
        a->p[i] -= lr * a->m[i];
        return;
    }
    a->m[i] = b1 * a->m[i] + (1 - b1) * g;
    a->v[i] = b2 * a->v[i] + (1 - b2) * g * g;
    if (c->kind != OPTIM_ADAM)
        a->p[i] -= lr * wd * a->p[i];
    a->p[i] -= lr * (a->m[i] / (1 - pow(b1, step))) /
               (sqrt(a->v[i] / (1 - pow(b2, step))) + (double)c->eps);
}

/* x [r][c] = x times its Newton-Schulz polynomial, the plain way */
static void plain_improve(double *x, size_t r, size_t c)
{
    double *a = calloc(r * r, sizeof(*a)), *b = calloc(r * r, sizeof(*b));
    double *y = calloc(r * c, sizeof(*y));

    assert_true(a && b && y);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < r; j++)
            for (size_t k = 0; k < c; k++)
                a[i * r + j] += x[i * c + k] * x[j * c + k];
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < r; j++) {
            b[i * r + j] = -4.7750 * a[i * r + j];
            for (size_t k = 0; k < r; k++)
                b[i * r + j] += 2.0315 * a[i * r + k] * a[k * r + j];
        }
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < c; j++) {
            y[i * c + j] = 3.4445 * x[i * c + j];
            for (size_t k = 0; k < r; k++)
                y[i * c + j] += b[i * r + k] * x[k * c + j];
        }
    memcpy(x, y, r * c * sizeof(*x));
    free(a);
    free(b);
    free(y);
}

static void plain_muon(struct plain *a, const struct net_param *t, double clip,
                       const struct optim_config *c, double lr)
{
    const size_t rows = t->dims[1], cols = t->dims[0];
    const double mu = (double)c->momentum;
    double *x = malloc(t->n * sizeof(*x)), sum = 0.0;

    assert_non_null(x);
    for (size_t i = 0; i < t->n; i++) {
        const double g = a->g[t->offset + i] * clip;

        a->m[t->offset + i] = mu * a->m[t->offset + i] + g;
        x[i] = g + mu * a->m[t->offset + i];
        sum += x[i] * x[i];
    }
    for (size_t i = 0; i < t->n; i++)
        x[i] /= sqrt(sum);
    for (int i = 0; i < 5; i++)
        plain_improve(x, rows, cols);
    lr *= sqrt(fmax(1.0, (double)rows / (double)cols));
    for (size_t i = 0; i < t->n; i++) {
        double *p = &a->p[t->offset + i];

        *p -= (double)c->lr * 0.5 * (double)c->weight_decay * *p + lr * x[i];
    }
    free(x);
}

static void plain_step(struct plain *a, const struct net_param *table,
                       size_t n_table, size_t n, int step,
                       const struct optim_config *c)
{
    double sum = 0.0, clip = 1.0;

    for (size_t i = 0; i < n; i++)
        sum += a->g[i] * a->g[i];
    if (c->clip > 0 && sqrt(sum) > (double)c->clip)
        clip = (double)c->clip / sqrt(sum);
    for (size_t k = 0; k < n_table; k++) {
        const struct net_param *t = &table[k];
        const bool muon = c->kind == OPTIM_MUON;
        const double lr =
            0.5 * (double)(muon && t->kind != NET_MATRIX ? c->other_lr : c->lr);

        if (muon && t->kind == NET_MATRIX) {
            plain_muon(a, t, clip, c, lr);
            continue;
        }
        for (size_t i = t->offset; i < t->offset + t->n; i++)
            plain_value(a, i, t->decay, clip, step, c, lr);
    }
}

static void check_kind(enum optim_kind kind)
{
    struct optim_config c = optim_default(kind);
    struct net *net = make_net();
    const size_t n = net_n_values(net);
    struct optim *o = NULL;
    const struct net_param *table;
    size_t n_table;
    struct plain a = {.p = calloc(n, sizeof(double)),
                      .m = calloc(n, sizeof(double)),
                      .v = calloc(n, sizeof(double)),
                      .g = calloc(n, sizeof(double))};

    c.weight_decay = 0.1f;
    assert_int_equal(optim_create(&o, net, &c, NULL), 0);
    table = net_param_table(net, &n_table);
    for (size_t i = 0; i < n; i++)
        a.p[i] = (double)net_params(net)[i];
    for (int s = 1; s <= N_STEPS; s++) {
        double sum = 0.0;

        for (size_t k = 0; k < n_table; k++)
            for (size_t i = table[k].offset; i < table[k].offset + table[k].n;
                 i++) {
                net_grads(net)[i] = (float)gradient(i, s);
                a.g[i] = (double)net_grads(net)[i];
                sum += a.g[i] * a.g[i];
            }
        assert_true(fabs(optim_step(o, 0.5f) / sqrt(sum) - 1) < 1e-5);
        plain_step(&a, table, n_table, n, s, &c);
    }
    assert_int_equal(optim_n_steps(o), N_STEPS);
    for (size_t i = 0; i < n; i++) {
        const double moved = (double)c.lr * 1e-2;

        if (!(fabs((double)net_params(net)[i] - a.p[i]) < moved))
            fail_msg("kind %d, value %zu: %.9g, not %.9g", (int)kind, i,
                     (double)net_params(net)[i], a.p[i]);
    }
    free(a.p);
    free(a.m);
    free(a.v);
    free(a.g);
    optim_free(o);
    net_free(net);
}

static void test_definitions(void **state)
{
    (void)state;
    for (int kind = OPTIM_SGD; kind <= OPTIM_MUON; kind++)
        check_kind((enum optim_kind)kind);
}

/* ---- behaviour ------------------------------------------------------------
 */

static void test_not_finite(void **state)
{
    const struct optim_config c = optim_default(OPTIM_ADAMW);
    struct net *net = make_net();
    const size_t bytes = net_n_values(net) * sizeof(float);
    float *before = malloc(bytes), *moments;
    struct optim *o = NULL;
    size_t n;

    (void)state;
    assert_non_null(before);
    memcpy(before, net_params(net), bytes);
    assert_int_equal(optim_create(&o, net, &c, NULL), 0);
    net_grads(net)[5] = NAN;
    assert_true(!isfinite(optim_step(o, 1.0f)));
    assert_int_equal(optim_n_steps(o), 0);
    assert_memory_equal(before, net_params(net), bytes);
    moments = optim_state(o, &n);
    for (size_t i = 0; i < n; i++)
        assert_true(moments[i] == 0.0f);
    free(before);
    optim_free(o);
    net_free(net);
}

/* Loss after n steps on one batch. */
static double learn(enum optim_kind kind, float lr, int n_steps)
{
    struct optim_config c = optim_default(kind);
    struct net *net = make_net();
    struct optim *o = NULL;
    int32_t tokens[B * T], targets[B * T];
    size_t n;

    c.lr = lr;
    assert_int_equal(optim_create(&o, net, &c, NULL), 0);
    for (int i = 0; i < B * T; i++) {
        tokens[i] = i % T == 0 ? i / T : (i * 7 + i / T * 3) % V;
        targets[i] = (i * i + 3 * i) % V;
    }
    for (int s = 0; s < n_steps; s++) {
        net_zero_grads(net);
        net_train(net, tokens, targets, B, T, 1.0f / (B * T), (uint64_t)s);
        assert_true(isfinite(optim_step(o, 1.0f)));
    }
    const double loss = net_eval(net, tokens, targets, B, T, &n) / (B * T);

    optim_free(o);
    net_free(net);
    return loss;
}

static void test_learn_by_heart(void **state)
{
    (void)state;
    assert_true(learn(OPTIM_SGD, 0.1f, 400) < 0.02);
    assert_true(learn(OPTIM_ADAM, 5e-3f, 200) < 0.02);
    assert_true(learn(OPTIM_ADAMW, 5e-3f, 200) < 0.02);
    assert_true(learn(OPTIM_MUON, 0.02f, 200) < 0.02);
}

/* State and step count are all there is: going on from a copy is the same. */
static void test_resume(void **state)
{
    const struct optim_config c = optim_default(OPTIM_MUON);
    struct net *a = make_net(), *b = make_net();
    struct optim *oa = NULL, *ob = NULL;
    const size_t bytes = net_n_values(a) * sizeof(float);
    size_t n, n_b;

    (void)state;
    assert_int_equal(optim_create(&oa, a, &c, NULL), 0);
    assert_int_equal(optim_create(&ob, b, &c, NULL), 0);
    for (int s = 0; s < 3; s++) {
        for (size_t i = 0; i < net_n_values(a); i++)
            net_grads(a)[i] = net_grads(b)[i] = (float)gradient(i, s);
        optim_step(oa, 1.0f);
    }
    memcpy(net_params(b), net_params(a), bytes);
    const float *from = optim_state(oa, &n);
    float *to = optim_state(ob, &n_b);

    assert_int_equal(n, n_b);
    memcpy(to, from, n * sizeof(*to));
    optim_set_n_steps(ob, optim_n_steps(oa));
    optim_step(oa, 0.7f);
    optim_step(ob, 0.7f);
    assert_memory_equal(net_params(a), net_params(b), bytes);
    assert_memory_equal(from, to, n * sizeof(*to));
    optim_free(oa);
    optim_free(ob);
    net_free(a);
    net_free(b);
}

static void test_bad_settings(void **state)
{
    struct net *net = make_net();
    struct infer_error err;
    enum optim_kind kind;

    (void)state;
    for (int i = 0; i < 5; i++) {
        struct optim_config c = optim_default(OPTIM_ADAM);
        struct optim *o = NULL;

        if (i == 0)
            c.lr = NAN;
        else if (i == 1)
            c.beta1 = 1.0f;
        else if (i == 2)
            c.eps = 0.0f;
        else if (i == 3)
            c.weight_decay = -1.0f;
        else
            c.clip = INFINITY;
        assert_int_equal(optim_create(&o, net, &c, &err), INFER_EINVAL);
        assert_null(o);
    }
    assert_int_equal(optim_parse("adagrad", &kind, &err), INFER_EINVAL);
    assert_non_null(strstr(err.text, "'adagrad'"));
    assert_int_equal(optim_parse("muon", &kind, &err), 0);
    assert_int_equal(kind, OPTIM_MUON);
    net_free(net);
}

static void test_ema(void **state)
{
    struct net *net = make_net();
    struct ema *e = NULL;
    const size_t n = net_n_values(net);
    double want;

    (void)state;
    assert_int_equal(ema_create(&e, net, 1.0f, NULL), INFER_EINVAL);
    assert_int_equal(ema_create(&e, net, 0.2f, NULL), 0);
    want = (double)net_params(net)[3];
    for (int s = 0; s < 5; s++) {
        const double keep = fmin(0.2, (1.0 + s) / (10.0 + s));

        for (size_t i = 0; i < n; i++)
            net_params(net)[i] = (float)s;
        ema_update(e);
        want = want * keep + s * (1 - keep);
    }
    assert_true(fabs((double)ema_values(e)[3] - want) < 1e-6);
    assert_int_equal(ema_n_updates(e), 5);
    ema_swap(e);
    assert_true(fabs((double)net_params(net)[3] - want) < 1e-6);
    assert_true(ema_values(e)[3] == 4.0f);
    ema_swap(e);
    assert_true(net_params(net)[3] == 4.0f);
    ema_free(e);
    net_free(net);
}

/* ---- schedules ------------------------------------------------------------
 */

static void test_schedules(void **state)
{
    static const struct {
        enum schedule_kind kind;
        double at, want;
    } cases[] = {
        {SCHEDULE_CONSTANT, 0, 0.1},  {SCHEDULE_CONSTANT, 4, 0.5},
        {SCHEDULE_CONSTANT, 9, 1},    {SCHEDULE_CONSTANT, 99, 1},
        {SCHEDULE_COSINE, 0, 0.1},    {SCHEDULE_COSINE, 10, 1},
        {SCHEDULE_COSINE, 55, 0.6},   {SCHEDULE_COSINE, 100, 0.2},
        {SCHEDULE_COSINE, 1000, 0.2}, {SCHEDULE_LINEAR, 10, 1},
        {SCHEDULE_LINEAR, 55, 0.6},   {SCHEDULE_LINEAR, 100, 0.2},
        {SCHEDULE_WSD, 5, 0.6},       {SCHEDULE_WSD, 40, 1},
        {SCHEDULE_WSD, 70, 0.6},      {SCHEDULE_WSD, 100, 0.2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct schedule s = {.kind = cases[i].kind,
                                   .warmup = 10,
                                   .total = 100,
                                   .decay = 60,
                                   .final = 0.2};

        assert_int_equal(schedule_check(&s, NULL), 0);
        if (!(fabs(schedule_at(&s, cases[i].at) - cases[i].want) < 1e-12))
            fail_msg("case %zu: %g, not %g", i, schedule_at(&s, cases[i].at),
                     cases[i].want);
    }
}

static void test_bad_schedules(void **state)
{
    struct schedule s = {.kind = SCHEDULE_WSD, .total = 10};
    enum schedule_kind kind;
    struct infer_error err;

    (void)state;
    assert_int_equal(schedule_check(&s, &err), 0);
    s.warmup = 5;
    s.decay = 6;
    assert_int_equal(schedule_check(&s, &err), INFER_EINVAL);
    s.warmup = 11;
    assert_int_equal(schedule_check(&s, &err), INFER_EINVAL);
    s.warmup = 0;
    s.final = 2;
    assert_int_equal(schedule_check(&s, &err), INFER_EINVAL);
    assert_int_equal(schedule_parse("step", &kind, &err), INFER_EINVAL);
    assert_int_equal(schedule_parse("wsd", &kind, &err), 0);
    assert_int_equal(kind, SCHEDULE_WSD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_learn_by_heart),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_ema),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_bad_schedules),
    };

    return cmocka_run_group_tests_name("train optim", tests, setup, teardown);
}
