/*
 * params_encode.c - the fields of the routes for encoders.
 *
 * The native routes, OpenAI's and text-embeddings-inference's (TEI) ask for
 * the same things under different names; a table of what each shape takes says
 * which. Texts are copied: the body is gone when the worker reads them.
 */
#include "server/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the inputs are called, and which forms they may have. */
struct forms {
    const char *field;
    bool ids;   /* token ids */
    bool pairs; /* [a, b] */
    bool tei;   /* field names of TEI */
    bool documents;
};

static const struct forms forms[] = {
    [SHAPE_EMBEDDINGS] = {.field = "input", .ids = true},
    [SHAPE_CLASSIFY] = {.field = "input", .pairs = true},
    [SHAPE_RERANK] = {.field = "documents", .documents = true},
    [SHAPE_TEI_EMBED] = {.field = "inputs", .ids = true, .tei = true},
    [SHAPE_TEI_PREDICT] = {.field = "inputs", .pairs = true, .tei = true},
    [SHAPE_TEI_RERANK] = {.field = "texts", .tei = true},
};

const char *encode_field(enum encode_shape shape)
{
    return forms[shape].field;
}

/* ---- inputs ----------------------------------------------------------------
 */

static bool refuse_form(const struct forms *f, struct problem *p)
{
    return problem(p, 400, f->field, "%s must be %s", f->field,
                   f->documents ? "a list of strings, or of objects with a "
                                  "string 'text'"
                   : f->ids     ? "a string, a list of strings, a list of "
                                  "token ids, or a list of such lists"
                   : f->pairs   ? "a string, a list of strings, or a list of "
                                  "pairs of strings"
                                : "a list of strings");
}

static bool copy_text(const cJSON *v, char **text, size_t *len,
                      struct problem *p)
{
    *len = strlen(v->valuestring);
    *text = malloc(*len + 1);
    if (!*text)
        return problem(p, 503, NULL, "out of memory");
    memcpy(*text, v->valuestring, *len + 1);
    return true;
}

static bool take_pair(struct input *in, const cJSON *v, const struct forms *f,
                      struct problem *p)
{
    const cJSON *second = v->child ? v->child->next : NULL;

    if (!cJSON_IsString(v->child) ||
        (second && (!cJSON_IsString(second) || second->next)))
        return refuse_form(f, p);
    return copy_text(v->child, &in->text, &in->len, p) &&
           (!second || copy_text(second, &in->pair, &in->pair_len, p));
}

static bool take_one(struct input *in, const cJSON *v, const struct forms *f,
                     uint32_t n_vocab, struct problem *p)
{
    bool ok;

    if (f->documents && cJSON_IsObject(v))
        v = params_field(v, "text");
    if (cJSON_IsString(v)) {
        ok = copy_text(v, &in->text, &in->len, p);
    } else if (cJSON_IsArray(v) && f->ids) {
        if (!v->child)
            return problem(p, 400, f->field, "%s: a list of token ids is empty",
                           f->field);
        ok = params_ids(v, f->field, SIZE_MAX, n_vocab, &in->given.ids,
                        &in->given.n, p);
    } else if (cJSON_IsArray(v) && f->pairs) {
        ok = take_pair(in, v, f, p);
    } else {
        return refuse_form(f, p);
    }
    /* for admission, until the tokenizer knows better */
    in->waiting = in->given.n + (in->len + in->pair_len) / 4 + 1;
    return ok;
}

/* Is the whole value one input, not a list of them? TEI's predict takes two
 * strings as a pair where the model was trained on pairs. */
static bool is_single(const cJSON *v, const struct forms *f,
                      const struct infer_model_info *m)
{
    if (cJSON_IsString(v))
        return true;
    if (f->ids && cJSON_IsArray(v))
        return cJSON_IsNumber(v->child);
    return f->tei && f->pairs && m->takes_pairs && cJSON_GetArraySize(v) == 2 &&
           cJSON_IsString(v->child);
}

static bool take_inputs(const struct config *c, const cJSON *root,
                        const struct forms *f, struct job *job,
                        struct problem *p)
{
    const struct infer_model_info *m = job->worker->info;
    const cJSON *v = params_field(root, f->field), *item;
    struct encode *e = &job->enc;
    const bool list_only = !f->ids && !f->pairs;
    size_t n = 1, i = 0;

    if (!v)
        return problem(p, 400, f->field, "%s is required", f->field);
    e->bare = !list_only && is_single(v, f, m);
    if (!e->bare && !cJSON_IsArray(v))
        return refuse_form(f, p);
    if (!e->bare)
        n = (size_t)cJSON_GetArraySize(v);
    if (n == 0)
        return problem(p, 400, f->field, "%s must not be empty", f->field);
    if (n > (size_t)c->max_inputs)
        return problem(p, 413, f->field, "%s must have at most %lld texts",
                       f->field, (long long)c->max_inputs);
    e->inputs = calloc(n, sizeof(*e->inputs));
    if (!e->inputs)
        return problem(p, 503, NULL, "out of memory");
    e->n_inputs = n;
    for (i = 0; i < n; i++)
        e->inputs[i].job = job;
    if (e->bare)
        return take_one(&e->inputs[0], v, f, m->n_vocab, p);
    i = 0;
    cJSON_ArrayForEach (item, v) {
        if (!take_one(&e->inputs[i++], item, f, m->n_vocab, p))
            return false;
    }
    return true;
}

/* ---- the rest
 * ---------------------------------------------------------------- */

