/*
 * encodejob.c - the worker's side of a request for an encoder.
 *
 * All texts are tokenized before the first is submitted, so a bad one stops
 * the request before it has begun; or, where the client asked for what can be
 * had (`partial`), is left out with its error in its place. Tokenizing a
 * thousand texts takes tens of milliseconds: it stops when its time is up and
 * goes on after the next step. The last result makes the reply. An explained
 * text is hundreds of sequences: they are of the batcher's background class.
 *
 * Behind one name may stand several classifiers (an ensemble): each text goes
 * through all of them, and their scores are averaged.
 */
#include "server/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void encode_release(struct encode *e, size_t n_members)
{
    for (size_t i = 0; e->inputs && i < e->n_inputs; i++) {
        struct input *in = &e->inputs[i];

        for (size_t k = 0; in->encoded && k < n_members; k++)
            infer_encoded_release(&in->encoded[k]);
        for (uint32_t k = 0; in->ngrams && k < in->n_variants; k++)
            free(in->ngrams[k]);
        free(in->ngrams);
        free(in->text);
        free(in->pair);
        free(in->encoded);
        free(in->probes);
        free(in->results);
        free(in->variant_ids);
        infer_tokens_release(&in->given);
    }
    free(e->inputs);
    free(e->query);
}

static int fail(struct infer_error *err, int status, const char *text)
{
    err->status = status;
    snprintf(err->text, sizeof(err->text), "%s", text);
    return status;
}

/* ---- tokens ---------------------------------------------------------------
 */

/* Ids a client gave are taken as they are, but for what is too many. */
static int take_given(const struct infer_model *m, const struct encode *e,
                      struct input *in, struct infer_encoded *out,
                      struct infer_error *err)
{
    const uint32_t limit = infer_model_info(m)->n_ctx_train;
    size_t n = in->given.n, from = 0;
    char *text = NULL;
    size_t len = 0;
    int rc;

    if (n > limit && e->truncate == INFER_TRUNCATE_NO) {
        err->status = INFER_ETOOLONG;
        snprintf(err->text, sizeof(err->text),
                 "%zu tokens, the model takes at most %u", n, limit);
        return INFER_ETOOLONG;
    }
    if (infer_model_info(m)->has_ngrams) { /* which are of a text */
        struct infer_text_piece piece;

        rc = infer_detokenize(m, in->given.ids, n, false, &text, &len, err);
        if (rc)
            return rc;
        piece = (struct infer_text_piece){text, len};
        rc = infer_encode(m, &piece, NULL, 0, INFER_TRUNCATE_RIGHT, out, err);
        free(text);
        if (rc)
            return rc;
    }
    if (n > limit) {
        from = e->truncate == INFER_TRUNCATE_LEFT ? n - limit : 0;
        n = limit;
    }
    free(out->ids);
    out->ids = malloc((n + 1) * sizeof(*out->ids));
    if (!out->ids)
        return fail(err, INFER_ENOMEM, "out of memory");
    memcpy(out->ids, in->given.ids + from, n * sizeof(*out->ids));
    out->n = (uint32_t)n;
    return 0;
}

static int encode_one(const struct infer_model *m, const struct encode *e,
                      struct input *in, struct infer_encoded *out,
                      struct infer_error *err)
{
    const struct infer_text_piece text = {in->text, in->len};
    const struct infer_text_piece pair = {in->pair, in->pair_len};
    const struct infer_text_piece query = {e->query, e->query_len};

    if (in->given.ids)
        return take_given(m, e, in, out, err);
    if (e->query)
        return infer_encode(m, &query, &text, 0, e->truncate, out, err);
    return infer_encode(m, &text, in->pair ? &pair : NULL, 0, e->truncate, out,
                        err);
}

int encode_make_probes(const struct worker *w, struct input *in,
                       struct infer_error *err)
{
    const size_t n = w->n_members * in->n_variants;

    in->probes = calloc(n, sizeof(*in->probes));
    in->results = calloc(n * w->info->n_out, sizeof(float));
    return in->probes && in->results ? 0
                                     : fail(err, INFER_ENOMEM, "out of memory");
}

static struct infer_sequence sequence_of(const struct infer_encoded *e)
{
    return (struct infer_sequence){.ids = e->ids,
                                   .n = e->n,
                                   .ngrams = e->ngrams,
                                   .n_words = e->n_words,
                                   .n_chars = e->n_chars};
}

static int begin_input(struct worker *w, struct input *in,
                       struct infer_error *err)
{
    struct encode *e = &in->job->enc;
    int rc = 0;

    in->encoded = calloc(w->n_members, sizeof(*in->encoded));
    if (!in->encoded)
        return fail(err, INFER_ENOMEM, "out of memory");
    for (size_t k = 0; k < w->n_members && rc == 0; k++)
        rc = encode_one(w->members[k].model, e, in, &in->encoded[k], err);
    if (rc)
        return rc;
    in->n_variants = 1;
    return e->explain ? explain_begin(w, in, err)
                      : encode_make_probes(w, in, err);
}

