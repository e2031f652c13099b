/*
 * test_train_export.c - a net's parameters, copied tensor by tensor into a GGUF
 * file, are the model that the engine serves: the loss of the same tokens
 * agrees to 1e-4, relative, token by token to 1e-3.
 *
 * The nets are random, with weights large enough that every tensor, rotated
 * pair and shared head would show; the tokenizer is a real one's.
 */
#include "tests/oracle.h"

#include "core/format/gguf.h"
#include "core/format/quant.h"
#include "trainer/nn/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { T = 150, V = 512 };

#define TOKENIZER ORACLE "/stories260K/model-F32.gguf"

static void set_u32(struct infer_gguf_writer *w, const char *arch,
                    const char *key, uint32_t v)
{
    char name[96];

    snprintf(name, sizeof(name), "%s.%s", arch, key);
    infer_gguf_set_u32(w, name, v);
}

static void set_shape(struct infer_gguf_writer *w, const struct net_shape *s)
{
    const bool llama = s->arch == NET_LLAMA;
    const char *arch = llama ? "llama" : "gpt2";

    infer_gguf_set_str(w, "general.architecture", arch);
    set_u32(w, arch, "context_length", s->n_ctx);
    set_u32(w, arch, "embedding_length", s->d_model);
    set_u32(w, arch, "block_count", s->n_layers);
    set_u32(w, arch, "feed_forward_length", s->d_ff);
    set_u32(w, arch, "attention.head_count", s->n_heads);
    set_u32(w, arch, "attention.head_count_kv", s->n_kv_heads);
    set_u32(w, arch, "attention.key_length", s->d_head);
    set_u32(w, arch, "attention.value_length", s->d_head);
    if (llama) {
        set_u32(w, arch, "rope.dimension_count", s->d_head);
        infer_gguf_set_f32(w, "llama.rope.freq_base", s->rope_base);
        infer_gguf_set_f32(w, "llama.attention.layer_norm_rms_epsilon",
                           s->norm_eps);
    } else {
        infer_gguf_set_f32(w, "gpt2.attention.layer_norm_epsilon", s->norm_eps);
    }
}

static void export_net(struct net *net, const char *path)
{
    struct infer_gguf_writer *w = NULL;
    struct infer_gguf *from = NULL;
    const struct net_param *table;
    struct infer_error err;
    size_t n;

    assert_int_equal(infer_gguf_open(&from, TOKENIZER, &err), 0);
    assert_int_equal(infer_gguf_writer_create(&w, &err), 0);
    set_shape(w, net_shape(net));
    infer_gguf_set_all(w, from);
    table = net_param_table(net, &n);
    for (size_t i = 0; i < n; i++)
        infer_gguf_add_tensor(w, table[i].name, INFER_F32, table[i].n_dims,
                              table[i].dims, net_params(net) + table[i].offset);
    if (infer_gguf_save(w, path, &err))
        fail_msg("%s", err.text);
    infer_gguf_writer_free(w);
    infer_gguf_close(from);
}

static double row_nll(const float *logits, int32_t id)
{
    double max = -HUGE_VAL, sum = 0.0;

    for (uint32_t i = 0; i < V; i++)
        max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < V; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum) - (double)logits[id];
}

/* nll [T] of the engine. */
static void engine_nll(const char *path, struct infer_team *team,
                       const int32_t *tokens, const int32_t *targets,
                       double *nll)
{
    const struct infer_session_params params = {
        .n_ctx = T, .max_rows = T, .kv_type = INFER_KV_F32};
    const struct infer_model_params load = {.cpu = oracle_cpu()};
    struct infer_model *m = NULL;
    struct infer_session *s = NULL;
    struct infer_row rows[T];
    struct infer_error err;

    if (infer_model_load(&m, path, &load, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_session_create(&s, m, team, &params, &err), 0);
    for (int i = 0; i < T; i++)
        rows[i] = (struct infer_row){.token = tokens[i], .logits = true};
    assert_int_equal(infer_session_eval(s, rows, T, NULL, &err), 0);
    for (size_t i = 0; i < T; i++)
        nll[i] = row_nll(infer_session_logits(s, i), targets[i]);
    infer_session_free(s);
    infer_model_free(m);
}

static void check(const struct net_shape *s, const char *what)
{
    char path[] = "/tmp/infer-export-XXXXXX";
    int32_t tokens[T], targets[T], one[T];
    struct infer_team *team = NULL;
    struct net *net = NULL;
    struct infer_error err;
    double nll[T], sum = 0.0;
    size_t n;

    close(mkstemp(path));
    assert_int_equal(infer_team_create(&team, 2, 0, &err), 0);
    if (net_create(&net, s, 1, T, team, TRAIN_F32, &err))
        fail_msg("%s", err.text);
    net_init(net, 4);
    for (size_t i = 0; i < net_n_values(net); i++)
        net_params(net)[i] *= net_params(net)[i] == 1.0f ? 1.1f : 6.0f;
    for (int i = 0; i < T; i++) {
        tokens[i] = (i * 37 + i * i % 11) % V;
        targets[i] = (i * 101 + 5) % V;
    }
    export_net(net, path);
    engine_nll(path, team, tokens, targets, nll);
    for (int i = 0; i < T; i += i < 8 ? 1 : 13) {
        for (int j = 0; j < T; j++)
            one[j] = j == i ? targets[j] : -1;
        const double got = net_eval(net, tokens, one, 1, T, &n);

        assert_int_equal(n, 1);
        if (!(fabs(got - nll[i]) <= 1e-3 * (1 + nll[i])))
            fail_msg("%s: token %d: %.6f, the engine %.6f", what, i, got,
                     nll[i]);
    }
    for (int i = 0; i < T; i++)
        sum += nll[i];
    const double all = net_eval(net, tokens, targets, 1, T, &n);

    if (!(fabs(all / sum - 1) <= 1e-4))
        fail_msg("%s: %.7f, the engine %.7f", what, all, sum);
    print_message("%s: %.5f nats a token, the engine %.5f\n", what,
                  all / (double)T, sum / (double)T);
    unlink(path);
    net_free(net);
    infer_team_free(team);
}

static void test_export(void **state)
{
    struct net_shape s = {.tied = true,
                          .n_vocab = V,
                          .n_ctx = 160,
                          .n_layers = 3,
                          .n_heads = 4,
                          .n_kv_heads = 4,
                          .d_model = 64,
                          .d_head = 16,
                          .d_ff = 96,
                          .rope_base = 10000.0f,
                          .norm_eps = 1e-5f};

    (void)state;
    if (!oracle_present())
        skip();
    check(&s, "llama, tied");
    s.tied = false;
    check(&s, "llama, untied");
    s.n_kv_heads = 2;
    s.d_head = 24;
    s.rope_base = 500.0f;
    check(&s, "llama, shared key/value heads, wide heads");
    s.arch = NET_GPT2;
    s.n_kv_heads = 4;
    s.d_head = 16;
    check(&s, "gpt2, untied");
    s.tied = true;
    check(&s, "gpt2, tied");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_export)};

    return cmocka_run_group_tests_name("train export", tests, NULL, NULL);
}
