/*
 * test_train_init.c - a net that goes on from a model that is there begins with
 * that model's loss: the reference's, for files of any type and for a
 * checkpoint made of one. Options that say otherwise are refused by name.
 */
#include "tests/oracle.h"

#include "trainer/hf/convert.h"
#include "trainer/run/init.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { T = 512, ROOM = 512 };

static char folder[64]; /* of this test, emptied after it */

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/infer-init-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    DIR *dir = opendir(folder);
    const struct dirent *d;
    char path[ROOM];

    (void)state;
    while (dir && (d = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", folder, d->d_name);
        unlink(path);
    }
    if (dir)
        closedir(dir);
    return rmdir(folder);
}

static const char *data[] = {"text.txt"}; /* is named, and not read */

static struct train_lm options(const char *init)
{
    return (struct train_lm){.init = init,
                             .text.paths = {.items = data, .n = 1},
                             .out = folder,
                             .arch = -1,
                             .context = T,
                             .steps = 1,
                             .text.val_share = 0.1};
}

static struct net *make_net(struct train_lm *o, struct infer_team *team,
                            uint32_t n_vocab)
{
    struct infer_error err = {0};
    struct net *net = NULL;

    if (train_lm_check(o, &err) || train_init_copy(o, &err))
        fail_msg("%s: %s", o->init, err.text);
    const struct net_shape s = {.arch = (enum net_arch)o->arch,
                                .tied = !o->untied,
                                .n_vocab = n_vocab,
                                .n_ctx = (uint32_t)o->model_context,
                                .n_layers = (uint32_t)o->layers,
                                .n_heads = (uint32_t)o->heads,
                                .n_kv_heads = (uint32_t)o->kv_heads,
                                .d_model = (uint32_t)o->width,
                                .d_head = (uint32_t)o->head,
                                .d_ff = (uint32_t)o->ffn,
                                .rope_base = (float)o->rope_base,
                                .norm_eps = (float)o->norm_eps};

    if (net_create(&net, &s, 1, T, team, TRAIN_F32, &err) ||
        train_init_load(net, folder, &err))
        fail_msg("%s: %s", o->init, err.text);
    return net;
}

/* Mean over the text of the cases, against the exact one. */
static void check_loss(const char *model, const char *type, const char *init)
{
    int32_t ids[T];
    char path[ROOM];
    struct train_lm o = options(init);
    struct infer_team *team = NULL;
    struct infer_error err;
    const cJSON *m;
    struct net *net;
    cJSON *cases;
    double got, want;
    size_t n;

    snprintf(path, sizeof(path), ORACLE "/%s", model);
    cases = oracle_cases(path);
    assert_int_equal(oracle_ids(cases, "nll_ids", ids, T), T);
    m = cJSON_GetObjectItem(cJSON_GetObjectItem(cases, "models"), type);
    want = oracle_num(cJSON_GetObjectItem(m, "exact"), "nll");
    assert_int_equal(infer_team_create(&team, 2, 0, &err), 0);
    net = make_net(&o, team, (uint32_t)oracle_num(cases, "n_vocab"));
    got = net_eval(net, ids, ids + 1, 1, T - 1, &n) / (T - 1);
    if (n != T - 1 || fabs(got - want) > 1e-5 * want)
        fail_msg("%s %s: loss %.7f, not %.7f", model, type, got, want);
    net_free(net);
    infer_team_free(team);
    cJSON_Delete(cases);
}

static void test_loss(void **state)
{
    static const struct {
        const char *model, *type;
    } files[] = {{"stories260K", "F32"},  {"stories260K", "F16"},
                 {"stories260K", "Q4_0"}, {"llama-b32", "BF16"},
                 {"llama-b32", "Q5_1"},   {"gpt2", "F32"},
                 {"gpt2", "Q8_0"}};

    (void)state;
    if (!oracle_present())
        skip();
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char path[ROOM];

        snprintf(path, sizeof(path), ORACLE "/%s/model-%s.gguf", files[i].model,
                 files[i].type);
        check_loss(files[i].model, files[i].type, path);
    }
}

static void test_loss_of_checkpoints(void **state)
{
    static const char *const names[] = {"llama-b32", "gpt2"};

    if (!oracle_present())
        skip();
    for (size_t i = 0; i < 2; i++) {
        char path[ROOM];
        struct hf_report r;
        struct infer_error err;

        snprintf(path, sizeof(path), ORACLE "/%s/model-F32.gguf", names[i]);
        if (hf_export(path, folder, &r, &err))
            fail_msg("%s", err.text);
        check_loss(names[i], "F32", folder);
        snprintf(path, sizeof(path), "%s/model.safetensors", folder);
        check_loss(names[i], "F32", path);
        remove_folder(state);
        make_folder(state);
    }
}

static void refused(struct train_lm o, const char *says)
{
    struct infer_error err = {0};

    assert_true(train_lm_check(&o, &err) < 0);
    if (!strstr(err.text, says))
        fail_msg("'%s', not '%s'", err.text, says);
}

static void test_contradictions(void **state)
{
    const struct train_lm good = options(ORACLE "/stories260K/model-F32.gguf");
    struct train_lm o = good;

    (void)state;
    if (!oracle_present())
        skip();
    o.layers = 4;
    refused(o, "--layers 4 contradicts --init, which has 5");
    o = good, o.heads = 4;
    refused(o, "--heads 4");
    o = good, o.kv_heads = 8;
    refused(o, "--kv-heads 8");
    o = good, o.width = 65;
    refused(o, "--width 65");
    o = good, o.ffn = 1;
    refused(o, "--ffn 1");
    o = good, o.context = 513;
    refused(o, "--context 513");
    o = good, o.arch = NET_GPT2;
    refused(o, "--arch");
    o = good, o.untied = true;
    refused(o, "--untied");
    o = good, o.tokenizer = "char";
    refused(o, "--tokenizer");
    o = good, o.rope_base = 5000.0;
    refused(o, "--rope-base");
    refused(options(ORACLE "/qwen2/model-F32.gguf"), "is a qwen2");
    refused(options(ORACLE "/llama-yarn/model-F32.gguf"), "scaled rotary");
    refused(options(ORACLE "/README.md"), "not a GGUF file");
    refused(options("/nowhere"), "/nowhere");
    refused(options("/tmp"), "no config.json");
    o = good, o.layers = 5, o.heads = 8, o.width = 64; /* the same: fine */
    assert_int_equal(train_lm_check(&o, NULL), 0);
    assert_int_equal(o.kv_heads, 4);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(test_loss),
        CASE(test_loss_of_checkpoints),
        CASE(test_contradictions),
    };
#undef CASE

    return cmocka_run_group_tests(tests, NULL, NULL);
}
