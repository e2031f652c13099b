/*
 * test_sampler.c - the sampler against a plain reference that sorts everything
 * in double precision: the same random number must pick the same token, for
 * all combinations of parameters, sizes and kinds of rows.
 *
 * A draw within rounding distance of a border between two tokens may go either
 * way, so the reference tells how near the border was and such draws (a few in
 * 10 000) are only required to be one of the two.
 */
#include "core/engine/sampler.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_V = 5000 };

static uint64_t rng_state = 3;

static uint32_t rnd(uint32_t n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % n;
}

static float rnd_float(void)
{
    return (float)rnd(1u << 24) / (float)(1u << 24);
}

static float rnd_normal(void)
{
    float sum = 0.0f;

    for (int i = 0; i < 12; i++)
        sum += rnd_float();
    return sum - 6.0f;
}

struct fixture {
    struct infer_kernels kern;
    struct infer_sampler *s;
    uint32_t n_vocab;
};

static void start(struct fixture *f, uint32_t n_vocab)
{
    infer_kernels_init(&f->kern, infer_cpu_detect());
    f->n_vocab = n_vocab;
    assert_int_equal(infer_sampler_create(&f->s, &f->kern, n_vocab, NULL),
                     INFER_OK);
}

static struct infer_sample job_of(const float *logits,
                                  const struct infer_sampling *p)
{
    return (struct infer_sample){
        .logits = logits, .params = p, .given = -1, .n_top = -1};
}

/* ---- the reference ------------------------------------------------------ */

struct ref {
    int32_t id;
    double rank; /* what it is sorted by */
    double p;
};

static int by_rank(const void *va, const void *vb)
{
    const struct ref *a = va, *b = vb;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int by_id(const void *va, const void *vb)
{
    const struct ref *a = va, *b = vb;

    return (a->id > b->id) - (a->id < b->id);
}

static void normalise(struct ref *r, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += r[i].p;
    for (size_t i = 0; i < n; i++)
        r[i].p /= sum;
}

/* Sorted already: the shortest prefix with that mass. *near: a border within
 * rounding. */
static size_t prefix(const struct ref *r, size_t n, double mass, bool *near)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        sum += r[i].p;
        if (fabs(sum - mass) < 1e-5)
            *near = true;
        if (sum >= mass)
            return i + 1;
    }
    return n;
}

static void reference_logits(const struct infer_sample *job, uint32_t n_vocab,
                             double *x)
{
    const struct infer_sampling *p = job->params;

    for (uint32_t i = 0; i < n_vocab; i++)
        x[i] = (double)job->logits[i];
    for (size_t i = 0; i < p->n_bias; i++)
        x[p->bias[i].id] += (double)p->bias[i].bias;
    for (uint32_t id = 0; id < n_vocab; id++) {
        bool seen = false;
        int count = 0;

        for (uint32_t i = 0; i < job->n_tokens; i++)
            if (job->tokens[i] == (int32_t)id) {
                seen = true;
                count += i >= job->n_prompt;
            }
        if (seen)
            x[id] = x[id] > 0 ? x[id] / (double)p->repetition_penalty
                              : x[id] * (double)p->repetition_penalty;
        if (count > 0)
            x[id] -= count * (double)p->frequency_penalty +
                     (double)p->presence_penalty;
    }
}

/* Cuts of steps 5 to 8 on r[n], sorted by probability; returns what is left. */
static size_t reference_cuts(const struct infer_sampling *p, struct ref *r,
                             size_t n, bool *near)
{
    double entropy = 0.0;

    if (p->top_k > 0 && (size_t)p->top_k < n)
        n = (size_t)p->top_k;
    normalise(r, n);
    if (p->top_p < 1.0f)
        n = prefix(r, n, (double)p->top_p, near);
    if (p->min_p > 0.0f) {
        size_t m = 0;

        for (size_t i = 0; i < n; i++)
            *near |= fabs(r[i].p / r[0].p - (double)p->min_p) < 1e-6;
        while (m < n && r[m].p >= (double)p->min_p * r[0].p)
            m++;
        n = m;
    }
    normalise(r, n);
    if (p->typical_p == 1.0f)
        return n;
    for (size_t i = 0; i < n; i++)
        entropy -= r[i].p > 0 ? r[i].p * log(r[i].p) : 0;
    for (size_t i = 0; i < n; i++)
        r[i].rank = fabs(-log(r[i].p) - entropy);
    qsort(r, n, sizeof(*r), by_rank);
    for (size_t i = 1; i < n; i++) /* floats may order these otherwise */
        *near |= r[i].rank - r[i - 1].rank < 1e-5 && r[i].p != r[i - 1].p;
    n = prefix(r, n, (double)p->typical_p, near);
    normalise(r, n);
    return n;
}

