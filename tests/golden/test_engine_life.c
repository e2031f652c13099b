/*
 * test_engine_life.c - how requests begin and end: refusals, cancelling at any
 * step, deadlines, priorities, choices, preemption, echo, stops, sharing of
 * prefixes; on a real model, since a schedule without one proves little.
 */
#include "tests/collect.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_REQUESTS = 40 };

static struct infer_model *model;
static struct infer_team *team;
static struct reply *replies; /* [MAX_REQUESTS] */
static struct reply *alone;   /* [MAX_REQUESTS] */

/* "Once upon a time, there was a little girl named Lily." and on. */
static struct infer_tokens prompt;

static struct infer_engine *engine(const struct infer_engine_params *p)
{
    struct infer_error err = {0};
    struct infer_engine *e = NULL;

    if (infer_engine_create(&e, model, team, p, &err) != INFER_OK)
        fail_msg("engine: %s", err.text);
    return e;
}

static struct infer_request request(size_t n_prompt, uint32_t max_tokens)
{
    struct infer_request r = {.prompt = prompt.ids,
                              .n_prompt = n_prompt,
                              .max_tokens = max_tokens,
                              .logprobs = -1,
                              .ignore_eos = true};

    assert_true(n_prompt <= prompt.n);
    infer_sampling_default(&r.sampling);
    r.sampling.seed = 42;
    return r;
}

static void run(struct infer_engine *e, struct infer_request *req,
                struct reply *r)
{
    collect_submit(e, req, r);
    collect_finish(e);
}

/* ---- refusals ----------------------------------------------------------- */

static void expect_refusal(struct infer_engine *e,
                           const struct infer_request *r, int status,
                           const char *word)
{
    struct infer_error err = {0};

    assert_int_equal(infer_engine_submit(e, r, &err), status);
    assert_int_equal(err.status, status);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, word);
    assert_int_equal(infer_engine_step(e), 0);
}

static void test_refuses_bad_requests(void **state)
{
    const struct infer_engine_params params = {.n_ctx = 64};
    const int32_t bad_ids[] = {1, 512}, negative[] = {-1};
    const char *const empty_stop[] = {"a", ""};
    const struct infer_logit_bias no_token = {512, 1.0f}, big = {1, 101.0f};
    struct infer_engine *e;
    struct infer_request good, r;

    (void)state;
    if (model == NULL)
        skip();
    good = request(20, 5);
    e = engine(&params);
    assert_int_equal(infer_engine_n_ctx(e), 64);
#define REFUSE(change, status, word)                                           \
    do {                                                                       \
        r = good;                                                              \
        r.on_event = collect;                                                  \
        change;                                                                \
        expect_refusal(e, &r, status, word);                                   \
    } while (0)
    REFUSE(r.on_event = NULL, INFER_EINVAL, "on_event");
    REFUSE(r.n_prompt = 0, INFER_EINVAL, "prompt");
    REFUSE(r.n_prompt = 64, INFER_ETOOLONG, "64");
    REFUSE(r.n_prompt = (size_t)1 << 40, INFER_ETOOLONG, "context");
    REFUSE((r.prompt = bad_ids, r.n_prompt = 2), INFER_EINVAL, "512");
    REFUSE((r.prompt = negative, r.n_prompt = 1), INFER_EINVAL, "-1");
    REFUSE(r.n = 129, INFER_EINVAL, "n is");
    REFUSE(r.logprobs = 21, INFER_EINVAL, "logprobs");
    REFUSE(r.logprobs = -2, INFER_EINVAL, "logprobs");
    REFUSE(r.n_stop = 1000000, INFER_EINVAL, "stop");
    REFUSE((r.stop = empty_stop, r.n_stop = 2), INFER_EINVAL, "stop string 1");
    REFUSE((r.stop_ids = bad_ids, r.n_stop_ids = 2), INFER_EINVAL, "512");
    REFUSE(r.n_stop_ids = 100000, INFER_EINVAL, "stop ids");
    REFUSE(r.sampling.temperature = -1.0f, INFER_EINVAL, "temperature");
    REFUSE(r.sampling.temperature = NAN, INFER_EINVAL, "temperature");
    REFUSE(r.sampling.temperature = INFINITY, INFER_EINVAL, "temperature");
    REFUSE(r.sampling.top_p = 0.0f, INFER_EINVAL, "top_p");
    REFUSE(r.sampling.min_p = 1.0f, INFER_EINVAL, "min_p");
    REFUSE(r.sampling.typical_p = 1.5f, INFER_EINVAL, "typical_p");
    REFUSE(r.sampling.top_k = -1, INFER_EINVAL, "top_k");
    REFUSE(r.sampling.repetition_penalty = 0.0f, INFER_EINVAL, "repetition");
    REFUSE(r.sampling.presence_penalty = 3.0f, INFER_EINVAL, "presence");
    REFUSE(r.sampling.frequency_penalty = -3.0f, INFER_EINVAL, "frequency");
    REFUSE((r.sampling.bias = &no_token, r.sampling.n_bias = 1), INFER_EINVAL,
           "512");
    REFUSE((r.sampling.bias = &big, r.sampling.n_bias = 1), INFER_EINVAL,
           "-100..100");
    REFUSE(r.sampling.n_bias = SIZE_MAX, INFER_EINVAL, "logit_bias");
#undef REFUSE
    infer_engine_free(e);
}

