/*
 * test_train_bert.c - BERTs in the trainer: the vectors and scores of a file
 * are the reference's, and after steps of training the engine finds in the
 * written file what the trainer computed.
 */
#include "tests/oracle.h"

#include "core/model/forward.h"
#include "trainer/enc/export.h"
#include "trainer/enc/head.h"
#include "trainer/enc/import.h"
#include "trainer/nn/layers.h"
#include "trainer/tok/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROMPTS = 16, MAX_IDS = 512, MAX_D = 128, CLASSES = 3, ROOM = 512 };

struct texts {
    int32_t ids[MAX_PROMPTS * MAX_IDS];
    uint32_t starts[MAX_PROMPTS + 1];
    size_t n;
};

static void read_texts(struct texts *t, const cJSON *cases)
{
    const cJSON *p;

    t->n = 0;
    t->starts[0] = 0;
    cJSON_ArrayForEach (p, cJSON_GetObjectItem(cases, "prompts")) {
        const size_t n =
            oracle_ids(p, "ids", t->ids + t->starts[t->n], MAX_IDS);

        assert_true(t->n < MAX_PROMPTS);
        t->starts[t->n + 1] = t->starts[t->n] + (uint32_t)n;
        t->n++;
    }
}

/* A model of a file with another pooling or head. */
static void open_model(struct enc_model *m, const char *path,
                       enum net_pooling pooling, uint32_t n_classes,
                       enum train_precision precision, struct infer_team *team)
{
    const struct infer_ngrams_spec spec = {0};
    struct net_shape s;
    struct infer_error err = {0};

    *m = (struct enc_model){0};
    if (enc_import_bert(path, &s, &err))
        fail_msg("%s", err.text);
    assert_int_equal(s.arch, NET_BERT);
    if (pooling)
        s.pooling = pooling;
    if (n_classes) {
        s.n_classes = n_classes;
        s.dense = true;
    }
    if (enc_model_create(m, &s, &spec, NULL, MAX_PROMPTS, s.n_ctx, team,
                         precision, 1, &err) ||
        enc_import_whole(m, path, &err))
        fail_msg("%s", err.text);
}

static const float *encode(struct enc_model *m, const struct texts *t,
                           bool train)
{
    return net_encode(
        m->net,
        &(struct net_texts){.tokens = t->ids, .starts = t->starts, .n = t->n},
        train, 3);
}

static void compare(const char *what, const float *got, const cJSON *want)
{
    size_t i = 0;
    const cJSON *item;

    cJSON_ArrayForEach (item, want) {
        const double off = fabs((double)got[i++] - item->valuedouble);

        if (!(off <= 1e-3))
            fail_msg("%s: value %zu is %g off", what, i - 1, off);
    }
}

static void check_vectors(const char *path, const cJSON *all,
                          const struct texts *t, struct infer_team *team)
{
    static const char *const names[] = {
        [NET_POOL_MEAN] = "mean", [NET_POOL_FIRST] = "cls"};

    for (int pooling = NET_POOL_MEAN; pooling <= NET_POOL_FIRST; pooling++) {
        const cJSON *rows = cJSON_GetObjectItem(all, names[pooling]);
        struct enc_model m;
        const float *v;

        open_model(&m, path, (enum net_pooling)pooling, 0, TRAIN_F32, team);
        v = encode(&m, t, false);
        assert_int_equal(cJSON_GetArraySize(rows), t->n);
        for (size_t i = 0; i < t->n; i++)
            compare(path, v + i * net_shape(m.net)->d_model,
                    cJSON_GetArrayItem(rows, (int)i));
        enc_model_release(&m);
    }
}

static void check_rank(const char *path, const cJSON *rank,
                       const struct texts *t, struct infer_team *team)
{
    struct enc_head head = {0};
    struct enc_model m;
    float scores[MAX_PROMPTS];

    open_model(&m, path, 0, 0, TRAIN_F32, team);
    assert_int_equal(net_shape(m.net)->n_classes, 1);
    assert_int_equal(net_shape(m.net)->pooling, NET_POOL_FIRST);
    assert_int_equal(enc_head_create(&head, m.net, MAX_PROMPTS, NULL), 0);
    enc_head_forward(&head, encode(&m, t, false), t->n, scores);
    for (size_t i = 0; i < t->n; i++)
        compare(path, scores + i, cJSON_GetArrayItem(rank, (int)i));
    enc_head_release(&head);
    enc_model_release(&m);
}

static void each(void (*check)(const char *path, const cJSON *cases,
                               const struct texts *t, struct infer_team *team))
{
    static const char *const names[] = {"bert-cls", "bert-mean", "bert-rank"};
    static struct texts t;
    struct infer_team *team = NULL;

    assert_int_equal(infer_team_create(&team, 2, 0, NULL), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char folder[64], path[128];
        cJSON *cases;

        snprintf(folder, sizeof(folder), ORACLE "/%s", names[i]);
        snprintf(path, sizeof(path), "%s/model-F32.gguf", folder);
        cases = oracle_cases(folder);
        read_texts(&t, cases);
        check(path, cases, &t, team);
        cJSON_Delete(cases);
    }
    infer_team_free(team);
}