/* The token for random number u; -1 when too near to a border to tell. */
static int32_t reference(const struct infer_sample *job, uint32_t n_vocab,
                         double u)
{
    static double x[MAX_V];
    static struct ref r[MAX_V];
    const struct infer_sampling *p = job->params;
    bool near = false;
    double sum = 0.0;
    size_t n = n_vocab;

    reference_logits(job, n_vocab, x);
    for (uint32_t i = 0; i < n_vocab; i++)
        r[i] = (struct ref){.id = (int32_t)i, .rank = -x[i]};
    qsort(r, n, sizeof(*r), by_rank);
    if (p->temperature == 0.0f)
        return r[0].id;
    for (size_t i = 0; i < n; i++)
        r[i].p = exp((r[0].rank - r[i].rank) / (double)p->temperature);
    n = reference_cuts(p, r, n, &near);
    qsort(r, n, sizeof(*r), by_id);
    for (size_t i = 0; i < n; i++) {
        sum += r[i].p;
        if (fabs(sum - u) < 1e-5 || near)
            return -1;
        if (sum > u)
            return r[i].id;
    }
    return -1;
}

/* ---- against it --------------------------------------------------------- */

static void random_params(struct infer_sampling *p, uint32_t n_vocab)
{
    infer_sampling_default(p);
    p->seed = rnd(1000000);
    if (rnd(2))
        p->temperature = 0.1f + 2.0f * rnd_float();
    if (rnd(8) == 0)
        p->temperature = 0.0f;
    if (rnd(3) == 0)
        p->top_k = 1 + (int32_t)rnd(rnd(2) ? n_vocab + 5 : 20);
    if (rnd(3) == 0)
        p->top_p = 0.05f + 0.95f * rnd_float();
    if (rnd(4) == 0)
        p->min_p = 0.3f * rnd_float();
    if (rnd(4) == 0)
        p->typical_p = 0.1f + 0.9f * rnd_float();
    if (rnd(3) == 0)
        p->repetition_penalty = 0.5f + rnd_float();
    if (rnd(3) == 0)
        p->presence_penalty = 4.0f * rnd_float() - 2.0f;
    if (rnd(3) == 0)
        p->frequency_penalty = 4.0f * rnd_float() - 2.0f;
}

static void test_equals_reference(void **state)
{
    static const uint32_t sizes[] = {1,  2,   3,   15,  16,  17,  63,   64,
                                     65, 100, 128, 129, 512, 777, 1000, 3000};
    static float logits[MAX_V];
    uint32_t n_checked = 0, n_near = 0;

    (void)state;
    for (size_t v = 0; v < sizeof(sizes) / sizeof(sizes[0]); v++) {
        struct fixture f;

        start(&f, sizes[v]);
        for (int round = 0; round < 600; round++) {
            const float spread = 0.3f + 5.0f * rnd_float();
            struct infer_logit_bias bias[3];
            int32_t tokens[40];
            struct infer_sampling p;
            struct infer_sample job;
            int32_t want;

            for (uint32_t i = 0; i < f.n_vocab; i++)
                logits[i] = spread * rnd_normal();
            for (int i = 0; i < 40; i++)
                tokens[i] = (int32_t)rnd(f.n_vocab);
            random_params(&p, f.n_vocab);
            for (int i = 0; i < 3; i++)
                bias[i] = (struct infer_logit_bias){(int32_t)rnd(f.n_vocab),
                                                    10.0f * rnd_normal()};
            p.bias = bias;
            p.n_bias = rnd(3) == 0 ? rnd(4) : 0;
            job = job_of(logits, &p);
            job.tokens = tokens;
            job.n_tokens = rnd(41);
            job.n_prompt = rnd(job.n_tokens + 1);
            job.choice = rnd(4);
            want = reference(
                &job, f.n_vocab,
                infer_uniform(p.seed, job.choice, job.n_tokens - job.n_prompt));
            infer_sampler_run(f.s, &job);
            assert_false(job.broken);
            n_checked++;
            n_near += want < 0;
            if (want >= 0)
                assert_int_equal(job.id, want);
        }
        infer_sampler_free(f.s);
    }
    print_message("%u draws, %u too near a border to tell\n", n_checked,
                  n_near);
    assert_true(n_near < n_checked / 10);
}

