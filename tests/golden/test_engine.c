/*
 * test_engine.c - the engine on a real model: the published story, and that a
 * request's output is the same bytes whatever happens around it.
 *
 * 64 requests of every kind run one by one on one thread without a prefix
 * cache; then all at once for each step size, cache size (the smallest forces
 * preemption) and with and without prefix cache, on 1 to 3 threads. Text,
 * tokens, offsets, logprobs and reasons to finish are equal to the bit.
 */
#include "tests/collect.h"
#include "tests/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_REQUESTS = 64, MAX_PROMPT = 200 };

struct case_ {
    int32_t prompt[MAX_PROMPT];
    struct infer_logit_bias bias[2];
    const char *stop[3];
    int32_t stop_ids[2];
    struct infer_request req;
};

static struct infer_model *model;
static struct case_ *cases;    /* [N_REQUESTS] */
static struct reply *alone;    /* [N_REQUESTS] */
static struct reply *together; /* [N_REQUESTS] */
static int32_t story[256];
static size_t n_story;

static uint64_t rng_state = 5;

static uint32_t rnd(uint32_t n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % n;
}

/* Beginnings of the story (so that prefixes are shared), some with random
 * tokens after them. */
static size_t make_prompt(int32_t *out)
{
    size_t n = 1 + rnd(120);

    out[0] = 1;
    memcpy(out + 1, story, n * sizeof(*out));
    n++;
    if (rnd(2))
        for (size_t more = rnd(70); more > 0; more--)
            out[n++] = (int32_t)(3 + rnd(509));
    return n;
}

static void make_sampling(struct case_ *c)
{
    struct infer_sampling *p = &c->req.sampling;

    infer_sampling_default(p);
    p->seed = rnd(1000);
    p->temperature = rnd(4) == 0 ? 0.0f : 0.3f + 0.01f * (float)rnd(150);
    if (rnd(3) == 0)
        p->top_k = (int32_t)(1 + rnd(60));
    if (rnd(3) == 0)
        p->top_p = 0.5f + 0.01f * (float)rnd(50);
    if (rnd(5) == 0)
        p->min_p = 0.01f * (float)rnd(20);
    if (rnd(5) == 0)
        p->typical_p = 0.5f + 0.01f * (float)rnd(50);
    if (rnd(4) == 0)
        p->repetition_penalty = 1.3f;
    if (rnd(4) == 0)
        p->presence_penalty = 0.7f;
    if (rnd(4) == 0)
        p->frequency_penalty = 0.2f;
    if (rnd(4) == 0) {
        c->bias[0] = (struct infer_logit_bias){(int32_t)rnd(512), 6.0f};
        c->bias[1] = (struct infer_logit_bias){(int32_t)rnd(512), -100.0f};
        p->bias = c->bias;
        p->n_bias = 2;
    }
}

static void make_case(struct case_ *c)
{
    struct infer_request *r = &c->req;

    memset(c, 0, sizeof(*c));
    r->prompt = c->prompt;
    r->n_prompt = make_prompt(c->prompt);
    r->max_tokens = rnd(10) == 0 ? 0 : 1 + rnd(60);
    r->n = rnd(5) == 0 ? 1 + rnd(COLLECT_CHOICES) : 1;
    r->logprobs = rnd(3) == 0 ? (int32_t)rnd(5) : -1;
    r->echo = rnd(4) == 0;
    r->ignore_eos = rnd(2);
    r->cache_scope = rnd(3);
    r->priority = (int32_t)rnd(3);
    if (rnd(3) == 0) {
        c->stop[0] = "Lily";
        c->stop[1] = " ball";
        c->stop[2] = ".\n";
        r->stop = c->stop;
        r->n_stop = 3;
    }
    if (rnd(4) == 0) {
        c->stop_ids[0] = (int32_t)(400 + rnd(50));
        r->stop_ids = c->stop_ids;
        r->n_stop_ids = 1;
    }
    make_sampling(c);
}

static void run_alone(void)
{
    const struct infer_engine_params params = {.no_prefix_cache = true,
                                               .kv_type = INFER_KV_F16};
    struct infer_engine *e = NULL;
    struct infer_team *team = NULL;

    assert_int_equal(infer_team_create(&team, 1, 0, NULL), INFER_OK);
    assert_int_equal(infer_engine_create(&e, model, team, &params, NULL),
                     INFER_OK);
    for (int i = 0; i < N_REQUESTS; i++) {
        collect_submit(e, &cases[i].req, &alone[i]);
        collect_finish(e);
        assert_true(alone[i].done);
        assert_int_equal(alone[i].n_cached, 0);
    }
    infer_engine_free(e);
    infer_team_free(team);
}

