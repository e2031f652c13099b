/*
 * evaluate.c - see evaluate.h.
 *
 * Several windows go through the engine at once where they are short, so that
 * its products are large; rows of one call are bounded by the memory of their
 * logits. Sums are in double and in the order of the tokens, so the number of
 * threads does not show.
 */
#include "trainer/run/evaluate.h"

#include "core/base/error.h"
#include "core/base/team.h"
#include "core/model/model.h"
#include "trainer/data/encode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 512, LOGIT_BYTES = 64 << 20 };

struct score {
    double nll;
    bool hit;
};

struct evaluation {
    struct infer_model *model;
    struct infer_team *team;
    struct infer_session *session;
    struct train_encoder encoder;
    struct train_ids ids;
    uint64_t max_tokens;
    int split;

    uint32_t n_vocab, context, n_seqs, max_rows;
    struct infer_row *rows;  /* [max_rows] of one call */
    const int32_t **targets; /* [max_rows] what follows each row */
    struct score *scores;    /* [max_rows] */
    double nll;
    uint64_t n, hits;
};

static int add_part(void *user, const struct train_part *part,
                    struct infer_error *err)
{
    struct evaluation *e = user;

    if (e->split && part->val != (e->split == TRAIN_SPLIT_VAL))
        return 0;
    if (e->max_tokens && e->ids.n > e->max_tokens)
        return 0;
    return train_encode(&e->encoder, part, &e->ids, err);
}

static struct score score_row(const float *logits, uint32_t n, int32_t target)
{
    float top = logits[0];
    double sum = 0.0;

    for (uint32_t i = 1; i < n; i++)
        top = logits[i] > top ? logits[i] : top;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)expf(logits[i] - top);
    return (struct score){log(sum) + (double)top - (double)logits[target],
                          logits[target] >= top};
}

static void score_rows(struct infer_member *me, void *arg)
{
    struct evaluation *e = arg;
    size_t begin, end;

    infer_team_share(me, e->max_rows, 1, &begin, &end);
    for (size_t i = begin; i < end && e->targets[i]; i++)
        e->scores[i] = score_row(infer_session_logits(e->session, i),
                                 e->n_vocab, *e->targets[i]);
}

/* Evaluate the n rows that were collected. */
static int run_rows(struct evaluation *e, size_t n, struct infer_error *err)
{
    int status;

    if (n == 0)
        return 0;
    status = infer_session_eval(e->session, e->rows, n, NULL, err);
    if (status != 0)
        return status;
    for (size_t i = n; i < e->max_rows; i++)
        e->targets[i] = NULL;
    infer_team_run(e->team, score_rows, e);
    for (size_t i = 0; i < n; i++) {
        e->nll += e->scores[i].nll;
        e->hits += e->scores[i].hit;
    }
    e->n += n;
    return isfinite(e->nll)
               ? 0
               : infer_fail(err, INFER_EFORMAT,
                            "the model's output is not finite at token %llu",
                            (unsigned long long)e->n);
}

/* Windows [from, from + n_seqs), each a sequence of its own. */
static int run_windows(struct evaluation *e, uint64_t from,
                       struct infer_error *err)
{
    const uint64_t total = e->ids.n - 1;
    size_t used = 0;
    int status = 0;

    for (uint32_t s = 0; s < e->n_seqs && status == 0; s++) {
        const uint64_t first = (from + s) * e->context;
        const uint64_t end =
            first + e->context < total ? first + e->context : total;

        infer_session_rewind(e->session, s, 0);
        for (uint64_t i = first; i < end && status == 0; i++) {
            e->rows[used] = (struct infer_row){e->ids.data[i], s, true};
            e->targets[used++] = &e->ids.data[i + 1];
            if (used == e->max_rows) {
                status = run_rows(e, used, err);
                used = 0;
            }
        }
    }
    return status ? status : run_rows(e, used, err);
}

static int make_session(struct evaluation *e, uint64_t context,
                        struct infer_error *err)
{
    const struct infer_model_info *info = infer_model_info(e->model);
    struct infer_session_params params = {.kv_type = INFER_KV_F32};
    uint64_t rows;