static void test_refuses_bad_engines(void **state)
{
    static const struct {
        struct infer_engine_params p;
        const char *word;
    } bad[] = {
        {{.n_ctx = 513}, "512"},
        {{.n_ctx = 100, .kv_tokens = 99}, "100"},
        {{.max_running = 100000}, "max_running"},
        {{.step_tokens = 1000000}, "step_tokens"},
        {{.kv_tokens = UINT64_MAX}, "KV cache"},
        {{.kv_type = (enum infer_kv_type)9}, "type"},
    };

    (void)state;
    if (model == NULL)
        skip();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct infer_engine *e = NULL;
        struct infer_error err = {0};

        assert_int_equal(infer_engine_create(&e, model, team, &bad[i].p, &err),
                         INFER_EINVAL);
        assert_null(e);
        assert_non_null(strstr(err.text, bad[i].word));
        assert_int_equal(infer_engine_bytes(model, &bad[i].p), 0);
    }
    infer_engine_free(NULL);
}

static void test_the_queue_is_bounded(void **state)
{
    const struct infer_engine_params params = {.max_waiting = 3,
                                               .max_running = 2};
    struct infer_request r;
    struct infer_error err = {0};
    struct infer_engine *e;

    (void)state;
    if (model == NULL)
        skip();
    r = request(10, 30);
    e = engine(&params);
    for (int i = 0; i < 3; i++)
        collect_submit(e, &r, &replies[i]);
    r.user = &replies[9];
    assert_int_equal(infer_engine_submit(e, &r, &err), INFER_EBUSY);
    infer_engine_step(e); /* two start */
    collect_submit(e, &r, &replies[3]);
    collect_submit(e, &r, &replies[4]);
    r.user = &replies[9];
    assert_int_equal(infer_engine_submit(e, &r, &err), INFER_EBUSY);
    collect_finish(e);
    for (int i = 1; i < 5; i++)
        assert_same_reply(&replies[0], &replies[i]);
    infer_engine_free(e);
}

/* ---- ends --------------------------------------------------------------- */

