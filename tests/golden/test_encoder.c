/*
 * test_encoder.c - encoders against the oracle's embeddings and scores.
 *
 * Every prompt with mean and first-token pooling, rerankers' scores, and every
 * token's vector of the first prompt; on one thread and on two. Limits are the
 * oracle's: 5e-3 and a cosine of 0.99999 for float files, a cosine of 0.9995
 * from the dequantized reference where activations are rounded. A sequence's
 * result is then the same bits alone and packed with others, in any order.
 */
#include "core/model/forward.h"

#include "tests/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_PROMPTS = 16, MAX_IDS = 512, MAX_D = 128 };

struct runner {
    struct infer_model *model;
    struct infer_team *team;
    const cJSON *cases, *model_cases;
    char what[320];
    bool exact; /* no rounding of activations */
    int32_t ids[MAX_PROMPTS][MAX_IDS];
    struct infer_sequence seqs[MAX_PROMPTS];
    size_t n;
};

static void runner_open(struct runner *r, const char *folder,
                        const cJSON *cases, const cJSON *model, unsigned cpu,
                        int n_threads)
{
    const struct infer_model_params params = {.cpu = cpu};
    struct infer_error err = {0};
    const cJSON *p;
    char path[256];

    *r = (struct runner){.cases = cases, .model_cases = model};
    snprintf(path, sizeof(path), "%s/%s", folder, oracle_str(model, "file"));
    if (infer_model_load(&r->model, path, &params, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_team_create(&r->team, n_threads, 0, &err), 0);
    snprintf(r->what, sizeof(r->what), "%s, %s, %d threads", path,
             r->model->kern.name, n_threads);
    r->exact = oracle_is_float(oracle_str(model, "file"));
    cJSON_ArrayForEach (p, cJSON_GetObjectItem(cases, "prompts")) {
        assert_true(r->n < MAX_PROMPTS);
        r->seqs[r->n].n = (uint32_t)oracle_ids(p, "ids", r->ids[r->n], MAX_IDS);
        r->seqs[r->n].ids = r->ids[r->n];
        r->n++;
    }
}

static void runner_close(struct runner *r)
{
    infer_team_free(r->team);
    infer_model_free(r->model);
}

static struct infer_encoder *encoder(const struct runner *r,
                                     enum infer_pooling pooling)
{
    const struct infer_encoder_params params = {.pooling = pooling};
    struct infer_encoder *e = NULL;
    struct infer_error err = {0};

    if (infer_encoder_create(&e, r->model, r->team, &params, &err))
        fail_msg("%s", err.text);
    return e;
}

static void run(struct infer_encoder *e, const struct infer_sequence *seqs,
                size_t n, float *out)
{
    struct infer_error err = {0};

    if (infer_encoder_run(e, seqs, n, out, &err))
        fail_msg("%s", err.text);
}

static void compare(const struct runner *r, const char *name, const float *got,
                    const cJSON *want)
{
    double dot = 0, a = 0, b = 0, worst = 0;
    const cJSON *item;
    size_t i = 0;

    cJSON_ArrayForEach (item, want) {
        const double x = (double)got[i++], y = item->valuedouble;

        dot += x * y;
        a += x * x;
        b += y * y;
        worst = fmax(worst, fabs(x - y));
    }
    const double cosine = i > 1 ? dot / sqrt(a * b) : 1.0;

    if (!(cosine >= (r->exact ? 0.99999 : 0.9995)) ||
        (r->exact && !(worst <= 5e-3)))
        fail_msg("%s, %s: cosine %.7f, %g apart", r->what, name, cosine, worst);
}

/* All prompts in one batch, against one list of the reference. */
static void check_pooled(const struct runner *r, enum infer_pooling pooling,
                         const cJSON *want, const char *what)
{
    static float out[MAX_PROMPTS * MAX_D];
    struct infer_encoder *e = encoder(r, pooling);
    const size_t width = pooling ? r->model->hp.d_model : r->model->info.n_out;
    const cJSON *p = cJSON_GetObjectItem(r->cases, "prompts")->child;
    char name[96];

    assert_int_equal(cJSON_GetArraySize(want), r->n);
    run(e, r->seqs, r->n, out);
    for (size_t i = 0; i < r->n; i++, p = p->next) {
        const cJSON *row = cJSON_GetArrayItem(want, (int)i);
        cJSON *one = NULL;

        snprintf(name, sizeof(name), "%s of %s", what, oracle_str(p, "name"));
        if (cJSON_IsNumber(row)) {
            one = cJSON_CreateArray();
            cJSON_AddItemToArray(one, cJSON_CreateNumber(row->valuedouble));
        }
        compare(r, name, out + i * width, one ? one : row);
        cJSON_Delete(one);
    }
    infer_encoder_free(e);
}

static void check_tokens(const struct runner *r, const cJSON *want)
{
    static float out[MAX_IDS * MAX_D];
    struct infer_encoder *e = encoder(r, INFER_POOLING_NONE);

    assert_int_equal(cJSON_GetArraySize(want), r->seqs[0].n);
    run(e, r->seqs, 1, out);
    for (uint32_t i = 0; i < r->seqs[0].n; i++)
        compare(r, "a token", out + i * r->model->hp.d_model,
                cJSON_GetArrayItem(want, (int)i));
    infer_encoder_free(e);
}

/* Alone, packed, packed in reverse, and cut into batches of two. */
static void check_company(const struct runner *r)
{
    static float packed[MAX_PROMPTS * MAX_D], other[MAX_PROMPTS * MAX_D];
    struct infer_encoder *e = encoder(r, INFER_POOLING_FILE);
    const size_t n = r->n, bytes = r->model->info.n_out * sizeof(float);
    struct infer_sequence reverse[MAX_PROMPTS];
    float one[2 * MAX_D];

    run(e, r->seqs, n, packed);
    for (size_t i = 0; i < n; i++)
        reverse[n - 1 - i] = r->seqs[i];
    run(e, reverse, n, other);
    for (size_t i = 0; i < n; i++) {
        const char *want = (const char *)packed + i * bytes;

        assert_memory_equal((char *)other + (n - 1 - i) * bytes, want, bytes);
        run(e, &r->seqs[i], 1, one);
        assert_memory_equal(one, want, bytes);
        if (i + 1 == n)
            continue;
        run(e, &r->seqs[i], 2, one);
        assert_memory_equal(one, want, 2 * bytes);
    }
    infer_encoder_free(e);
}

static void check_model(const char *folder, const cJSON *cases,
                        const cJSON *model, unsigned cpu, int n_threads)
{
    const cJSON *deq = cJSON_GetObjectItem(model, "llamacpp_deq");
    const cJSON *ref = deq ? deq : cJSON_GetObjectItem(model, "llamacpp");
    const cJSON *all = cJSON_GetObjectItem(ref, "embeddings");
    const cJSON *rank = cJSON_GetObjectItem(all, "rank");
    const cJSON *tokens = cJSON_GetObjectItem(ref, "token_embeddings_prompt0");
    struct runner r;

    runner_open(&r, folder, cases, model, cpu, n_threads);
    check_pooled(&r, INFER_POOLING_MEAN, cJSON_GetObjectItem(all, "mean"),
                 "mean");
    check_pooled(&r, INFER_POOLING_CLS, cJSON_GetObjectItem(all, "cls"), "cls");
    if (rank)
        check_pooled(&r, INFER_POOLING_FILE, rank, "rank");
    if (tokens)
        check_tokens(&r, tokens);
    check_company(&r);
    print_message("%s: equal%s%s\n", r.what, rank ? ", ranks too" : "",
                  tokens ? ", tokens too" : "");
    runner_close(&r);
}

static void test_oracle(void **state)
{
    static const char *const names[] = {"bert-cls", "bert-mean", "bert-rank",
                                        "nomic-bert"};
    const unsigned cpu = oracle_cpu();
    int n_models = 0;

    (void)state;
    if (!oracle_present())
        skip();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char folder[128];
        cJSON *cases;
        const cJSON *model;

        snprintf(folder, sizeof(folder), ORACLE "/%s", names[i]);
        cases = oracle_cases(folder);
        cJSON_ArrayForEach (model, cJSON_GetObjectItem(cases, "models"))
            check_model(folder, cases, model, cpu, 1 + n_models++ % 2);
        cJSON_Delete(cases);
    }
}

