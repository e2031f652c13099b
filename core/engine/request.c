/*
 * request.c - a request becomes a job: checked, copied, sized.
 *
 * Everything a request will ever need is allocated here, in one block laid out
 * by the same function that measures it, so a step allocates nothing and an
 * accepted request cannot fail for lack of memory. Numbers are compared with
 * their limits before they become sizes.
 */
#include "core/engine/engine.h"

#include "core/base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- checks ------------------------------------------------------------- */

static bool in_range(float x, float lo, float hi)
{
    return x >= lo && x <= hi; /* false for NaN */
}

static int check_sampling(const struct infer_sampling *p, uint32_t n_vocab,
                          struct infer_error *err)
{
    if (!in_range(p->temperature, 0.0f, 100.0f))
        return infer_fail(err, INFER_EINVAL, "temperature is not in 0..100");
    if (!in_range(p->top_p, 0.0f, 1.0f) || p->top_p == 0.0f)
        return infer_fail(err, INFER_EINVAL, "top_p is not in (0, 1]");
    if (!in_range(p->min_p, 0.0f, 1.0f) || p->min_p == 1.0f)
        return infer_fail(err, INFER_EINVAL, "min_p is not in [0, 1)");
    if (!in_range(p->typical_p, 0.0f, 1.0f) || p->typical_p == 0.0f)
        return infer_fail(err, INFER_EINVAL, "typical_p is not in (0, 1]");
    if (p->top_k < 0)
        return infer_fail(err, INFER_EINVAL, "top_k is negative");
    if (!in_range(p->repetition_penalty, 0.0f, 1e6f) ||
        p->repetition_penalty == 0.0f)
        return infer_fail(err, INFER_EINVAL,
                          "repetition_penalty is not in (0, 1000000]");
    if (!in_range(p->presence_penalty, -2.0f, 2.0f))
        return infer_fail(err, INFER_EINVAL,
                          "presence_penalty is not in -2..2");
    if (!in_range(p->frequency_penalty, -2.0f, 2.0f))
        return infer_fail(err, INFER_EINVAL,
                          "frequency_penalty is not in -2..2");
    if (p->n_bias > n_vocab)
        return infer_fail(err, INFER_EINVAL,
                          "logit_bias has more entries than the vocabulary");
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || (uint32_t)p->bias[i].id >= n_vocab)
            return infer_fail(err, INFER_EINVAL,
                              "logit_bias of %d: no such token", p->bias[i].id);
        if (!in_range(p->bias[i].bias, -100.0f, 100.0f))
            return infer_fail(err, INFER_EINVAL,
                              "logit_bias of %d is not in -100..100",
                              p->bias[i].id);
    }
    return INFER_OK;
}

static int check_stops(const struct infer_request *r, uint32_t n_vocab,
                       struct infer_error *err)
{
    if (r->n_stop > INFER_MAX_STOPS)
        return infer_fail(err, INFER_EINVAL, "more than %d stop strings",
                          (int)INFER_MAX_STOPS);
    for (size_t i = 0; i < r->n_stop; i++) {
        const size_t len = strnlen(r->stop[i], INFER_MAX_STOP_BYTES + 1);

        if (len == 0 || len > INFER_MAX_STOP_BYTES)
            return infer_fail(err, INFER_EINVAL,
                              "stop string %zu is not 1..%d bytes long", i,
                              (int)INFER_MAX_STOP_BYTES);
    }
    if (r->n_stop_ids > INFER_MAX_STOP_IDS)
        return infer_fail(err, INFER_EINVAL, "more than %d stop ids",
                          (int)INFER_MAX_STOP_IDS);
    for (size_t i = 0; i < r->n_stop_ids; i++)
        if (r->stop_ids[i] < 0 || (uint32_t)r->stop_ids[i] >= n_vocab)
            return infer_fail(err, INFER_EINVAL, "stop id %d: no such token",
                              r->stop_ids[i]);
    return INFER_OK;
}

static int check(const struct infer_engine *e, const struct infer_request *r,
                 struct infer_error *err)
{
    const uint32_t n_vocab = e->m->hp.n_vocab;
    int status;

    if (r->on_event == NULL)
        return infer_fail(err, INFER_EINVAL, "a request without on_event");
    if (r->n_prompt == 0)
        return infer_fail(err, INFER_EINVAL, "the prompt is empty");
    if (r->n > INFER_MAX_CHOICES)
        return infer_fail(err, INFER_EINVAL, "n is not in 1..%d",
                          (int)INFER_MAX_CHOICES);
    if (r->logprobs < -1 || r->logprobs > INFER_MAX_TOP)
        return infer_fail(err, INFER_EINVAL, "logprobs is not in 0..%d",
                          (int)INFER_MAX_TOP);
    if (r->n_prompt > e->cfg.n_ctx ||
        (r->max_tokens > 0 && r->n_prompt == e->cfg.n_ctx))
        return infer_fail(err, INFER_ETOOLONG,
                          "a prompt of %zu tokens leaves no room in a context "
                          "of %u",
                          r->n_prompt, e->cfg.n_ctx);
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= n_vocab)
            return infer_fail(err, INFER_EINVAL,
                              "prompt token %zu is %d: no such token", i,
                              r->prompt[i]);
    status = check_sampling(&r->sampling, n_vocab, err);
    return status ? status : check_stops(r, n_vocab, err);
}

