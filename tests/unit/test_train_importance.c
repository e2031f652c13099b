/*
 * test_train_importance.c - the importance of columns: in the first layer,
 * where it can be computed from the embedding alone, and what must hold of it
 * in the others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/nn/net.h"
#include "trainer/run/export.h"
#include "trainer/run/importance.h"
#include "trainer/tok/vocab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { D = 32, F = 48, N_CTX = 16, N_LAYERS = 2, N_TEXT = 45 };

static const char text[] = "abcabcaabbccabacabadabacabaabcabcaabbccabaccc";
static char folder[] = "/tmp/infer-importance-XXXXXX";
static char model[96], data[96];

static const struct net_shape shape = {.arch = NET_LLAMA,
                                       .n_vocab = 7,
                                       .n_ctx = N_CTX,
                                       .n_layers = N_LAYERS,
                                       .n_heads = 2,
                                       .n_kv_heads = 1,
                                       .d_model = D,
                                       .d_head = 16,
                                       .d_ff = F,
                                       .rope_base = 1e4f,
                                       .norm_eps = 1e-5f};

/* A model over the letters a to d, untied, and a text of them. */
static void make_files(float *embedding)
{
    struct train_vocab v = {.unk = -1, .bos = -1, .eos = -1};
    char vocab[96];
    struct infer_team *team;
    struct net *net;
    FILE *f;

    snprintf(model, sizeof(model), "%s/model.gguf", folder);
    snprintf(vocab, sizeof(vocab), "%s/vocab.gguf", folder);
    snprintf(data, sizeof(data), "%s/text.txt", folder);
    assert_int_equal(train_vocab_specials(&v, NULL), 0);
    for (char c = 'a'; c <= 'd'; c++)
        assert_int_equal(
            train_vocab_add(&v, &c, 1, 0.0f, INFER_TOKEN_NORMAL, NULL), 0);
    assert_int_equal(train_vocab_save(&v, vocab, NULL), 0);
    train_vocab_release(&v);
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(net_create(&net, &shape, 1, N_CTX, team, TRAIN_F32, NULL),
                     0);
    net_init(net, 3);
    assert_int_equal(train_export(net, vocab, "test", model, NULL, NULL, NULL),
                     0);
    memcpy(embedding, net_params(net), 7 * D * sizeof(float));
    net_free(net);
    infer_team_free(team);
    f = fopen(data, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    unlink(vocab);
}

static void test_importance(void **state)
{
    struct train_text t = {0};
    struct train_importance *imp = NULL;
    struct infer_error err = {0};
    float embedding[7 * D];
    double want[D] = {0};
    const float *got;

    (void)state;
    make_files(embedding);
    assert_int_equal(train_list_add(&t.paths, data), 0);
    assert_int_equal(train_importance_create(&imp, model, &t, 0, 0, &err), 0);
    assert_int_equal(train_importance_tokens(imp), N_TEXT - 1);
    for (int i = 0; i < N_TEXT - 1; i++) {
        const float *x = embedding + (3 + text[i] - 'a') * D;
        double ms = 0.0;

        for (int k = 0; k < D; k++)
            ms += (double)x[k] * (double)x[k] / D;
        for (int k = 0; k < D; k++)
            want[k] += (double)x[k] * (double)x[k] / (ms + 1e-5) / (N_TEXT - 1);
    }
    got = train_importance_of(imp, "blk.0.attn_k.weight", D);
    assert_non_null(got);
    for (int k = 0; k < D; k++)
        assert_true(fabs((double)got[k] - want[k]) < 1e-4 * want[k]);
    assert_ptr_equal(got, train_importance_of(imp, "blk.0.attn_q.weight", D));
    train_importance_free(imp);
    train_list_release(&t.paths);
    unlink(model);
    unlink(data);
    rmdir(folder);
}

/* Rows of a norm have a mean square of one, or little less by its epsilon. */
static void check_norm(const struct train_importance *imp, const char *name)
{
    const float *x = train_importance_of(imp, name, D);
    double mean = 0.0;

    assert_non_null(x);
    for (int k = 0; k < D; k++)
        mean += (double)x[k] / D;
    assert_true(mean > 0.9 && mean < 1.0001);
}

static void test_every_site(void **state)
{
    struct train_text t = {0};
    struct train_importance *imp = NULL;
    float embedding[7 * D];
    const float *down, *other;

    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/infer-importance-XXXXXX");
    assert_non_null(mkdtemp(folder));
    make_files(embedding);
    assert_int_equal(train_list_add(&t.paths, data), 0);
    assert_int_equal(train_importance_create(&imp, model, &t, 0, 0, NULL), 0);
    check_norm(imp, "blk.0.attn_v.weight");
    check_norm(imp, "blk.1.attn_q.weight");
    check_norm(imp, "blk.0.ffn_gate.weight");
    check_norm(imp, "blk.1.ffn_up.weight");
    check_norm(imp, "output.weight");
    down = train_importance_of(imp, "blk.0.ffn_down.weight", F);
    other = train_importance_of(imp, "blk.1.ffn_down.weight", F);
    assert_non_null(down);
    assert_non_null(other);
    for (int k = 0; k < F; k++)
        assert_true(down[k] > 0.0f && other[k] > 0.0f && down[k] != other[k]);
    assert_non_null(train_importance_of(imp, "blk.1.attn_output.weight", D));
    assert_null(train_importance_of(imp, "blk.2.attn_q.weight", D));
    assert_null(train_importance_of(imp, "blk.0.attn_q.weight", F));
    assert_null(train_importance_of(imp, "blk.0.attn_norm.weight", D));
    assert_null(train_importance_of(imp, "token_embd.weight", D));
    assert_null(train_importance_of(imp, "blk.x", D));
    train_importance_free(imp);
    train_list_release(&t.paths);
    unlink(model);
    unlink(data);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_importance),
                                       cmocka_unit_test(test_every_site)};

    if (!mkdtemp(folder))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
