/*
 * encode_json.c - replies of the routes for encoders, written by the worker.
 *
 * A thousand embeddings are megabytes of text: the loop has no time for that.
 * Results stand in the order of the inputs; a text that failed alone has its
 * error in its place (`partial`).
 */
#include "server/floats.h"
#include "server/jsonout.h"
#include "server/reply.h"
#include "server/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one reply needs while it is written. */
struct writer {
    const struct worker *w;
    const struct encode *e;
    struct json j;
    float *scores, *raw; /* [n_out] */
    uint32_t *order;     /* [n_out] classes, best first */
    float *attributions;
};

static const struct input *input_at(const struct writer *o, size_t i)
{
    return &o->e->inputs[i];
}

static void write_float(struct json *j, float v)
{
    char text[FLOAT_CHARS];

    json_raw(j, text, float_text(text, v));
}

static void write_error(struct json *j, const struct input *in)
{
    const struct infer_error *err = &in->error;
    const unsigned status = reply_status(err->status);

    json_key(j, "error");
    json_open(j, '{');
    json_key_str(j, "message", err->text);
    json_key_str(j, "type", reply_type(status));
    json_key(j, "param");
    if (in->param)
        json_str(j, in->param);
    else
        json_null(j);
    json_key_str(j, "code", reply_code(status));
    json_close(j, '}');
}

static void write_head(struct writer *o, bool with_id)
{
    struct json *j = &o->j;

    json_open(j, '{');
    if (with_id)
        json_key_str(j, "id", o->e->id);
    json_key_str(j, "object", "list");
    if (with_id) {
        json_key(j, "created");
        json_int(j, o->e->created);
    }
    json_key_str(j, "model", o->w->config->name);
}

static void write_usage(struct writer *o)
{
    struct json *j = &o->j;

    json_key(j, "usage");
    json_open(j, '{');
    json_key_uint(j, "prompt_tokens", o->e->n_tokens);
    json_key_uint(j, "total_tokens", o->e->n_tokens);
    json_close(j, '}');
    json_close(j, '}');
}

/* ---- embeddings ------------------------------------------------------------
 */

/* The vector as asked for, in o->scores; its width. */
static size_t vector_of(struct writer *o, const struct input *in)
{
    const size_t d = o->w->info->n_out;
    const size_t n = o->e->dimensions ? o->e->dimensions : d;

    memcpy(o->scores, in->results, n * sizeof(float));
    if (o->e->normalize)
        infer_normalize(o->scores, n);
    return n;
}

static void write_vector(struct writer *o, const struct input *in)
{
    const size_t n = vector_of(o, in);
    struct buf *out = o->j.out;

    if (!o->e->base64) {
        json_begin(&o->j);
        floats_json(out, o->scores, n);
        return;
    }
    json_begin(&o->j);
    buf_char(out, '"');
    floats_base64(out, o->scores, n);
    buf_char(out, '"');
}

static void write_embeddings(struct writer *o)
{
    struct json *j = &o->j;

    write_head(o, false);
    json_key(j, "data");
    json_open(j, '[');
    for (size_t i = 0; i < o->e->n_inputs; i++) {
        const struct input *in = input_at(o, i);

        json_open(j, '{');
        json_key_str(j, "object", "embedding");
        json_key_uint(j, "index", i);
        json_key(j, "embedding");
        if (in->error.status) {
            json_null(j);
            write_error(j, in);
        } else {
            write_vector(o, in);
        }
        json_close(j, '}');
    }
    json_close(j, ']');
    write_usage(o);
}

static void write_tei_embed(struct writer *o)
{
    json_open(&o->j, '[');
    for (size_t i = 0; i < o->e->n_inputs; i++)
        write_vector(o, input_at(o, i));
    json_close(&o->j, ']');
}

/* ---- classes ----------------------------------------------------------------
 */

/* Scores of an input, averaged over the models behind the name. */
static void scores_of(struct writer *o, const struct input *in)
{
    const size_t n = o->w->info->n_out, members = o->w->n_members;

    memset(o->scores, 0, n * sizeof(float));
    for (size_t k = 0; k < members; k++) {
        const float *raw = in->results + k * in->n_variants * n;

        if (!o->e->raw_scores) {
            infer_classifier_scores(o->w->members[k].model, raw, o->raw);
            raw = o->raw;
        }
        for (size_t c = 0; c < n; c++)
            o->scores[c] += raw[c] / (float)members;
    }
}

