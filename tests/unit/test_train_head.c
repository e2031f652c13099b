/*
 * test_train_head.c - a classifier's head: its gradients against differences of
 * a weighted sum of its outputs, with and without the hidden layer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/enc/head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 4, D = 8, C = 3 };

static float value(int i)
{
    return (float)((i * 7919 + 13) % 101) / 50.5f - 1.0f;
}

static double loss(struct enc_head *h, const float *v)
{
    float z[B * C];
    double sum = 0.0;

    enc_head_forward(h, v, B, z);
    for (int i = 0; i < B * C; i++)
        sum += (double)z[i] * (double)value(i + 5);
    return sum;
}

/* The slope of the loss along the gradient g of values at `at`. */
static void check(struct enc_head *h, const float *v, float *at, const float *g,
                  size_t n, const char *what)
{
    float *from = malloc(n * sizeof(*from));
    double norm = 0.0, sides[2];

    assert_non_null(from);
    memcpy(from, at, n * sizeof(*from));
    for (size_t i = 0; i < n; i++)
        norm += (double)g[i] * (double)g[i];
    norm = sqrt(norm);
    assert_true(norm > 1e-3);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < n; i++)
            at[i] = (float)((double)from[i] +
                            (s ? -1e-2 : 1e-2) / norm * (double)g[i]);
        sides[s] = loss(h, v);
    }
    memcpy(at, from, n * sizeof(*from));
    free(from);
    const double slope = (sides[0] - sides[1]) / 2e-2;

    if (!(fabs(slope / norm - 1.0) < 5e-3))
        fail_msg("%s: slope %g, gradient %g", what, slope, norm);
}

static void check_head(bool dense)
{
    const struct net_shape s = {.arch = NET_LLAMA,
                                .encoder = true,
                                .pooling = NET_POOL_MEAN,
                                .n_classes = C,
                                .dense = dense,
                                .n_vocab = 4,
                                .n_ctx = 4,
                                .n_heads = 1,
                                .n_kv_heads = 1,
                                .d_model = D,
                                .d_head = D,
                                .d_ff = D,
                                .rope_base = 10000.0f,
                                .norm_eps = 1e-5f};
    static const char *const names[] = {"cls.output.weight", "cls.output.bias",
                                        "cls.weight", "cls.bias"};
    struct infer_team *team = NULL;
    struct net *net = NULL;
    struct enc_head h = {0};
    float v[B * D], dv[B * D], dz[B * C], z[B * C];

    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(net_create(&net, &s, B, 4, team, TRAIN_F32, NULL), 0);
    assert_int_equal(enc_head_create(&h, net, B, NULL), 0);
    net_init(net, 1);
    enc_head_init(net);
    for (int i = 0; i < B * D; i++)
        v[i] = value(i);
    for (int i = 0; i < B * C; i++)
        dz[i] = value(i + 5);
    /* the hidden layer is the identity at first, weights are small */
    for (size_t i = 0; i < net_n_values(net); i++)
        net_params(net)[i] += 0.3f * value((int)i);
    enc_head_forward(&h, v, B, z);
    enc_head_back(&h, v, B, dz, dv);
    check(&h, v, v, dv, B * D, "vectors");
    for (int i = 0; i < (dense ? 4 : 2); i++) {
        const struct net_param *p = net_param_find(net, names[i]);

        assert_non_null(p);
        check(&h, v, net_params(net) + p->offset, net_grads(net) + p->offset,
              p->n, names[i]);
    }
    assert_true((net_param_find(net, "cls.weight") != NULL) == dense);
    enc_head_scale(&h, 2.0, 1.0);
    enc_head_forward(&h, v, 1, dz);
    assert_true(fabsf(dz[1] - (2.0f * z[1] + 1.0f)) < 1e-5f);
    enc_head_release(&h);
    net_free(net);
    infer_team_free(team);
}

static void test_heads(void **state)
{
    (void)state;
    check_head(false);
    check_head(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_heads)};

    return cmocka_run_group_tests_name("train head", tests, NULL, NULL);
}
