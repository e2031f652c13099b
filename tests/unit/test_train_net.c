/*
 * test_train_net.c - whole nets: gradients against differences of the loss,
 * the same bits twice, masks, and a batch learned by heart.
 *
 * The net computes in f32, so a single derivative drowns in rounding. What is
 * compared is the slope along each tensor's own gradient, the steepest line
 * through it: large, and wrong if any part of the gradient is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/nn/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 3, T = 9, V = 37 };

struct batch {
    int32_t tokens[B * T], targets[B * T];
};

static struct batch make_batch(uint32_t seed)
{
    struct batch b;

    for (int i = 0; i < B * T; i++) {
        seed = seed * 1664525u + 1013904223u;
        b.tokens[i] = (int32_t)(seed >> 8) % V;
        b.targets[i] = i % 5 == 4 ? -1 : (int32_t)(seed >> 16) % V;
    }
    return b;
}

static struct net_shape base(enum net_arch arch)
{
    return (struct net_shape){.arch = arch,
                              .tied = true,
                              .n_vocab = V,
                              .n_ctx = 16,
                              .n_layers = 2,
                              .n_heads = 4,
                              .n_kv_heads = 4,
                              .d_model = 24,
                              .d_head = 6,
                              .d_ff = 40,
                              .rope_base = 10000.0f,
                              .norm_eps = 1e-5f};
}

static struct net *make_net(const struct net_shape *s, struct infer_team *team)
{
    struct infer_error err;
    struct net *net = NULL;

    if (net_create(&net, s, B, T, team, TRAIN_F32, &err))
        fail_msg("%s", err.text);
    net_init(net, 3);
    /* larger than fresh ones, so that every part of the net matters */
    for (size_t i = 0; i < net_n_values(net); i++)
        net_params(net)[i] *= net_params(net)[i] == 1.0f ? 1.1f : 8.0f;
    return net;
}

/* ---- gradients ------------------------------------------------------------
 */

/* An encoder's texts: a long one, a single token, a short one. Its loss is the
 * product of its vectors with fixed numbers. */
static double pooled_loss(struct net *net, const struct batch *b, bool back)
{
    static const uint32_t starts[] = {0, 9, 10, 14};
    const struct net_texts texts = {b->tokens, starts, 3};
    const size_t d = net_shape(net)->d_model;
    const float *v = net_encode(net, &texts, true, 7);
    float dpooled[3 * 24];
    double sum = 0.0;

    assert_true(d == 24);
    for (size_t i = 0; i < 3 * d; i++) {
        dpooled[i] = ((float)(i * 7919 % 13) - 6.0f) / 6.0f;
        sum += (double)v[i] * (double)dpooled[i];
    }
    if (back)
        net_encode_back(net, dpooled);
    return sum;
}

static double loss_at(struct net *net, const struct batch *b,
                      const struct net_param *p, const float *from,
                      const float *direction, double step)
{
    float *v = net_params(net) + p->offset;

    for (size_t i = 0; i < p->n; i++)
        v[i] = (float)((double)from[i] + step * (double)direction[i]);
    if (net_shape(net)->encoder)
        return pooled_loss(net, b, false);
    return net_train(net, b->tokens, b->targets, B, T, 0.0f, 7);
}

static void check_tensor(struct net *net, const struct batch *b,
                         const struct net_param *p, const float *grads)
{
    const float *g = grads + p->offset;
    float *v = net_params(net) + p->offset;
    float *from = malloc(p->n * sizeof(*from));
    double norm = 0.0;

    assert_non_null(from);
    memcpy(from, v, p->n * sizeof(*from));
    for (size_t i = 0; i < p->n; i++)
        norm += (double)g[i] * (double)g[i];
    norm = sqrt(norm);
    if (strstr(p->name, "attn_k.bias")) { /* shifts all scores of a row alike */
        free(from);
        assert_true(norm < 1e-3);
        return;
    }
    if (!(norm > 1e-3))
        fail_msg("%s has no gradient: %g", p->name, norm);
    const double h = 2e-2 / norm; /* a step of length 0.02 */
    const double d1 =
        loss_at(net, b, p, from, g, h) - loss_at(net, b, p, from, g, -h);
    const double d2 = loss_at(net, b, p, from, g, 2 * h) -
                      loss_at(net, b, p, from, g, -2 * h);
    const double slope = (8 * d1 - d2) / (12 * h); /* fourth order */

    memcpy(v, from, p->n * sizeof(*from));
    free(from);
    if (!(fabs(slope / (norm * norm) - 1) < 5e-3))
        fail_msg("%s: slope %.7g, gradient %.7g", p->name, slope / norm, norm);
}