static void test_cancel_at_any_step(void **state)
{
    const struct infer_engine_params params = {
        .step_tokens = 16, .max_running = 2, .kv_tokens = 512};
    struct infer_engine *e;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    for (int i = 0; i < 4; i++) {
        struct infer_request r = request(20 + (size_t)i * 15, 12);

        r.n = i == 1 ? 3 : 1;
        r.sampling.seed = (uint64_t)i;
        run(e, &r, &alone[i]);
    }
    for (int at = 0; at < 60; at++) {
        int32_t cancel = 0;
        bool was_done;
        struct infer_engine_stats stats;

        for (int i = 0; i < 4; i++) {
            struct infer_request r = request(20 + (size_t)i * 15, 12);

            r.n = i == 1 ? 3 : 1;
            r.sampling.seed = (uint64_t)i;
            r.cancel = i == 1 ? &cancel : NULL;
            collect_submit(e, &r, &replies[i]);
        }
        for (int i = 0; i < at; i++)
            infer_engine_step(e);
        was_done = replies[1].done;
        cancel = 1;
        infer_engine_step(e);
        assert_true(replies[1].done);
        for (int c = 0; c < 3 && !was_done; c++) {
            const struct said *s = &replies[1].choices[c];
            const struct said *whole = &alone[1].choices[c];

            assert_true(s->finish == INFER_FINISH_CANCELLED ||
                        s->n_generated == 12);
            assert_memory_equal(s->text, whole->text, s->text_len);
        }
        collect_finish(e);
        for (int i = 0; i < 4; i++)
            if (i != 1)
                assert_same_reply(&alone[i], &replies[i]);
        infer_engine_stats(e, &stats);
        assert_int_equal(stats.kv_blocks_used, 0);
    }
    infer_engine_free(e);
}

static void test_deadlines(void **state)
{
    const struct infer_engine_params params = {.max_running = 1};
    struct infer_engine *e;
    struct infer_request r;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    r = request(10, 400);
    collect_submit(e, &r, &replies[0]);
    r.deadline_ns = infer_clock_ns(); /* late at once, while queued */
    collect_submit(e, &r, &replies[1]);
    r.deadline_ns = infer_clock_ns() + 1000000000000u; /* not today */
    r.max_tokens = 3;
    collect_submit(e, &r, &replies[2]);
    infer_engine_step(e);
    assert_true(replies[1].done);
    assert_int_equal(replies[1].choices[0].finish, INFER_FINISH_DEADLINE);
    assert_int_equal(replies[1].choices[0].n_tokens, 0);
    collect_finish(e);
    assert_int_equal(replies[0].choices[0].finish, INFER_FINISH_LENGTH);
    assert_int_equal(replies[0].choices[0].n_tokens, 400);
    assert_int_equal(replies[2].choices[0].n_tokens, 3);
    r = request(10, 500);
    r.deadline_ns = infer_clock_ns() + 2000000;
    run(e, &r, &replies[3]);
    assert_true(replies[3].choices[0].finish == INFER_FINISH_DEADLINE ||
                replies[3].choices[0].n_tokens > 400);
    infer_engine_free(e);
}

static void test_free_cancels(void **state)
{
    const struct infer_engine_params params = {.max_running = 2};
    struct infer_engine *e;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    for (int i = 0; i < 5; i++) {
        struct infer_request r = request(10, 50);

        r.n = 1 + (uint32_t)i % 3;
        collect_submit(e, &r, &replies[i]);
    }
    for (int i = 0; i < 5; i++)
        infer_engine_step(e);
    infer_engine_free(e);
    for (int i = 0; i < 5; i++) {
        assert_true(replies[i].done);
        for (int c = 0; c <= i % 3; c++)
            assert_int_equal(replies[i].choices[c].finish,
                             INFER_FINISH_CANCELLED);
    }
}

static void test_context_ends_generation(void **state)
{
    const struct infer_engine_params params = {.n_ctx = 40};
    struct infer_engine *e;
    struct infer_request r;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    r = request(39, 1000000);
    run(e, &r, &replies[0]);
    assert_int_equal(replies[0].choices[0].n_generated, 1);
    assert_int_equal(replies[0].choices[0].finish, INFER_FINISH_LENGTH);
    r = request(30, UINT32_MAX);
    run(e, &r, &replies[0]);
    assert_int_equal(replies[0].choices[0].n_generated, 10);
    r = request(40, 0);
    run(e, &r, &replies[0]);
    assert_int_equal(replies[0].choices[0].finish, INFER_FINISH_LENGTH);
    assert_int_equal(replies[0].choices[0].n_tokens, 0);
    infer_engine_free(e);
}