/* Of one class, averaged as in scores_of(). */
static float probability_of(struct writer *o, const struct input *in,
                            uint32_t c)
{
    const size_t n = o->w->info->n_out, members = o->w->n_members;
    float sum = 0;

    for (size_t k = 0; k < members; k++) {
        infer_classifier_scores(o->w->members[k].model,
                                in->results + k * in->n_variants * n, o->raw);
        sum += o->raw[c] / (float)members;
    }
    return sum;
}

/* Insertion into a list that is mostly short: the best first, ties by class. */
static void sort_classes(struct writer *o)
{
    const uint32_t n = o->w->info->n_classes;

    for (uint32_t c = 0; c < n; c++) {
        uint32_t at = c;

        while (at > 0 && o->scores[o->order[at - 1]] < o->scores[c]) {
            o->order[at] = o->order[at - 1];
            at--;
        }
        o->order[at] = c;
    }
}

/* Is this class among the answers? */
static bool above(const struct writer *o, uint32_t c)
{
    const struct infer_model_info *m = o->w->info;

    if (!isnan(o->e->threshold))
        return o->scores[c] >= o->e->threshold;
    return !m->thresholds || o->e->raw_scores ||
           o->scores[c] >= m->thresholds[c];
}

static void write_labels(struct writer *o)
{
    const struct infer_model_info *m = o->w->info;
    struct json *j = &o->j;
    uint32_t n = 0;

    json_open(j, '[');
    for (uint32_t k = 0; k < m->n_classes; k++) {
        const uint32_t c = o->order[k];

        if ((o->e->top_k && n >= o->e->top_k) || !above(o, c))
            continue;
        json_open(j, '{');
        json_key_str(j, "label", m->labels[c]);
        json_key(j, "score");
        write_float(j, o->scores[c]);
        json_close(j, '}');
        n++;
    }
    json_close(j, ']');
}

/* The likeliest class, or what a text beyond all classes is called. That is
 * told by probabilities, whatever scores were asked for. */
static const char *label_of(struct writer *o, const struct input *in)
{
    const struct infer_model_info *m = o->w->info;
    const uint32_t c = o->order[0];
    const float best = o->e->raw_scores && m->oos_threshold > 0.0f
                           ? probability_of(o, in, c)
                           : o->scores[c];

    return m->oos_threshold > 0.0f && best < m->oos_threshold ? m->oos_label
                                                              : m->labels[c];
}