static void check_shape(const struct net_shape *s, int n_threads)
{
    const struct batch b = make_batch(5);
    struct infer_team *team = NULL;
    const struct net_param *table;
    struct net *net;
    float *grads;
    size_t n;

    assert_int_equal(infer_team_create(&team, n_threads, 0, NULL), 0);
    net = make_net(s, team);
    table = net_param_table(net, &n);
    if (s->encoder)
        pooled_loss(net, &b, true);
    else
        net_train(net, b.tokens, b.targets, B, T, 1.0f, 7);
    grads = malloc(net_n_values(net) * sizeof(*grads));
    assert_non_null(grads);
    memcpy(grads, net_grads(net), net_n_values(net) * sizeof(*grads));
    for (size_t i = 0; i < n; i++) {
        /* positions that no token had */
        if (strstr(table[i].name, "position_embd")) {
            assert_true(table[i].dims[1] == s->n_ctx);
            for (size_t j = T * s->d_model; j < table[i].n; j++)
                assert_true(grads[table[i].offset + j] == 0.0f);
        }
        check_tensor(net, &b, &table[i], grads);
    }
    free(grads);
    net_free(net);
    infer_team_free(team);
}

static void test_llama(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    check_shape(&s, 2);
    s.tied = false;
    s.n_kv_heads = 2;
    s.d_head = 10; /* heads wider than the stream */
    check_shape(&s, 1);
    s.relu2 = true;
    s.dropout = 0.2f;
    s.label_smoothing = 0.1f;
    check_shape(&s, 2);
}

static void test_gpt2(void **state)
{
    struct net_shape s = base(NET_GPT2);

    (void)state;
    check_shape(&s, 2);
    s.tied = false;
    s.relu2 = true;
    s.dropout = 0.1f;
    check_shape(&s, 2);
}

static void test_encoder(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    s.encoder = true;
    s.pooling = NET_POOL_MEAN;
    check_shape(&s, 2);
    s.pooling = NET_POOL_FIRST;
    s.n_layers = 1;
    s.dropout = 0.2f;
    check_shape(&s, 2);
    s.pooling = NET_POOL_MEAN;
    s.n_layers = 0;
    check_shape(&s, 1);
}

static struct net_shape bert(void)
{
    struct net_shape s = base(NET_BERT);

    s.encoder = true;
    s.pooling = NET_POOL_MEAN;
    s.n_types = 2;
    s.norm_eps = 1e-12f;
    return s;
}

static void test_bert(void **state)
{
    struct net_shape s = bert();

    (void)state;
    check_shape(&s, 2);
    s.pooling = NET_POOL_FIRST;
    s.dropout = 0.2f;
    check_shape(&s, 2);
    s.n_layers = 0;
    check_shape(&s, 1);
}

/* A text's vector is the same alone and among others, and depends on each of
 * its tokens. */
static void check_alone(struct net_shape s)
{
    static const uint32_t starts[] = {0, 9, 10, 14}, one[] = {0, 4};
    struct batch b = make_batch(9);
    struct infer_team *team = NULL;
    float all[24];

    s.n_classes = 3;
    assert_int_equal(infer_team_create(&team, 2, 0, NULL), 0);
    struct net *net = make_net(&s, team);
    const struct net_param *head = net_param_find(net, "cls.output.weight");

    assert_non_null(head);
    assert_true(head->dims[0] == 24 && head->dims[1] == 3);
    assert_null(net_param_find(net, "output.weight"));
    memcpy(all,
           net_encode(net, &(struct net_texts){b.tokens, starts, 3}, false, 0) +
               2 * 24,
           sizeof(all));
    for (int i = -1; i < 4; i++) {
        if (i >= 0)
            b.tokens[10 + i] = (b.tokens[10 + i] + 1) % V;
        const float *v = net_encode(
            net, &(struct net_texts){b.tokens + 10, one, 1}, false, 0);

        for (int k = 0; k < 24; k++)
            assert_true((fabsf(v[k] - all[k]) < 1e-5f) == (i < 0));
        if (i >= 0)
            b.tokens[10 + i] = (b.tokens[10 + i] + V - 1) % V;
    }
    net_free(net);
    infer_team_free(team);
}