/* Frequencies of many draws against the probabilities: chi-squared. */
static void test_distribution(void **state)
{
    enum { V = 50, DRAWS = 200000 };
    float logits[V];
    double p[V], sum = 0.0, chi2 = 0.0;
    static uint32_t count[V];
    int32_t *tokens = calloc(DRAWS, sizeof(*tokens));
    struct infer_sampling params;
    struct fixture f;

    (void)state;
    start(&f, V);
    infer_sampling_default(&params);
    params.seed = 99;
    for (int i = 0; i < V; i++) {
        logits[i] = 1.5f * rnd_normal();
        sum += p[i] = exp((double)logits[i]);
    }
    for (uint32_t i = 0; i < DRAWS; i++) {
        struct infer_sample job = job_of(logits, &params);

        job.choice = i & 7;
        job.tokens = tokens;
        job.n_tokens = i >> 3; /* the position; no penalty reads the tokens */
        infer_sampler_run(f.s, &job);
        count[job.id]++;
    }
    free(tokens);
    for (int i = 0; i < V; i++) {
        const double want = p[i] / sum * DRAWS;

        chi2 += (count[i] - want) * (count[i] - want) / want;
    }
    /* 49 degrees of freedom: mean 49, sd 9.9; 100 is past 5 sd */
    assert_true(chi2 < 100.0);
    infer_sampler_free(f.s);
}

static void test_uniform(void **state)
{
    double sum = 0.0, sum2 = 0.0, lag = 0.0, last = 0.5;
    uint32_t n = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++)
        for (uint32_t choice = 0; choice < 20; choice++)
            for (uint32_t pos = 0; pos < 500; pos++, n++) {
                const double u = infer_uniform(seed, choice, pos);

                assert_true(u >= 0.0 && u < 1.0);
                sum += u;
                sum2 += u * u;
                lag += (u - 0.5) * (last - 0.5);
                last = u;
            }
    assert_true(fabs(sum / n - 0.5) < 0.003);
    assert_true(fabs(sum2 / n - 1.0 / 3.0) < 0.003);
    assert_true(fabs(lag / n) < 0.001);
    assert_true(infer_uniform(1, 0, 0) != infer_uniform(1, 1, 0));
    assert_true(infer_uniform(1, 0, 0) != infer_uniform(1, 0, 1));
    assert_true(infer_uniform(1, 0, 0) != infer_uniform(2, 0, 0));
    assert_true(infer_uniform(1, 0, 1) != infer_uniform(2, 0, 0));
}

static int32_t run_one(struct fixture *f, const float *logits,
                       const struct infer_sampling *p)
{
    struct infer_sample job = job_of(logits, p);

    infer_sampler_run(f->s, &job);
    assert_false(job.broken);
    return job.id;
}