static void check_reference(const char *path, const cJSON *cases,
                            const struct texts *t, struct infer_team *team)
{
    const cJSON *models = cJSON_GetObjectItem(cases, "models");
    const cJSON *exact =
        cJSON_GetObjectItem(cJSON_GetObjectItem(models, "F32"), "exact");
    const cJSON *all = cJSON_GetObjectItem(exact, "embeddings");
    const cJSON *rank = cJSON_GetObjectItem(all, "rank");

    check_vectors(path, all, t, team);
    if (rank)
        check_rank(path, rank, t, team);
}

static void test_reference(void **state)
{
    (void)state;
    if (!oracle_present())
        skip();
    each(check_reference);
}

/* ---- trained and written ------------------------------------------------- */

/* Some steps towards text i being class i % CLASSES; the last logits. */
static double learn(struct enc_model *m, struct enc_head *head,
                    const struct texts *t, float *logits)
{
    struct optim_config config = optim_default(OPTIM_ADAMW);
    struct optim *optim = NULL;
    double first = 0.0, loss = 0.0;
    float dvectors[MAX_PROMPTS * MAX_D];

    config.lr = 1e-3f;
    assert_int_equal(optim_create(&optim, m->net, &config, NULL), 0);
    for (int step = 0; step < 12; step++) {
        const float *v = encode(m, t, true);

        loss = 0.0;
        net_zero_grads(m->net);
        enc_head_forward(head, v, t->n, logits);
        for (size_t i = 0; i < t->n; i++) {
            const int32_t class = (int32_t)(i % CLASSES);
            float smooth, nll;

            nn_layers()->cross_entropy(logits + i * CLASSES, &class, &smooth,
                                       &nll, 1, CLASSES, 0.0f, true,
                                       1.0f / (float)t->n);
            loss += (double)nll;
        }
        first = step ? first : loss;
        enc_head_back(head, v, t->n, logits, dvectors);
        net_encode_back(m->net, dvectors);
        assert_true(isfinite(optim_step(optim, 1.0f)));
    }
    optim_free(optim);
    enc_head_forward(head, encode(m, t, false), t->n, logits);
    return loss / first;
}

static void compare_engine(const char *path, const struct texts *t,
                           const float *want, struct infer_team *team)
{
    struct infer_sequence seqs[MAX_PROMPTS];
    struct infer_encoder *e = NULL;
    struct infer_model *m = NULL;
    struct infer_error err = {0};
    float got[MAX_PROMPTS * CLASSES];

    for (size_t i = 0; i < t->n; i++)
        seqs[i] = (struct infer_sequence){.ids = t->ids + t->starts[i],
                                          .n = t->starts[i + 1] - t->starts[i]};
    if (infer_model_load(&m, path, NULL, &err) ||
        infer_encoder_create(&e, m, team, NULL, &err) ||
        infer_encoder_run(e, seqs, t->n, got, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_model_info(m)->task, INFER_TASK_CLASSIFY);
    assert_int_equal(infer_model_info(m)->n_classes, CLASSES);
    for (size_t i = 0; i < t->n * CLASSES; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-3f * (1.0f + fabsf(want[i]))))
            fail_msg("%s: logit %zu is %g, not %g", path, i, (double)got[i],
                     (double)want[i]);
    infer_encoder_free(e);
    infer_model_free(m);
}

static void check_learned(const char *path, const cJSON *cases,
                          const struct texts *t, struct infer_team *team)
{
    char folder[] = "/tmp/infer-bert-XXXXXX", vocab[ROOM], out[ROOM];
    struct infer_error err = {0};

    (void)cases;
    assert_non_null(mkdtemp(folder));
    snprintf(vocab, sizeof(vocab), "%s/tokenizer.gguf", folder);
    snprintf(out, sizeof(out), "%s/model.gguf", folder);
    assert_int_equal(train_vocab_copy(path, vocab, &err), 0);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct enc_head head = {0};
        struct enc_model m;
        float logits[MAX_PROMPTS * CLASSES];

        open_model(&m, path, 0, CLASSES, bf16 ? TRAIN_BF16 : TRAIN_F32, team);
        assert_int_equal(enc_head_create(&head, m.net, MAX_PROMPTS, NULL), 0);
        enc_head_init(m.net);
        assert_true(learn(&m, &head, t, logits) < 0.7);
        if (enc_export(&m, folder, "model.gguf", NULL, NULL, &err))
            fail_msg("%s", err.text);
        if (!bf16) /* the engine does not round so */
            compare_engine(out, t, logits, team);
        enc_head_release(&head);
        enc_model_release(&m);
    }
    unlink(vocab);
    unlink(out);
    assert_int_equal(rmdir(folder), 0);
}

static void test_learned(void **state)
{
    (void)state;
    if (!oracle_present())
        skip();
    each(check_learned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference),
                                       cmocka_unit_test(test_learned)};

    return cmocka_run_group_tests_name("train bert", tests, NULL, NULL);
}