static void test_stops(void **state)
{
    const struct infer_engine_params params = {0};
    const char *stop[] = {"zzz", "", "Lilyx"};
    char word[8] = {0};
    int32_t stop_id;
    struct infer_engine *e;
    struct infer_request r;
    const struct said *whole = &replies[0].choices[0];
    const struct said *s = &replies[1].choices[0];

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    r = request(10, 60);
    r.logprobs = 2;
    run(e, &r, &replies[0]);
    for (size_t at = 0; at + 4 < whole->text_len; at += 3) {
        const char *first;

        memcpy(word, whole->text + at, 4);
        stop[1] = word;
        r.stop = stop;
        r.n_stop = 3;
        run(e, &r, &replies[1]);
        first = strstr(whole->text, word);
        assert_int_equal(s->finish, INFER_FINISH_STOP);
        assert_int_equal(s->text_len, first - whole->text);
        assert_memory_equal(s->text, whole->text, s->text_len);
        assert_int_equal(s->n_tokens, s->n_generated);
        for (size_t i = 0; i < s->n_tokens; i++)
            assert_int_equal(s->tokens[i].id, whole->tokens[i].id);
    }
    stop_id = whole->tokens[20].id;
    r.n_stop = 0;
    r.stop_ids = &stop_id;
    r.n_stop_ids = 1;
    run(e, &r, &replies[1]);
    assert_int_equal(s->finish, INFER_FINISH_STOP);
    assert_true(s->n_tokens <= 21);
    assert_int_equal(s->tokens[s->n_tokens - 1].id, stop_id);
    assert_int_equal(s->text_len, s->tokens[s->n_tokens - 1].text_offset);
    infer_engine_free(e);
}

/* ---- order, choices, preemption ----------------------------------------- */

static void test_priorities(void **state)
{
    const struct infer_engine_params params = {.max_running = 1};
    static const int32_t priority[] = {0, 0, 5, -1, 5};
    static const uint64_t place[] = {1, 4, 2, 5, 3};
    struct infer_engine *e;
    uint64_t base;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    for (int i = 0; i < 5; i++) {
        struct infer_request r = request(10, 5);

        r.priority = priority[i];
        collect_submit(e, &r, &replies[i]);
        infer_engine_step(e); /* the first has begun already */
    }
    collect_finish(e);
    base = replies[0].order - 1;
    for (int i = 0; i < 5; i++)
        assert_int_equal(replies[i].order - base, place[i]);
    infer_engine_free(e);
}

static void test_choices(void **state)
{
    const struct infer_engine_params params = {0};
    struct infer_engine *e;
    struct infer_engine_stats stats;
    struct infer_request r;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    r = request(50, 30);
    run(e, &r, &replies[0]);
    infer_engine_free(e);
    e = engine(&params);
    r.n = 4;
    run(e, &r, &replies[1]);
    infer_engine_stats(e, &stats);
    assert_int_equal(stats.prompt_tokens, 50 + 3 * 2); /* 48 are shared */
    assert_int_equal(replies[1].n_cached, 0);
    infer_engine_free(e);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(replies[1].choices[i].n_tokens, 30);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(replies[1].choices[i].text,
                                    replies[1].choices[j].text);
        memset(&replies[1].choices[i], 0, sizeof(struct said));
    }
    assert_same_reply(&replies[0], &replies[1]);
}

/* Short prompts that grow: every one gets preempted again and again. */
static void test_preemption(void **state)
{
    enum { N = 16 };
    const struct infer_engine_params roomy = {.n_ctx = 192};
    const struct infer_engine_params tight = {
        .n_ctx = 192, .kv_tokens = 192, .step_tokens = 32};
    struct infer_engine *e;
    struct infer_engine_stats stats;

    (void)state;
    if (model == NULL)
        skip();
    for (int no_cache = 0; no_cache < 2; no_cache++) {
        struct infer_engine_params p = tight;
        struct infer_request r[N];

        e = engine(&roomy);
        for (int i = 0; i < N; i++) {
            r[i] = request(1 + (size_t)i, 150);
            r[i].sampling.seed = (uint64_t)i;
            r[i].echo = i % 2;
            r[i].logprobs = i % 3 - 1;
            run(e, &r[i], &alone[i]);
        }
        infer_engine_free(e);
        p.no_prefix_cache = no_cache;
        e = engine(&p);
        for (int i = 0; i < N; i++)
            collect_submit(e, &r[i], &replies[i]);
        collect_finish(e);
        infer_engine_stats(e, &stats);
        print_message("%llu preempted\n",
                      (unsigned long long)stats.n_preempted);
        assert_true(stats.n_preempted > 10);
        assert_int_equal(stats.kv_blocks_used, 0);
        for (int i = 0; i < N; i++)
            assert_same_reply(&alone[i], &replies[i]);
        infer_engine_free(e);
    }
}