/* ---- layout ------------------------------------------------------------- */

/* base NULL: only measure. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *a, size_t n, size_t size)
{
    const size_t at = a->used;

    a->used += (n * size + 15) / 16 * 16;
    return a->base == NULL ? NULL : a->base + at;
}

static void *carve_copy(struct carver *a, const void *from, size_t n,
                        size_t size)
{
    void *to = carve(a, n, size);

    if (to != NULL && n > 0)
        memcpy(to, from, n * size);
    return to;
}

static uint32_t longest_stop(const struct infer_request *r)
{
    size_t longest = 0;

    for (size_t i = 0; i < r->n_stop; i++)
        if (strlen(r->stop[i]) > longest)
            longest = strlen(r->stop[i]);
    return (uint32_t)longest;
}

static void lay_out_stops(struct carver *a, const struct infer_request *r,
                          struct infer_stops *stops)
{
    const char **text = carve(a, r->n_stop, sizeof(*text));
    uint32_t *len = carve(a, r->n_stop, sizeof(*len));

    *stops = (struct infer_stops){.text = text,
                                  .len = len,
                                  .n = (uint32_t)r->n_stop,
                                  .longest = longest_stop(r)};
    for (size_t i = 0; i < r->n_stop; i++) {
        const size_t n = strlen(r->stop[i]);
        const char *copy = carve_copy(a, r->stop[i], n + 1, 1);

        if (copy != NULL) {
            text[i] = copy;
            len[i] = (uint32_t)n;
        }
    }
}

/* Arrays of one choice; sizes come from the job's header in `job`. */
static void lay_out_choice(struct carver *a, const struct infer_engine *e,
                           const struct infer_job *job, struct infer_choice *c)
{
    char *text;

    c->tokens = carve(a, c->n_max, sizeof(*c->tokens));
    c->blocks = carve(a, (c->n_max + INFER_KV_BLOCK - 1) / INFER_KV_BLOCK,
                      sizeof(*c->blocks));
    c->pending = carve(a, c->max_pending, sizeof(*c->pending));
    c->infos = carve(a, c->max_pending, sizeof(*c->infos));
    c->tops = carve(a, (size_t)c->max_pending * job->n_top, sizeof(*c->tops));
    text = carve(a, infer_text_bytes(&job->stops, e->max_token_bytes), 1);
    if (a->base != NULL)
        infer_emit_init(e, c, text);
}

/* Held-back text is shorter than this many bytes, so tokens that have text
 * cannot be more; see emit.c for those that have none. */
static uint32_t max_pending(const struct infer_stops *stops)
{
    return stops->longest + 8;
}

static size_t lay_out(char *base, const struct infer_engine *e,
                      const struct infer_request *r)
{
    const uint64_t n_all = (uint64_t)r->n_prompt + r->max_tokens;
    struct carver a = {.base = base};
    struct infer_job *job = carve(&a, 1, sizeof(*job));
    struct infer_job measure = {0};

    if (job == NULL)
        job = &measure;
    job->req = *r;
    job->n = r->n > 0 ? r->n : 1;
    job->n_prompt = (uint32_t)r->n_prompt;
    job->n_top = r->logprobs > 0 ? (uint32_t)r->logprobs : 0;
    job->prompt_logprobs = r->echo && r->logprobs >= 0;
    lay_out_stops(&a, r, &job->stops);
    job->req.prompt = NULL; /* each choice has its copy */
    job->req.stop = NULL;   /* job->stops has them */
    job->req.stop_ids =
        carve_copy(&a, r->stop_ids, r->n_stop_ids, sizeof(*r->stop_ids));
    job->req.sampling.bias = carve_copy(
        &a, r->sampling.bias, r->sampling.n_bias, sizeof(*r->sampling.bias));
    job->choices = carve(&a, job->n, sizeof(*job->choices));
    for (uint32_t i = 0; i < job->n; i++) {
        struct infer_choice blank = {0};
        struct infer_choice *c = base != NULL ? &job->choices[i] : &blank;

        c->job = job;
        c->index = i;
        c->n_tokens = job->n_prompt;
        c->n_max = n_all < e->cfg.n_ctx ? (uint32_t)n_all : e->cfg.n_ctx;
        c->max_pending = max_pending(&job->stops);
        c->match.grammar = r->grammar;
        lay_out_choice(&a, e, job, c);
        if (base != NULL)
            memcpy(c->tokens, r->prompt, r->n_prompt * sizeof(*r->prompt));
    }
    return a.used;
}

int infer_job_create(struct infer_job **job, const struct infer_engine *e,
                     const struct infer_request *r, struct infer_error *err)
{
    const int status = check(e, r, err);
    char *base;

    if (status != INFER_OK)
        return status;
    base = calloc(1, lay_out(NULL, e, r));
    if (base == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for a request");
    lay_out(base, e, r);
    *job = (struct infer_job *)base;
    return INFER_OK;
}

void infer_job_free(struct infer_job *job)
{
    free(job);
}

void infer_sampling_default(struct infer_sampling *s)
{
    *s = (struct infer_sampling){.temperature = 1.0f,
                                 .top_p = 1.0f,
                                 .typical_p = 1.0f,
                                 .repetition_penalty = 1.0f};
}