static void test_ties_and_extremes(void **state)
{
    enum { V = 200 };
    float logits[V] = {0};
    struct infer_sampling p;
    struct fixture f;

    (void)state;
    start(&f, V);
    infer_sampling_default(&p);
    p.temperature = 0.0f;
    assert_int_equal(run_one(&f, logits, &p), 0);
    logits[70] = logits[199] = 2.0f;
    assert_int_equal(run_one(&f, logits, &p), 70);
    p.temperature = 100.0f;
    p.top_k = 1;
    for (p.seed = 0; p.seed < 50; p.seed++)
        assert_int_equal(run_one(&f, logits, &p), 70);
    p.top_k = 0;
    p.top_p = 1e-6f;
    for (p.seed = 0; p.seed < 50; p.seed++)
        assert_int_equal(run_one(&f, logits, &p), 70);
    p.top_p = 1.0f;
    p.temperature = 1e-40f; /* subnormal */
    for (p.seed = 0; p.seed < 50; p.seed++) {
        const int32_t id = run_one(&f, logits, &p);

        assert_true(id == 70 || id == 199);
    }
    p.temperature = 1.0f;
    for (int i = 0; i < V; i++)
        logits[i] = i == 123 ? -FLT_MAX : -INFINITY;
    for (p.seed = 0; p.seed < 20; p.seed++)
        assert_int_equal(run_one(&f, logits, &p), 123);
    p.min_p = 0.99999994f;
    p.typical_p = 1e-6f;
    assert_int_equal(run_one(&f, logits, &p), 123);
    for (int i = 0; i < V; i++) /* typical of a uniform row: all equal */
        logits[i] = 1.0f;
    p.typical_p = 0.5f;
    p.min_p = 0.0f;
    for (p.seed = 0; p.seed < 50; p.seed++)
        assert_in_range(run_one(&f, logits, &p), 0, V / 2);
    infer_sampler_free(f.s);
}

static void test_broken_rows(void **state)
{
    enum { V = 130 };
    struct infer_sampling p;
    struct fixture f;

    (void)state;
    start(&f, V);
    infer_sampling_default(&p);
    for (int at = 0; at < V; at++)
        for (int kind = 0; kind < 2; kind++) {
            float logits[V] = {0};
            struct infer_sample job = job_of(logits, &p);

            logits[at] = kind == 0 ? NAN : INFINITY;
            infer_sampler_run(f.s, &job);
            assert_true(job.broken);
        }
    {
        float logits[V];
        struct infer_sample job = job_of(logits, &p);

        for (int i = 0; i < V; i++)
            logits[i] = -INFINITY;
        infer_sampler_run(f.s, &job);
        assert_true(job.broken);
    }
    infer_sampler_free(f.s);
}

static void test_logprobs(void **state)
{
    enum { V = 1000 };
    static float logits[V];
    struct infer_sampling p;
    struct infer_logit_bias bias = {5, 50.0f};
    struct fixture f;
    struct infer_sample job;
    double sum = 0.0;

    (void)state;
    start(&f, V);
    infer_sampling_default(&p);
    p.temperature = 0.0f;
    p.bias = &bias;
    p.n_bias = 1;
    for (int i = 0; i < V; i++)
        logits[i] = 3.0f * rnd_normal();
    logits[17] = logits[900] = 20.0f;
    for (int i = 0; i < V; i++)
        sum += exp((double)logits[i]);
    job = job_of(logits, &p);
    job.n_top = 5;
    infer_sampler_run(f.s, &job);
    assert_int_equal(job.id, 5); /* the bias decides, but is no probability */
    assert_true(fabs((double)job.logprob - ((double)logits[5] - log(sum))) <
                1e-5);
    assert_int_equal(job.n_found, 5);
    assert_int_equal(job.top[0].id, 17);
    assert_int_equal(job.top[1].id, 900);
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(fabs((double)job.top[i].logprob -
                         ((double)logits[job.top[i].id] - log(sum))) < 1e-5);
        assert_true(i == 0 || job.top[i].logprob <= job.top[i - 1].logprob);
    }
    job.given = 321;
    job.n_top = 0;
    infer_sampler_run(f.s, &job);
    assert_int_equal(job.id, 321);
    assert_int_equal(job.n_found, 0);
    assert_true(fabs((double)job.logprob - ((double)logits[321] - log(sum))) <
                1e-5);
    job.n_top = -1;
    infer_sampler_run(f.s, &job);
    assert_true(isnan(job.logprob));
    infer_sampler_free(f.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_reference),
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_ties_and_extremes),
        cmocka_unit_test(test_broken_rows),
        cmocka_unit_test(test_logprobs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