static void test_prefixes_are_shared_within_a_scope(void **state)
{
    const struct infer_engine_params params = {0};
    struct infer_engine *e;
    struct infer_request r;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    r = request(64, 20);
    run(e, &r, &replies[0]);
    assert_int_equal(replies[0].n_cached, 0);
    run(e, &r, &replies[1]);
    assert_int_equal(replies[1].n_cached, 48); /* the last token is computed */
    r.cache_scope = 1;
    run(e, &r, &replies[2]);
    assert_int_equal(replies[2].n_cached, 0);
    r.echo = true; /* logprobs of the prompt need all its rows */
    r.logprobs = 0;
    run(e, &r, &replies[3]);
    assert_int_equal(replies[3].n_cached, 0);
    assert_same_reply(&replies[0], &replies[1]);
    assert_same_reply(&replies[0], &replies[2]);
    infer_engine_free(e);
}

/* ---- echo and sessions -------------------------------------------------- */

static double log_prob(const float *logits, int32_t id)
{
    double max = -HUGE_VAL, sum = 0.0;

    for (int i = 0; i < 512; i++)
        max = fmax(max, (double)logits[i]);
    for (int i = 0; i < 512; i++)
        sum += exp((double)logits[i] - max);
    return (double)logits[id] - max - log(sum);
}

static void test_echo_scores_the_prompt(void **state)
{
    const struct infer_engine_params params = {.step_tokens = 16};
    const struct infer_session_params sp = {.n_ctx = 100, .max_rows = 100};
    struct infer_session *session = NULL;
    struct infer_row rows[100];
    struct infer_engine *e;
    struct infer_request r;
    const struct said *s = &replies[0].choices[0];
    char *text = NULL;
    size_t len;

    (void)state;
    if (model == NULL)
        skip();
    e = engine(&params);
    r = request(100, 0);
    r.echo = true;
    r.logprobs = 3;
    run(e, &r, &replies[0]);
    assert_int_equal(s->n_tokens, 100);
    assert_int_equal(s->n_generated, 0);
    assert_int_equal(
        infer_detokenize(model, prompt.ids, 100, false, &text, &len, NULL),
        INFER_OK);
    assert_int_equal(s->text_len, len);
    assert_memory_equal(s->text, text, len);
    free(text);

    assert_int_equal(infer_session_create(&session, model, team, &sp, NULL),
                     INFER_OK);
    for (int i = 0; i < 100; i++)
        rows[i] = (struct infer_row){prompt.ids[i], 0, true};
    assert_int_equal(infer_session_eval(session, rows, 100, NULL, NULL),
                     INFER_OK);
    assert_true(isnan(s->tokens[0].logprob));
    for (size_t i = 1; i < 100; i++) {
        const float *logits = infer_session_logits(session, i - 1);

        assert_true(fabs((double)s->tokens[i].logprob -
                         log_prob(logits, prompt.ids[i])) < 1e-4);
        assert_int_equal(s->tokens[i].n_top, 3);
        assert_true(s->tops[i][0].logprob >= s->tops[i][1].logprob);
    }
    infer_session_free(session);
    infer_engine_free(e);
}