static void test_encoder_alone(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    s.encoder = true;
    s.pooling = NET_POOL_MEAN;
    check_alone(s);
    check_alone(bert());
}

/* ---- what stays the same --------------------------------------------------
 */

static void test_same_bits(void **state)
{
    const struct batch b = make_batch(6);
    struct net_shape s = base(NET_GPT2);
    struct infer_team *team = NULL;
    float *first;
    double loss = 0.0;

    (void)state;
    s.dropout = 0.2f;
    assert_int_equal(infer_team_create(&team, 2, 0, NULL), 0);
    struct net *net = make_net(&s, team);
    const size_t bytes = net_n_values(net) * sizeof(*first);

    first = malloc(bytes);
    assert_non_null(first);
    for (int i = 0; i < 20; i++) {
        net_zero_grads(net);
        const double again =
            net_train(net, b.tokens, b.targets, B, T, 0.5f, 11);

        if (i == 0) {
            memcpy(first, net_grads(net), bytes);
            loss = again;
        }
        assert_true(again == loss);
        assert_memory_equal(first, net_grads(net), bytes);
    }
    assert_true(net_train(net, b.tokens, b.targets, B, T, 0.5f, 12) != loss);
    free(first);
    net_free(net);
    infer_team_free(team);
}

/* A token does not see what comes after it, nor other sequences; rows that are
 * not counted give nothing; parts of a batch add up to the whole. */
static void test_independence(void **state)
{
    struct batch b = make_batch(8);
    struct net_shape s = base(NET_LLAMA);
    struct infer_team *team = NULL;
    size_t n, n_all, n_sum = 0;
    double sum = 0.0;

    (void)state;
    assert_int_equal(infer_team_create(&team, 2, 0, NULL), 0);
    struct net *net = make_net(&s, team);
    const double all = net_eval(net, b.tokens, b.targets, B, T, &n_all);

    for (int i = 0; i < B; i++, n_sum += n)
        sum += net_eval(net, b.tokens + i * T, b.targets + i * T, 1, T, &n);
    assert_int_equal(n_sum, n_all);
    assert_true(fabs(sum / all - 1) < 1e-6);
    for (int i = 0; i < B * T; i++)
        if (i % T >= 4)
            b.targets[i] = -1;
    const double before = net_eval(net, b.tokens, b.targets, B, T, &n);

    for (int i = 0; i < B * T; i++)
        if (i % T >= 4)
            b.tokens[i] = (b.tokens[i] + 1) % V;
    assert_true(
        fabs(net_eval(net, b.tokens, b.targets, B, T, &n) / before - 1) < 1e-6);
    for (int i = 0; i < B * T; i++)
        b.targets[i] = -1;
    net_zero_grads(net);
    assert_true(net_train(net, b.tokens, b.targets, B, T, 1.0f, 0) == 0.0);
    for (size_t i = 0; i < net_n_values(net); i++)
        assert_true(net_grads(net)[i] == 0.0f);
    net_free(net);
    infer_team_free(team);
}