    e->n_vocab = info->n_vocab;
    if (context > info->n_ctx_train)
        return infer_fail(err, INFER_EINVAL,
                          "a context of %llu tokens, but the model has learnt "
                          "%u; pass a smaller --context",
                          (unsigned long long)context, info->n_ctx_train);
    e->context = context ? (uint32_t)context : info->n_ctx_train;
    if (e->context > e->ids.n - 1)
        e->context = (uint32_t)(e->ids.n - 1);
    rows = LOGIT_BYTES / sizeof(float) / e->n_vocab;
    e->max_rows = rows < 1 ? 1 : rows > MAX_ROWS ? MAX_ROWS : (uint32_t)rows;
    e->n_seqs = e->max_rows / e->context ? e->max_rows / e->context : 1;
    params.n_seqs = e->n_seqs;
    params.n_ctx = e->context;
    params.max_rows = e->max_rows;
    e->rows = malloc(e->max_rows * sizeof(*e->rows));
    e->targets = malloc(e->max_rows * sizeof(*e->targets));
    e->scores = malloc(e->max_rows * sizeof(*e->scores));
    if (!e->rows || !e->targets || !e->scores)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    return infer_session_create(&e->session, e->model, e->team, &params, err);
}

static int read_text(struct evaluation *e, const struct train_text *text,
                     struct infer_error *err)
{
    const uint64_t max_tokens = e->max_tokens;
    struct train_text divided = *text;
    int status = train_encoder_init(&e->encoder, e->model->tokenizer, err);

    if (!e->split)
        divided.val_share = 0.0;
    if (status == 0)
        status = train_text_each(&divided, add_part, e, NULL, err);
    if (status == 0 && e->ids.n < 2)
        status =
            infer_fail(err, INFER_EINVAL,
                       "the text has %zu tokens; two are the least", e->ids.n);
    if (status == 0 && max_tokens && e->ids.n > max_tokens + 1)
        e->ids.n = (size_t)max_tokens + 1;
    return status;
}

/* Bytes of the tokens that were predicted. */
static uint64_t count_bytes(const struct evaluation *e)
{
    uint64_t bytes = 0;
    size_t n;

    for (size_t i = 1; i < e->ids.n; i++) {
        infer_tokenizer_bytes(e->model->tokenizer, e->ids.data[i], false, &n);
        bytes += n;
    }
    return bytes;
}

static void summarise(const struct evaluation *e, struct train_evaluation *out)
{
    out->loss = e->nll / (double)e->n;
    out->perplexity = exp(out->loss);
    out->n_tokens = e->n;
    out->n_bytes = count_bytes(e);
    out->bits_per_byte =
        out->n_bytes ? e->nll / log(2.0) / (double)out->n_bytes : 0.0;
    out->accuracy = (double)e->hits / (double)e->n;
    out->context = e->context;
}

int train_evaluate_file(const char *model, const struct train_text *text,
                        const struct train_evaluate_options *how,
                        struct train_evaluation *out, struct infer_error *err)
{
    const uint64_t start = infer_clock_ns();
    struct evaluation e = {.max_tokens = how->max_tokens, .split = how->split};
    int status = infer_model_load(&e.model, model, NULL, err);

    if (status == 0)
        status = infer_team_create(&e.team, how->n_threads, 0, err);
    if (status == 0)
        status = read_text(&e, text, err);
    if (status == 0)
        status = make_session(&e, how->context, err);
    if (status == 0 && how->begin)
        status = how->begin(how->user, e.model, e.session, err);
    for (uint64_t w = 0; status == 0 && w * e.context < e.ids.n - 1;
         w += e.n_seqs)
        status = run_windows(&e, w, err);
    if (status == 0 && how->end)
        status = how->end(how->user, e.model, e.session, err);
    if (status == 0) {
        summarise(&e, out);
        out->seconds = (double)(infer_clock_ns() - start) / 1e9;
    }
    infer_session_free(e.session);
    infer_team_free(e.team);
    infer_model_free(e.model);
    free(e.ids.data);
    free(e.rows);
    free(e.targets);
    free(e.scores);
    return status;
}