static void write_explanation(struct writer *o, const struct input *in)
{
    const struct infer_encoded *e = &in->encoded[0];
    struct json *j = &o->j;
    const float base = explain_attribute(o->w, in, o->e->raw_scores,
                                         o->order[0], o->attributions);

    json_key(j, "explanation");
    json_open(j, '[');
    for (uint32_t i = 0; i < e->n; i++) {
        size_t n = 0;
        const char *text =
            infer_token_bytes(o->w->members[0].model, e->ids[i], true, &n);

        if (e->text[i] == INFER_TEXT_NONE)
            continue;
        json_open(j, '{');
        json_key(j, "token");
        json_text(j, text ? text : "", n);
        json_key_uint(j, "start", e->spans[i].begin);
        json_key_uint(j, "end", e->spans[i].end);
        if (in->pair)
            json_key_uint(j, "text", e->text[i]);
        json_key(j, "attribution");
        write_float(j, o->attributions[i]);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_key(j, "explanation_baseline");
    write_float(j, base);
}

static void write_class(struct writer *o, size_t i)
{
    const struct infer_model_info *m = o->w->info;
    const struct input *in = input_at(o, i);
    struct json *j = &o->j;

    json_open(j, '{');
    json_key_uint(j, "index", i);
    if (in->error.status) {
        write_error(j, in);
        json_close(j, '}');
        return;
    }
    scores_of(o, in);
    sort_classes(o);
    json_key_str(j, "label", label_of(o, in));
    json_key(j, "probs");
    json_begin(j);
    floats_json(j->out, o->scores, m->n_classes);
    json_key_uint(j, "num_classes", m->n_classes);
    json_key(j, "labels");
    write_labels(o);
    if (o->e->explain)
        write_explanation(o, in);
    json_close(j, '}');
}

static void write_classes(struct writer *o)
{
    write_head(o, true);
    json_key(&o->j, "data");
    json_open(&o->j, '[');
    for (size_t i = 0; i < o->e->n_inputs; i++)
        write_class(o, i);
    json_close(&o->j, ']');
    write_usage(o);
}

static void write_tei_predict(struct writer *o)
{
    if (!o->e->bare)
        json_open(&o->j, '[');
    for (size_t i = 0; i < o->e->n_inputs; i++) {
        scores_of(o, input_at(o, i));
        sort_classes(o);
        write_labels(o);
    }
    if (!o->e->bare)
        json_close(&o->j, ']');
}

/* ---- ranks ------------------------------------------------------------------
 */

struct ranked {
    float score;
    uint32_t index;
};

static int better(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

/* Documents with a score, best first; NULL: out of memory. */
static struct ranked *rank(struct writer *o, size_t *n)
{
    struct ranked *list = calloc(o->e->n_inputs + 1, sizeof(*list));

    *n = 0;
    for (size_t i = 0; list && i < o->e->n_inputs; i++) {
        if (input_at(o, i)->error.status)
            continue;
        scores_of(o, input_at(o, i));
        list[*n].score = o->scores[0];
        list[(*n)++].index = (uint32_t)i;
    }
    if (list)
        qsort(list, *n, sizeof(*list), better);
    if (list && o->e->top_k && o->e->top_k < *n)
        *n = o->e->top_k;
    return list;
}

static void write_ranked(struct writer *o, const struct ranked *r, bool tei)
{
    const struct input *in = input_at(o, r->index);
    struct json *j = &o->j;

    json_open(j, '{');
    json_key_uint(j, "index", r->index);
    json_key(j, tei ? "score" : "relevance_score");
    write_float(j, r->score);
    if (o->e->return_text && !tei) {
        json_key(j, "document");
        json_open(j, '{');
    }
    if (o->e->return_text) {
        json_key(j, "text");
        json_text(j, in->text, in->len);
    }
    if (o->e->return_text && !tei)
        json_close(j, '}');
    json_close(j, '}');
}

static void write_failed(struct writer *o)
{
    for (size_t i = 0; i < o->e->n_inputs; i++) {
        const struct input *in = input_at(o, i);

        if (!in->error.status)
            continue;
        json_open(&o->j, '{');
        json_key_uint(&o->j, "index", i);
        json_key(&o->j, "relevance_score");
        json_null(&o->j);
        write_error(&o->j, in);
        json_close(&o->j, '}');
    }
}

static void write_ranks(struct writer *o)
{
    const bool tei = o->e->shape == SHAPE_TEI_RERANK;
    struct json *j = &o->j;
    size_t n;
    struct ranked *list = rank(o, &n);

    if (!list) {
        j->out->failed = true;
        return;
    }
    if (!tei) {
        write_head(o, true);
        json_key(j, "results");
    }
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        write_ranked(o, &list[i], tei);
    if (!tei)
        write_failed(o);
    json_close(j, ']');
    if (!tei)
        write_usage(o);
    free(list);
}

void encode_reply(const struct worker *w, const struct job *job,
                  struct buf *body)
{
    static void (*const writers[])(struct writer * o) = {
        [SHAPE_EMBEDDINGS] = write_embeddings,
        [SHAPE_CLASSIFY] = write_classes,
        [SHAPE_RERANK] = write_ranks,
        [SHAPE_TEI_EMBED] = write_tei_embed,
        [SHAPE_TEI_PREDICT] = write_tei_predict,
        [SHAPE_TEI_RERANK] = write_ranks,
    };
    const size_t n = w->info->n_out;
    struct writer o = {.w = w, .e = &job->enc, .j = json_into(body)};

    o.scores = calloc(n, sizeof(float));
    o.raw = calloc(n, sizeof(float));
    o.order = calloc(n, sizeof(*o.order));
    o.attributions = calloc(w->info->n_ctx_train, sizeof(float));
    if (o.scores && o.raw && o.order && o.attributions)
        writers[job->enc.shape](&o);
    else
        body->failed = true;
    free(o.scores);
    free(o.raw);
    free(o.order);
    free(o.attributions);
}
