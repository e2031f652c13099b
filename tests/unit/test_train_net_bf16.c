/*
 * test_train_net_bf16.c - nets that keep their activations in bfloat16, against
 * the same nets in f32, whose gradients test_train_net.c proves.
 *
 * Rounding moves an operand by 2^-10 of itself on average; a gradient is the
 * end of some ten products, and that of queries and keys the small difference
 * of large ones. 2^-4 of its size is above all of that, and far below what a
 * row in the wrong place does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/gemm/gemm.h"
#include "trainer/nn/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 3, T = 70, V = 50, N_TEXTS = 3 };

static const uint32_t starts[N_TEXTS + 1] = {0, 70, 71, 130};

static struct net_shape base(enum net_arch arch)
{
    return (struct net_shape){.arch = arch,
                              .tied = true,
                              .n_vocab = V,
                              .n_ctx = 128,
                              .n_layers = 2,
                              .n_heads = 4,
                              .n_kv_heads = 4,
                              .d_model = 64,
                              .d_head = 16,
                              .d_ff = 600,
                              .rope_base = 10000.0f,
                              .norm_eps = 1e-5f};
}

/* Gradients after one pass, or NULL where there are no kernels. */
static float *gradients(const struct net_shape *s, int n_threads,
                        enum train_precision precision, double *loss)
{
    int32_t tokens[B * T], targets[B * T];
    float dpooled[N_TEXTS * 64];
    struct infer_team *team = NULL;
    struct net *net = NULL;
    float *grads = NULL;

    for (int i = 0; i < B * T; i++) {
        tokens[i] = i * 7919 % V;
        targets[i] = i % 5 == 4 ? -1 : i * 104729 % V;
    }
    for (int i = 0; i < N_TEXTS * 64; i++)
        dpooled[i] = ((float)(i * 7919 % 13) - 6.0f) / 6.0f;
    assert_int_equal(infer_team_create(&team, n_threads, 0, NULL), 0);
    assert_int_equal(net_create(&net, s, B, T, team, precision, NULL), 0);
    if (train_gemm_precision(net_gemm(net)) == precision) {
        net_init(net, 3);
        *loss = 0;
        if (s->encoder) {
            const struct net_texts texts = {tokens, starts, N_TEXTS};

            net_encode(net, &texts, true, 7);
            net_encode_back(net, dpooled);
        } else {
            *loss = net_train(net, tokens, targets, B, T, 1.0f, 7);
        }
        grads = malloc(net_n_values(net) * sizeof(*grads));
        assert_non_null(grads);
        memcpy(grads, net_grads(net), net_n_values(net) * sizeof(*grads));
    }
    net_free(net);
    infer_team_free(team);
    return grads;
}

static void check_tensor(const struct net_param *p, const float *want,
                         const float *got)
{
    double off = 0.0, size = 0.0;

    if (strstr(p->name, "attn_k.bias")) /* 0 but for rounding */
        return;
    for (size_t i = p->offset; i < p->offset + p->n; i++) {
        const double d = (double)got[i] - (double)want[i];

        off += d * d;
        size += (double)want[i] * (double)want[i];
    }
    if (!(sqrt(off) <= 0x1p-4 * sqrt(size)))
        fail_msg("%s: off by %g of %g", p->name, sqrt(off), sqrt(size));
}

static void check(const struct net_shape *s)
{
    double want_loss, loss, again;
    float *want = gradients(s, 2, TRAIN_F32, &want_loss);
    float *got = gradients(s, 2, TRAIN_BF16, &loss);
    struct infer_team *team = NULL;
    struct net *net = NULL;
    const struct net_param *table;
    size_t n;

    assert_non_null(want);
    if (!got) {
        free(want);
        return;
    }
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(net_create(&net, s, B, T, team, TRAIN_F32, NULL), 0);
    table = net_param_table(net, &n);
    assert_true(fabs(loss - want_loss) <= 1e-2 * (1 + fabs(want_loss)));
    for (size_t i = 0; i < n; i++)
        check_tensor(&table[i], want, got);
    /* whoever takes which rows, the bits are the same */
    for (int n_threads = 1; n_threads < 4; n_threads++) {
        float *same = gradients(s, n_threads, TRAIN_BF16, &again);

        assert_true(loss == again);
        assert_memory_equal(got, same, net_n_values(net) * sizeof(*got));
        free(same);
    }
    net_free(net);
    infer_team_free(team);
    free(want);
    free(got);
}

static void test_llama(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    check(&s);
    s.n_kv_heads = 2;
    s.d_head = 20; /* heads wider than the stream */
    s.dropout = 0.2f;
    check(&s);
    s.relu2 = true;
    check(&s);
}

static void test_gpt2(void **state)
{
    struct net_shape s = base(NET_GPT2);

    (void)state;
    check(&s);
    s.dropout = 0.1f;
    check(&s);
}

static void test_encoder(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    s.encoder = true;
    s.pooling = NET_POOL_MEAN;
    check(&s);
    s.arch = NET_BERT;
    s.n_types = 2;
    check(&s);
    s.dropout = 0.2f;
    check(&s);
}

/* So wide that rows come in several groups of columns, and a width that is not
 * whole vectors or panels. */
static void test_columns(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    s.n_layers = 1;
    s.d_model = 80;
    s.d_head = 20;
    check(&s);
    s.d_model = 768;
    s.d_head = 64;
    check(&s);
    s.arch = NET_GPT2;
    s.n_heads = s.n_kv_heads = 12;
    check(&s);
}

/* Too wide for work beside its products: activations stay in f32. */
static void test_wide(void **state)
{
    struct net_shape s = base(NET_LLAMA);

    (void)state;
    s.d_ff = 4400;
    s.n_layers = 1;
    check(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama), cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_encoder), cmocka_unit_test(test_columns),
        cmocka_unit_test(test_wide)};

    return cmocka_run_group_tests_name("train net bf16", tests, NULL, NULL);
}
