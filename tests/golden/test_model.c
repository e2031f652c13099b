/*
 * test_model.c - the forward pass against the oracle's models, all types.
 *
 * For each decoder of an architecture we run: logits of every prompt's last
 * position, mean negative log-likelihood of 512 tokens, and greedy
 * continuations, with an f32 cache, on one thread and on two. Limits are the
 * oracle's own: 1e-3 (1e-2 with GELU) where nothing but order of float sums
 * differs, 1.5 times llama.cpp's own distance from exact arithmetic where
 * activations are rounded.
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

enum { MAX_CTX = 1024, N_BLOCKS = MAX_CTX / INFER_KV_BLOCK };

/* A model ready to run one sequence. */
struct runner {
    struct infer_model *model;
    struct infer_team *team;
    struct infer_kv kv;
    struct infer_forward *forward;
    uint32_t blocks[N_BLOCKS];
    uint32_t n_vocab;
};

static void runner_open(struct runner *r, const char *path, unsigned cpu,
                        int n_threads)
{
    const struct infer_model_params params = {.cpu = cpu};
    struct infer_error err = {0};

    if (infer_model_load(&r->model, path, &params, &err))
        fail_msg("%s", err.text);
    assert_int_equal(infer_team_create(&r->team, n_threads, 0, &err), 0);
    assert_int_equal(
        infer_kv_create(&r->kv, r->model, INFER_KV_F32, N_BLOCKS, &err), 0);
    assert_int_equal(infer_forward_create(&r->forward, r->model, r->team,
                                          &r->kv, 512, 512, MAX_CTX, &err),
                     0);
    for (uint32_t i = 0; i < N_BLOCKS; i++)
        r->blocks[i] = (i * 7 + 3) % N_BLOCKS;
    r->n_vocab = r->model->hp.n_vocab;
}

static void runner_close(struct runner *r)
{
    infer_forward_free(r->forward);
    infer_kv_release(&r->kv);
    infer_team_free(r->team);
    infer_model_free(r->model);
}

/* ids[n] at positions from pos on; every row's logits are kept when all. */
static void eval(struct runner *r, const int32_t *ids, size_t n, uint32_t pos,
                 bool all)
{
    static struct infer_batch_row rows[512];
    const uint32_t *blocks = r->blocks;

    for (size_t i = 0; i < n; i++)
        rows[i] = (struct infer_batch_row){.token = ids[i],
                                           .pos = pos + (uint32_t)i,
                                           .logits = all || i + 1 == n};
    infer_forward_run(
        r->forward,
        &(struct infer_batch){.rows = rows, .n_rows = n, .blocks = &blocks});
}

/* ---- comparisons -------------------------------------------------------- */

struct limits {
    double max, rms, nll;
};

/* Limits of a file: of its own rounding of activations, or of float order. */
static struct limits limits_of(const cJSON *cases, const cJSON *model,
                               const char *type)
{
    const char *arch = oracle_str(cases, "arch");
    const double tight = strcmp(arch, "gpt2") == 0 ? 1e-2 : 1e-3;
    const cJSON *own = cJSON_GetObjectItem(
        cJSON_GetObjectItem(model, "cross_check"), "llamacpp_vs_deq");

    if (strcmp(type, "F32") == 0 || strcmp(type, "F16") == 0 || !own)
        return (struct limits){tight, tight, tight / 10};
    return (struct limits){oracle_num(own, "max") * 1.5,
                           oracle_num(own, "rms") * 1.5, 0.01};
}

static void check_logits(struct runner *r, const cJSON *prompts,
                         const float *want, struct limits limit,
                         const char *what)
{
    const cJSON *p;
    double sum = 0.0;
    size_t n = 0;

    cJSON_ArrayForEach (p, prompts) {
        int32_t ids[512];
        const size_t n_ids = oracle_ids(p, "ids", ids, 512);

        eval(r, ids, n_ids, 0, false);
        const float *got = infer_forward_logits(r->forward, 0);

        for (uint32_t i = 0; i < r->n_vocab; i++, n++) {
            const double d = (double)got[i] - (double)want[n];

            if (!(fabs(d) <= limit.max))
                fail_msg("%s, prompt %s, logit %u: %g, not %g (limit %g)", what,
                         oracle_str(p, "name"), i, (double)got[i],
                         (double)want[n], limit.max);
            sum += d * d;
        }
    }
    const double rms = sqrt(sum / (double)n);

    if (!(rms <= limit.rms))
        fail_msg("%s: rms %g exceeds %g", what, rms, limit.rms);
}

static double row_nll(const float *logits, uint32_t n, int32_t id)
{
    double max = (double)logits[0], sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum) - (double)logits[id];
}