/* Pairs are laid out with the closing separator; truncation keeps the frame. */
static void test_pairs(void **state)
{
    struct infer_model *m = NULL;
    struct infer_error err = {0};
    cJSON *cases;
    const cJSON *p;
    int n_pairs = 0;

    (void)state;
    if (!oracle_present())
        skip();
    cases = oracle_cases(ORACLE "/bert-rank");
    if (infer_model_load(&m, ORACLE "/bert-rank/model-F32.gguf", NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_model_info(m)->task, INFER_TASK_RERANK);
    cJSON_ArrayForEach (p, cJSON_GetObjectItem(cases, "prompts")) {
        struct infer_encoded e;
        int32_t want[MAX_IDS];
        size_t n;

        if (!strstr(oracle_str(p, "name"), "closing-sep"))
            continue;
        const char *a = oracle_str(p, "query"), *b = oracle_str(p, "document");
        const struct infer_text_piece query = {a, strlen(a)},
                                      document = {b, strlen(b)};

        n = oracle_ids(p, "ids", want, MAX_IDS);
        assert_int_equal(
            infer_encode(m, &query, &document, 0, INFER_TRUNCATE_NO, &e, &err),
            0);
        assert_int_equal(e.n, n);
        assert_memory_equal(e.ids, want, n * sizeof(*want));
        infer_encoded_release(&e);

        assert_int_equal(
            infer_encode(m, &query, &document, 8, INFER_TRUNCATE_NO, &e, &err),
            INFER_ETOOLONG);
        assert_int_equal(infer_encode(m, &query, &document, 8,
                                      INFER_TRUNCATE_RIGHT, &e, &err),
                         0);
        assert_int_equal(e.n, 8);
        assert_int_equal(e.n_full, n);
        assert_int_equal(e.ids[0], want[0]);
        assert_int_equal(e.ids[7], want[n - 1]);
        infer_encoded_release(&e);
        n_pairs++;
    }
    assert_true(n_pairs >= 2);
    cJSON_Delete(cases);
    infer_model_free(m);
}

static void test_refusals(void **state)
{
    static int32_t ids[MAX_IDS];
    struct infer_sequence s = {.ids = ids, .n = MAX_IDS};
    struct infer_model *m = NULL;
    struct infer_team *team = NULL;
    struct infer_encoder *e = NULL;
    struct infer_engine *engine = NULL;
    struct infer_session *session = NULL;
    const struct infer_engine_params ep = {0};
    const struct infer_session_params sp = {0};
    struct infer_error err = {0};
    float out[MAX_D];

    (void)state;
    if (!oracle_present())
        skip();
    assert_int_equal(infer_team_create(&team, 1, 0, &err), 0);
    if (infer_model_load(&m, ORACLE "/bert-cls/model-F32.gguf", NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_engine_create(&engine, m, team, &ep, &err),
                     INFER_EINVAL);
    assert_int_equal(infer_session_create(&session, m, team, &sp, &err),
                     INFER_EINVAL);
    assert_int_equal(infer_encoder_create(&e, m, team, NULL, &err), 0);
    assert_int_equal(infer_encoder_run(e, &s, 1, out, &err), INFER_ETOOLONG);
    s.n = 3;
    ids[2] = 700;
    assert_int_equal(infer_encoder_run(e, &s, 1, out, &err), INFER_EINVAL);
    assert_non_null(strstr(err.text, "700"));
    s.n = 0;
    assert_int_equal(infer_encoder_run(e, &s, 1, out, &err), INFER_EINVAL);
    assert_int_equal(infer_encoder_run(e, &s, 0, out, &err), INFER_EINVAL);
    infer_encoder_free(e);
    infer_model_free(m);
    if (infer_model_load(&m, ORACLE "/stories260K/model-F32.gguf", NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_model_info(m)->task, INFER_TASK_GENERATE);
    assert_int_equal(infer_encoder_create(&e, m, team, NULL, &err),
                     INFER_EINVAL);
    infer_model_free(m);
    infer_team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests_name("encoder", tests, NULL, NULL);
}