/* All requests at once, a few submitted only while others run. */
static void run_together(int n_threads,
                         const struct infer_engine_params *params)
{
    struct infer_engine_stats stats;
    struct infer_engine *e = NULL;
    struct infer_team *team = NULL;

    assert_int_equal(infer_team_create(&team, n_threads, 0, NULL), INFER_OK);
    assert_int_equal(infer_engine_create(&e, model, team, params, NULL),
                     INFER_OK);
    for (int i = 0; i < N_REQUESTS; i++) {
        collect_submit(e, &cases[i].req, &together[i]);
        if (i > N_REQUESTS / 2)
            infer_engine_step(e);
    }
    collect_finish(e);
    infer_engine_stats(e, &stats);
    print_message("threads %d step %u cache %u blocks%s: %llu steps, %llu "
                  "cached, %llu preempted\n",
                  n_threads, params->step_tokens, stats.kv_blocks_total,
                  params->no_prefix_cache ? "" : ", shared",
                  (unsigned long long)stats.n_steps,
                  (unsigned long long)stats.cached_tokens,
                  (unsigned long long)stats.n_preempted);
    assert_int_equal(stats.kv_blocks_used, 0);
    assert_int_equal(stats.n_running + stats.n_waiting, 0);
    assert_int_equal(stats.waiting_tokens, 0);
    if (params->kv_tokens == 512 && params->max_running != 1)
        assert_true(stats.n_preempted > 0);
    if (!params->no_prefix_cache)
        assert_true(stats.cached_tokens > 0);
    for (int i = 0; i < N_REQUESTS; i++)
        assert_same_reply(&alone[i], &together[i]);
    infer_engine_free(e);
    infer_team_free(team);
}

static void check_invariance(void)
{
    static const uint32_t steps[] = {16, 64, 512};
    static const uint64_t kv_tokens[] = {0, 512};

    for (int i = 0; i < N_REQUESTS; i++)
        make_case(&cases[i]);
    run_alone();
    for (int s = 0; s < 3; s++)
        for (int k = 0; k < 4; k++) {
            const struct infer_engine_params params = {
                .step_tokens = steps[s],
                .kv_tokens = kv_tokens[k / 2],
                .no_prefix_cache = k % 2,
                .max_running = s == 1 ? 7 : 0};

            run_together(1 + (s + k) % 3, &params);
        }
}

static void test_batch_invariance(void **state)
{
    (void)state;
    if (model == NULL)
        skip();
    check_invariance();
}

/* Random weights over bytes: characters broken in every way. */
static void test_batch_invariance_of_nonsense(void **state)
{
    struct infer_model *stories = model;

    (void)state;
    if (model == NULL)
        skip();
    model = collect_model("gpt2/model-F32.gguf");
    check_invariance();
    infer_model_free(model);
    model = stories;
}

static void greedy_request(struct infer_request *r, const int32_t *prompt,
                           size_t n_prompt, uint32_t max_tokens)
{
    memset(r, 0, sizeof(*r));
    r->prompt = prompt;
    r->n_prompt = n_prompt;
    r->max_tokens = max_tokens;
    r->logprobs = -1;
    infer_sampling_default(&r->sampling);
    r->sampling.temperature = 0.0f;
}

static void check_story(const char *type)
{
    cJSON *json = oracle_cases(ORACLE "/stories260K");
    const cJSON *models = cJSON_GetObjectItem(json, "models");
    const cJSON *want =
        cJSON_GetObjectItem(cJSON_GetObjectItem(models, type), "story");
    const struct infer_engine_params params = {.kv_type = INFER_KV_F32};
    struct infer_engine *e = NULL;
    struct infer_team *team = NULL;
    struct infer_model *m;
    struct infer_request req;
    const int32_t bos = 1;
    int32_t ids[256];
    const size_t n = oracle_ids(want, "ids", ids, 256);
    char file[64];

    snprintf(file, sizeof(file), "stories260K/model-%s.gguf", type);
    m = collect_model(file);
    assert_int_equal(infer_team_create(&team, 2, 0, NULL), INFER_OK);
    assert_int_equal(infer_engine_create(&e, m, team, &params, NULL), INFER_OK);
    greedy_request(&req, &bos, 1, (uint32_t)n);
    req.ignore_eos = true;
    collect_submit(e, &req, &alone[0]);
    collect_finish(e);
    assert_int_equal(alone[0].choices[0].n_tokens, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(alone[0].choices[0].tokens[i].id, ids[i]);
    assert_int_equal(alone[0].choices[0].text_len,
                     strlen(oracle_str(want, "text")));
    assert_memory_equal(alone[0].choices[0].text, oracle_str(want, "text"),
                        alone[0].choices[0].text_len);
    infer_engine_free(e);
    infer_team_free(team);
    infer_model_free(m);
    cJSON_Delete(json);
}

static void test_tells_the_story(void **state)
{
    (void)state;
    if (model == NULL)
        skip();
    check_story("F32");
}

static int start(void **state)
{
    cJSON *json;

    (void)state;
    cases = calloc(N_REQUESTS, sizeof(*cases));
    alone = calloc(N_REQUESTS, sizeof(*alone));
    together = calloc(N_REQUESTS, sizeof(*together));
    model = collect_model("stories260K/model-Q8_0.gguf");
    if (model == NULL)
        return 0;
    json = oracle_cases(ORACLE "/stories260K");
    n_story = oracle_ids(
        cJSON_GetObjectItem(
            cJSON_GetObjectItem(cJSON_GetObjectItem(json, "models"), "F32"),
            "story"),
        "ids", story, 256);
    cJSON_Delete(json);
    return n_story == 256 ? 0 : -1;
}

static int finish(void **state)
{
    (void)state;
    infer_model_free(model);
    free(cases);
    free(alone);
    free(together);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_the_story),
        cmocka_unit_test(test_batch_invariance),
        cmocka_unit_test(test_batch_invariance_of_nonsense),
    };

    return cmocka_run_group_tests(tests, start, finish);
}