static void check_nll(struct runner *r, const cJSON *cases, double want,
                      double limit, const char *what)
{
    int32_t ids[512];
    const size_t n = oracle_ids(cases, "nll_ids", ids, 512);
    double sum = 0.0;

    eval(r, ids, n, 0, true);
    for (size_t i = 0; i + 1 < n; i++)
        sum += row_nll(infer_forward_logits(r->forward, i), r->n_vocab,
                       ids[i + 1]);
    if (!(fabs(sum / (double)(n - 1) - want) <= limit))
        fail_msg("%s: nll %.6f, not %.6f (limit %g)", what,
                 sum / (double)(n - 1), want, limit);
}

/*
 * The greedy continuation is `want`. Rounding of activations makes logits jump
 * when a float sum's last bit moves one value across a boundary, so a variant
 * whose sums run in another order than the reference may part from it, but only
 * at a near tie: no further apart than two builds of the reference are. The
 * robust continuations allow none.
 */
static void check_greedy(struct runner *r, const int32_t *ids, size_t n_ids,
                         const int32_t *want, size_t n_want, double tie,
                         const char *what)
{
    uint32_t pos = (uint32_t)n_ids;

    eval(r, ids, n_ids, 0, false);
    for (size_t i = 0; i < n_want; i++) {
        const float *logits = infer_forward_logits(r->forward, 0);
        const int32_t id = (int32_t)r->model->kern.argmax(logits, r->n_vocab);
        const double margin = (double)(logits[id] - logits[want[i]]);

        if (id != want[i] && margin > tie)
            fail_msg("%s: greedy token %zu is %d, not %d (by %g)", what, i, id,
                     want[i], margin);
        if (id != want[i]) {
            print_message("%s: parts at token %zu, a near tie (%g)\n", what, i,
                          margin);
            return;
        }
        eval(r, &id, 1, pos++, false);
    }
}

/* What two builds of the reference differ by; 0 for the scalar variant. */
static double tie_limit(const struct runner *r, const cJSON *model)
{
    const cJSON *native = cJSON_GetObjectItem(
        cJSON_GetObjectItem(model, "cross_check"), "native_build");

    return r->model->kern.cpu == 0 ? 0.0 : oracle_num(native, "max");
}

/* Continuations on which all exact-cache runs agree, and the robust ones. */
static void check_continuations(struct runner *r, const cJSON *cases,
                                const cJSON *model, const char *what)
{
    const cJSON *greedy =
        cJSON_GetObjectItem(cJSON_GetObjectItem(model, "llamacpp"), "greedy");
    const cJSON *agree = cJSON_GetObjectItem(model, "greedy_agree_f32kv");
    const double tie = tie_limit(r, model);
    const cJSON *prompt, *robust;
    int i = 0;

    cJSON_ArrayForEach (robust, cJSON_GetObjectItem(model, "greedy_robust")) {
        int32_t ids[512], want[64];
        const size_t n_ids = oracle_ids(robust, "ids", ids, 512);
        const size_t n = oracle_ids(robust, "greedy", want, 64);

        check_greedy(r, ids, n_ids, want, n, 0.0, what);
    }
    cJSON_ArrayForEach (prompt, cJSON_GetObjectItem(cases, "prompts")) {
        int32_t ids[512], want[64];
        const size_t n_ids = oracle_ids(prompt, "ids", ids, 512);

        oracle_list(cJSON_GetArrayItem(greedy, i), want, 64);
        if (oracle_is_float(oracle_str(model, "file")))
            check_greedy(r, ids, n_ids, want,
                         (size_t)cJSON_GetArrayItem(agree, i)->valueint, tie,
                         what);
        i++;
    }
}

static void check_model(const char *folder, const cJSON *cases,
                        const cJSON *model, unsigned cpu, int n_threads)
{
    const cJSON *prompts = cJSON_GetObjectItem(cases, "prompts");
    const char *type = model->string;
    const cJSON *deq = cJSON_GetObjectItem(model, "llamacpp_deq");
    const struct limits limit = limits_of(cases, model, type);
    struct runner r;
    char path[256], what[320];
    float *want;
    size_t n;

    snprintf(path, sizeof(path), "%s/%s", folder, oracle_str(model, "file"));
    runner_open(&r, path, cpu, n_threads);
    snprintf(what, sizeof(what), "%s, %s, %d threads", path, r.model->kern.name,
             n_threads);
    snprintf(path, sizeof(path), "%s/%s.%s.f32", folder, type,
             deq ? "deq" : "logits");
    want = oracle_floats(path, &n);
    assert_int_equal(n, (size_t)cJSON_GetArraySize(prompts) * r.n_vocab);
    check_logits(&r, prompts, want, limit, what);
    check_nll(
        &r, cases,
        oracle_num(deq ? deq : cJSON_GetObjectItem(model, "llamacpp"), "nll"),
        limit.nll, what);
    check_continuations(&r, cases, model, what);
    free(want);
    runner_close(&r);
    print_message("%s: equal\n", what);
}

static void test_oracle(void **state)
{
    static const char *const names[] = {
        "stories260K",     "llama-b32",  "llama-k256", "llama-linear",
        "llama-ropefreqs", "llama-yarn", "gpt2",       "gpt2-k256",
        "qwen2",           "qwen3"};
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle)};

    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