/* Half a batch on each of two machines drops what the whole batch drops. */
static void test_part_of_batch(void **state)
{
    const struct batch b = make_batch(9);
    struct net_shape s = base(NET_LLAMA);
    struct infer_team *team = NULL;
    double largest = 0.0, sum = 0.0;

    (void)state;
    s.dropout = 0.3f;
    assert_int_equal(infer_team_create(&team, 2, 0, NULL), 0);
    struct net *net = make_net(&s, team);
    const size_t n = net_n_values(net);
    float *whole = malloc(n * sizeof(*whole));

    assert_non_null(whole);
    const double all = net_train(net, b.tokens, b.targets, B, T, 1.0f, 7);

    memcpy(whole, net_grads(net), n * sizeof(*whole));
    net_zero_grads(net);
    for (int i = 0; i < B; i++) {
        net_set_first_row(net, (size_t)i * T);
        sum +=
            net_train(net, b.tokens + i * T, b.targets + i * T, 1, T, 1.0f, 7);
    }
    assert_true(fabs(sum / all - 1) < 1e-6);
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)whole[i]));
    for (size_t i = 0; i < n; i++)
        assert_true(fabs((double)(net_grads(net)[i] - whole[i])) <
                    1e-5 * largest);
    net_set_first_row(net, 0);
    sum = 0.0;
    for (int i = 0; i < B; i++)
        sum +=
            net_train(net, b.tokens + i * T, b.targets + i * T, 1, T, 1.0f, 7);
    assert_true(fabs(sum / all - 1) > 1e-6);
    free(whole);
    net_free(net);
    infer_team_free(team);
}

static void test_init(void **state)
{
    const struct net_shape s = base(NET_GPT2);
    struct infer_team *one = NULL, *two = NULL;
    struct net *a = NULL, *b = NULL;
    const struct net_param *t;
    size_t n;

    (void)state;
    assert_int_equal(infer_team_create(&one, 1, 0, NULL), 0);
    assert_int_equal(infer_team_create(&two, 2, 0, NULL), 0);
    assert_int_equal(net_create(&a, &s, B, T, one, TRAIN_F32, NULL), 0);
    assert_int_equal(net_create(&b, &s, B, T, two, TRAIN_F32, NULL), 0);
    net_init(a, 9);
    net_init(b, 9);
    assert_memory_equal(net_params(a), net_params(b),
                        net_n_values(a) * sizeof(float));
    t = net_param_table(a, &n);
    for (size_t i = 0; i < n; i++) {
        const float *v = net_params(a) + t[i].offset;
        double sum = 0.0;

        for (size_t j = 0; j < t[i].n; j++)
            sum += (double)v[j] * (double)v[j];
        const double deviation = sqrt(sum / (double)t[i].n);
        const double want = strstr(t[i].name, "attn_output.weight") ||
                                    strstr(t[i].name, "ffn_down.weight")
                                ? 0.01
                                : 0.02;

        if (t[i].kind == NET_VECTOR)
            assert_true(v[0] == (strstr(t[i].name, "norm.weight") ? 1 : 0));
        else
            assert_true(fabs(deviation / want - 1) < 0.15);
    }
    net_free(a);
    net_free(b);
    infer_team_free(one);
    infer_team_free(two);
}

static void test_bad_shapes(void **state)
{
    struct net_shape bad[8];
    struct infer_error err;

    (void)state;
    for (int i = 0; i < 8; i++)
        bad[i] = base(NET_LLAMA);
    bad[0].n_kv_heads = 3;
    bad[1].d_head = 7;
    bad[2].n_vocab = 0;
    bad[3].dropout = 1.0f;
    bad[4].label_smoothing = NAN;
    bad[5].norm_eps = 0.0f;
    bad[6].arch = NET_GPT2;
    bad[6].n_kv_heads = 2;
    bad[7].d_head = 1024;
    for (int i = 0; i < 8; i++) {
        struct net *net = NULL;

        err.text[0] = '\0';
        assert_int_equal(net_create(&net, &bad[i], B, T, NULL, TRAIN_F32, &err),
                         INFER_EINVAL);
        assert_null(net);
        assert_true(strlen(err.text) > 10);
    }
    const struct net_shape good = base(NET_LLAMA);
    struct net *net = NULL;

    assert_int_equal(net_create(&net, &good, B, 17, NULL, TRAIN_F32, &err),
                     INFER_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_part_of_batch),
        cmocka_unit_test(test_encoder),
        cmocka_unit_test(test_bert),
        cmocka_unit_test(test_encoder_alone),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_bad_shapes),
    };

    return cmocka_run_group_tests_name("train net", tests, NULL, NULL);
}