static void test_sessions_do_not_depend_on_chunks(void **state)
{
    enum { N = 90 };
    const struct infer_session_params sp = {
        .n_seqs = 3, .n_ctx = N, .max_rows = 2 * N};
    struct infer_session *s = NULL;
    struct infer_row rows[2 * N];
    float *want = malloc(N * 512 * sizeof(float));
    float *got = malloc(2 * N * 512 * sizeof(float));
    struct infer_error err = {0};

    (void)state;
    if (model == NULL) {
        free(want);
        free(got);
        skip();
    }
    assert_int_equal(infer_session_create(&s, model, team, &sp, NULL),
                     INFER_OK);
    for (int i = 0; i < N; i++)
        rows[i] = (struct infer_row){prompt.ids[i], 1, true};
    assert_int_equal(infer_session_eval(s, rows, N, want, NULL), INFER_OK);
    for (int chunk = 1; chunk <= N; chunk = chunk * 2 + 1) {
        infer_session_rewind(s, 1, 0);
        infer_session_rewind(s, 2, 0);
        for (int at = 0; at < N; at += chunk) {
            const int n = at + chunk < N ? chunk : N - at;

            for (int i = 0; i < 2 * n; i++)
                rows[i] = (struct infer_row){prompt.ids[at + i % n],
                                             i < n ? 2 : 1, true};
            assert_int_equal(
                infer_session_eval(s, rows, 2 * (size_t)n, got, NULL),
                INFER_OK);
            assert_memory_equal(got, want + at * 512,
                                (size_t)n * 512 * sizeof(float));
            assert_memory_equal(got + n * 512, want + at * 512,
                                (size_t)n * 512 * sizeof(float));
        }
    }
    rows[0].seq = 1;
    assert_int_equal(infer_session_eval(s, rows, 1, NULL, &err),
                     INFER_ETOOLONG);
    rows[0].seq = 3;
    assert_int_equal(infer_session_eval(s, rows, 1, NULL, &err), INFER_EINVAL);
    rows[0] = (struct infer_row){512, 0, true};
    assert_int_equal(infer_session_eval(s, rows, 1, NULL, &err), INFER_EINVAL);
    infer_session_rewind(s, 1, 0);
    for (uint32_t i = 0; i < 3; i++)
        rows[i] = (struct infer_row){1, i % 2, true};
    assert_int_equal(infer_session_eval(s, rows, 3, NULL, &err), INFER_EINVAL);
    assert_int_equal(infer_session_eval(s, rows, 0, NULL, &err), INFER_EINVAL);
    infer_session_rewind(s, 1, 0);
    assert_int_equal(infer_session_eval(s, rows, 2, NULL, &err), INFER_OK);
    infer_session_free(s);
    free(want);
    free(got);
}

/* ---- ------------------------------------------------------------------- */

static int start(void **state)
{
    static const char text[] =
        "Once upon a time, there was a little girl named Lily. She loved to "
        "play outside in the park. One day, she saw a big, red ball. She "
        "wanted to play with it, but it was too high.\nLily's mom said, "
        "\"Lily, let's go to the park.\" Lily was sad and "
        "did not know what to do. She said, \"I want to play with the ball.\"";

    (void)state;
    replies = calloc(MAX_REQUESTS, sizeof(*replies));
    alone = calloc(MAX_REQUESTS, sizeof(*alone));
    model = collect_model("stories260K/model-Q8_0.gguf");
    if (model == NULL)
        return 0;
    if (infer_team_create(&team, 1, 0, NULL) != INFER_OK)
        return -1;
    return infer_tokenize(model, text, sizeof(text) - 1, true, false, &prompt,
                          NULL);
}

static int finish(void **state)
{
    (void)state;
    infer_tokens_release(&prompt);
    infer_team_free(team);
    infer_model_free(model);
    free(replies);
    free(alone);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_bad_requests),
        cmocka_unit_test(test_refuses_bad_engines),
        cmocka_unit_test(test_the_queue_is_bounded),
        cmocka_unit_test(test_cancel_at_any_step),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_free_cancels),
        cmocka_unit_test(test_context_ends_generation),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_preemption),
        cmocka_unit_test(test_prefixes_are_shared_within_a_scope),
        cmocka_unit_test(test_echo_scores_the_prompt),
        cmocka_unit_test(test_sessions_do_not_depend_on_chunks),
    };

    return cmocka_run_group_tests(tests, start, finish);
}