static bool take_query(const cJSON *root, struct encode *e, struct problem *p)
{
    const cJSON *v = params_field(root, "query");

    if (e->shape != SHAPE_RERANK && e->shape != SHAPE_TEI_RERANK)
        return true;
    if (!cJSON_IsString(v))
        return problem(p, 400, "query", "query is required, a string");
    return copy_text(v, &e->query, &e->query_len, p);
}

static bool take_truncate(const cJSON *root, bool tei, struct encode *e,
                          struct problem *p)
{
    const cJSON *v = params_field(root, "truncation_direction");
    bool truncate = false, left = false;

    if (!params_bool(root, "truncate", &truncate, p))
        return false;
    if (tei && v) {
        left = cJSON_IsString(v) && (strcmp(v->valuestring, "left") == 0 ||
                                     strcmp(v->valuestring, "Left") == 0);
        if (!left &&
            (!cJSON_IsString(v) || (strcmp(v->valuestring, "right") != 0 &&
                                    strcmp(v->valuestring, "Right") != 0)))
            return problem(p, 400, "truncation_direction",
                           "truncation_direction must be left or right");
    }
    e->truncate = !truncate ? INFER_TRUNCATE_NO
                  : left    ? INFER_TRUNCATE_LEFT
                            : INFER_TRUNCATE_RIGHT;
    return true;
}

static bool take_format(const cJSON *root, struct encode *e, struct problem *p)
{
    const cJSON *v = params_field(root, "encoding_format");

    if (!v || e->shape != SHAPE_EMBEDDINGS)
        return true;
    e->base64 = cJSON_IsString(v) && strcmp(v->valuestring, "base64") == 0;
    return e->base64 ||
           (cJSON_IsString(v) && strcmp(v->valuestring, "float") == 0) ||
           problem(p, 400, "encoding_format",
                   "encoding_format must be float or base64");
}

static bool take_embed(const cJSON *root, struct job *job, struct problem *p)
{
    struct encode *e = &job->enc;
    int64_t dimensions = 0;

    e->normalize = true;
    if (!params_int(root, "dimensions", 1, job->worker->info->n_out,
                    &dimensions, p))
        return false;
    e->dimensions = (uint32_t)dimensions;
    return params_bool(root, "normalize", &e->normalize, p) &&
           take_format(root, e, p);
}

static bool take_threshold(const cJSON *root, struct encode *e,
                           struct problem *p)
{
    const cJSON *v = params_field(root, "threshold");

    if (!v)
        return true;
    if (!cJSON_IsNumber(v) || !(fabs(v->valuedouble) <= 1e30))
        return problem(p, 400, "threshold", "threshold must be a number");
    e->threshold = (float)v->valuedouble;
    return true;
}

static bool take_explain(const cJSON *root, struct job *job, struct problem *p)
{
    struct encode *e = &job->enc;

    if (!params_bool(root, "explain", &e->explain, p))
        return false;
    if (e->explain && e->n_inputs > EXPLAIN_MAX_INPUTS)
        return problem(p, 413, "explain",
                       "at most %d texts can be explained "
                       "at once",
                       EXPLAIN_MAX_INPUTS);
    if (e->explain && job->worker->n_members > 1)
        return problem(p, 400, "explain",
                       "the model '%s' is an ensemble, which is not explained",
                       job->worker->config->name);
    return true;
}

static bool take_classify(const cJSON *root, struct job *job, struct problem *p)
{
    struct encode *e = &job->enc;
    int64_t top_k = 0;

    if (!params_int(root, "top_k", 1, INT32_MAX, &top_k, p))
        return false;
    e->top_k = (uint32_t)top_k;
    return take_threshold(root, e, p) && take_explain(root, job, p);
}

static bool take_rerank(const cJSON *root, struct encode *e, struct problem *p)
{
    const bool tei = e->shape == SHAPE_TEI_RERANK;
    int64_t top_n = 0;

    if (!tei && !params_int(root, "top_n", 1, INT32_MAX, &top_n, p))
        return false;
    e->top_k = (uint32_t)top_n;
    return params_bool(root, tei ? "return_text" : "return_documents",
                       &e->return_text, p);
}

/* Fields that would change the answer and are not supported. */
static bool refuse_unsupported(const cJSON *root, struct problem *p)
{
    static const char *const names[] = {
        "prompt_name",        "prompt",
        "add_special_tokens", "truncate_prompt_tokens",
        "max_chunks_per_doc", "output_dimension",
        "embedding_types"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (params_field(root, names[i]))
            return problem(p, 400, names[i], "%s is not supported", names[i]);
    return true;
}

bool params_encode(const struct config *c, const cJSON *root,
                   enum encode_shape shape, struct job *job, struct problem *p)
{
    struct encode *e = &job->enc;
    const struct forms *f = &forms[shape];
    int64_t deadline_ms = 0;
    bool ok;

    e->shape = shape;
    e->threshold = NAN;
    ok = refuse_unsupported(root, p) && take_query(root, e, p) &&
         take_inputs(c, root, f, job, p) && take_truncate(root, f->tei, e, p) &&
         params_int(root, "deadline_ms", 1, 86400000, &deadline_ms, p) &&
         (f->tei || params_bool(root, "partial", &e->partial, p));
    e->deadline_ms = (uint64_t)deadline_ms;
    if (!ok)
        return false;
    if (shape == SHAPE_EMBEDDINGS || shape == SHAPE_TEI_EMBED)
        return take_embed(root, job, p);
    if (!params_bool(root, "raw_scores", &e->raw_scores, p))
        return false;
    if (shape == SHAPE_CLASSIFY)
        return take_classify(root, job, p);
    return shape == SHAPE_TEI_PREDICT || take_rerank(root, e, p);
}