/* Tokens and memory of an input. true: done, or *rc < 0. */
static bool prepare_input(struct worker *w, struct input *in, uint64_t until_ns,
                          int *rc, struct infer_error *err)
{
    *rc = in->encoded ? 0 : begin_input(w, in, err);
    if (*rc == 0 && in->job->enc.explain &&
        !explain_more(w, in, until_ns, rc, err))
        return false;
    for (size_t k = 0; k < w->n_members && *rc == 0; k++) {
        struct probe *q = &in->probes[k * in->n_variants];

        q->request.seq = sequence_of(&in->encoded[k]);
        *rc = infer_batcher_check(w->members[k].batcher, &q->request.seq, err);
    }
    return true;
}

void encode_started(struct worker *w, struct input *in)
{
    if (in->counted)
        return;
    in->counted = true;
    atomic_fetch_sub_explicit(&w->waiting_tokens, (int64_t)in->waiting,
                              memory_order_relaxed);
}

/* The guess at its tokens becomes a count. */
static void count_tokens(struct worker *w, struct input *in)
{
    const uint64_t n = in->encoded[0].n;

    atomic_fetch_add_explicit(&w->waiting_tokens,
                              (int64_t)n - (int64_t)in->waiting,
                              memory_order_relaxed);
    in->waiting = n;
    in->job->enc.n_tokens += n;
}

/* Does this error concern the text, so that others may go on? */
static bool of_text(int status)
{
    return status == INFER_ETOOLONG || status == INFER_EINVAL;
}

/* Which field an error of an input concerns; NULL: none. Static. */
static const char *field_of(const struct worker *w, const struct encode *e,
                            int status)
{
    const struct infer_text_piece query = {e->query, e->query_len};
    struct infer_encoded alone = {0};
    int rc;

    if (!of_text(status))
        return NULL;
    if (!e->query || status != INFER_ETOOLONG)
        return encode_field(e->shape);
    rc = infer_encode(w->model, &query, NULL, 0, INFER_TRUNCATE_NO, &alone,
                      NULL);
    infer_encoded_release(&alone);
    return rc == INFER_ETOOLONG ? "query" : encode_field(e->shape);
}

static void fail_job(struct job *job, size_t i, const struct infer_error *err)
{
    const struct encode *e = &job->enc;
    char where[32] = "";

    if (e->n_inputs > 1)
        snprintf(where, sizeof(where), "%s %zu: ", encode_field(e->shape), i);
    job->error.status = err->status;
    snprintf(job->error.text, sizeof(job->error.text), "%s%.200s", where,
             err->text);
    job->param = e->inputs[i].param;
}

bool encode_prepare(struct worker *w, struct job *job, uint64_t until_ns)
{
    struct encode *e = &job->enc;

    while (e->n_encoded < e->n_inputs && !job_cancelled(job)) {
        struct input *in = &e->inputs[e->n_encoded];
        struct infer_error err = {0};
        int rc;

        if (!prepare_input(w, in, until_ns, &rc, &err))
            break;
        in->param = field_of(w, e, rc);
        if (rc && !(e->partial && of_text(rc))) {
            fail_job(job, e->n_encoded, &err);
            return true;
        }
        if (rc)
            in->error = err;
        else
            count_tokens(w, in);
        e->n_encoded++;
        if (e->n_encoded % 8 == 0 && infer_clock_ns() > until_ns)
            break;
    }
    return e->n_encoded == e->n_inputs || job_cancelled(job);
}

/* ---- results ---------------------------------------------------------------
 */

static bool finite(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(v[i] - v[i] == 0.0f))
            return false;
    return true;
}

static void on_result(void *user, enum infer_finish finish, const float *result)
{
    const struct probe *q = user;
    struct input *in = q->input;
    struct job *job = in->job;
    struct worker *w = job->worker;
    struct encode *e = &job->enc;
    const size_t n_out = w->info->n_out;
    const size_t i = (size_t)(q - in->probes);

    encode_started(w, in);
    if (!e->started_ns)
        e->started_ns = infer_clock_ns();
    if (finish == INFER_FINISH_DEADLINE)
        e->late = true;
    if (result && finite(result, n_out))
        memcpy(in->results + i * n_out, result, n_out * sizeof(float));
    else if (finish == INFER_FINISH_STOP || finish == INFER_FINISH_ERROR)
        fail(e->partial ? &in->error : &job->error, INFER_EFORMAT,
             "the model computed no number (NaN)");
    if (++e->n_finished == e->n_submitted)
        worker_encoded(w, job);
}

static int submit_input(struct worker *w, struct input *in,
                        struct infer_error *err)
{
    struct job *job = in->job;
    int rc = 0;

    for (size_t k = 0; k < w->n_members && rc == 0; k++)
        for (uint32_t v = 0; v < in->n_variants && rc == 0; v++) {
            struct probe *q = &in->probes[k * in->n_variants + v];

            q->input = in;
            q->request.background = job->enc.explain;
            q->request.deadline_ns = job->deadline_ns;
            q->request.cancel = &job->cancel;
            q->request.on_result = on_result;
            q->request.user = q;
            rc = infer_batcher_submit(w->members[k].batcher, &q->request, err);
            job->enc.n_submitted += rc == 0;
        }
    return rc;
}

bool encode_submit(struct worker *w, struct job *job)
{
    struct encode *e = &job->enc;

    for (size_t i = 0; i < e->n_inputs; i++) {
        struct infer_error err = {0};

        if (e->inputs[i].error.status ||
            submit_input(w, &e->inputs[i], &err) == 0)
            continue;
        fail_job(job, i, &err);
        job_cancel(job);
        break;
    }
    return e->n_submitted > 0;
}
