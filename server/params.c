/*
 * params.c - fields of a JSON body: presence, type and range.
 *
 * null counts as absent, as OpenAI has it. A wrong type or a value out of range
 * is refused with a sentence that names the field and the range, so that the
 * client's author need not look anything up. Integers may be written 3 or 3.0.
 */
#include "server/params.h"
#include "server/jsoncheck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool problem(struct problem *p, unsigned status, const char *param,
             const char *fmt, ...)
{
    va_list ap;

    p->status = status;
    snprintf(p->param, sizeof(p->param), "%s", param ? param : "");
    va_start(ap, fmt);
    vsnprintf(p->message, sizeof(p->message), fmt, ap);
    va_end(ap);
    return false;
}

cJSON *params_parse(const struct buf *body, struct problem *p)
{
    struct infer_error err = {0};
    cJSON *root;

    if (json_check(body->data ? body->data : "", body->len, &err)) {
        if (err.status == INFER_ENOMEM)
            problem(p, 503, NULL, "out of memory");
        else
            problem(p, 400, NULL, "the body is not valid JSON: %s", err.text);
        p->code = err.status == INFER_ENOMEM ? NULL : "invalid_json";
        return NULL;
    }
    root = cJSON_ParseWithLength(body->data, body->len);
    if (!root)
        problem(p, 503, NULL, "out of memory");
    else if (!cJSON_IsObject(root))
        problem(p, 400, NULL, "the body must be a JSON object");
    else
        return root;
    cJSON_Delete(root);
    return NULL;
}

const cJSON *params_field(const cJSON *root, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, name);

    return v && !cJSON_IsNull(v) ? v : NULL;
}

bool params_bool(const cJSON *root, const char *name, bool *out,
                 struct problem *p)
{
    const cJSON *v = params_field(root, name);

    if (v && !cJSON_IsBool(v))
        return problem(p, 400, name, "%s must be true or false", name);
    if (v)
        *out = cJSON_IsTrue(v);
    return true;
}

static bool whole(const cJSON *v, double lowest, double highest)
{
    return cJSON_IsNumber(v) && v->valuedouble >= lowest &&
           v->valuedouble <= highest && floor(v->valuedouble) == v->valuedouble;
}

bool params_int(const cJSON *root, const char *name, int64_t lowest,
                int64_t highest, int64_t *out, struct problem *p)
{
    const cJSON *v = params_field(root, name);

    if (!v)
        return true;
    if (!whole(v, (double)lowest, (double)highest))
        return problem(p, 400, name, "%s must be an integer from %lld to %lld",
                       name, (long long)lowest, (long long)highest);
    /* (double)INT64_MAX is 2^63, one too many */
    *out = v->valuedouble < 0x1p63 ? (int64_t)v->valuedouble : INT64_MAX;
    return true;
}

bool params_ids(const cJSON *list, const char *name, size_t max,
                uint32_t n_vocab, int32_t **ids, size_t *n, struct problem *p)
{
    const int count = cJSON_GetArraySize(list);
    const cJSON *v;
    int32_t *out;
    size_t i = 0;

    if ((size_t)count > max)
        return problem(p, 400, name, "%s must have at most %zu token ids", name,
                       max);
    out = malloc(((size_t)count + 1) * sizeof(*out));
    if (!out)
        return problem(p, 503, NULL, "out of memory");
    cJSON_ArrayForEach (v, list) {
        if (!whole(v, 0, (double)n_vocab - 1)) {
            free(out);
            return problem(p, 400, name,
                           "%s[%zu] must be a token id, an integer from 0 to "
                           "%u",
                           name, i, n_vocab - 1);
        }
        out[i++] = (int32_t)v->valuedouble;
    }
    *ids = out;
    *n = i;
    return true;
}

/* The first model for these tasks; else one that still loads and may be it;
 * else the first of all, whose task the refusal names. */
struct worker *params_default_model(struct server *s, unsigned tasks)
{
    struct worker *loading = NULL;

    for (size_t i = 0; i < s->n_workers; i++) {
        struct worker *w = &s->workers[i];

        if (w->ready && tasks & TASK_BIT(w->info->task))
            return w;
        if (!w->ready && !loading)
            loading = w;
    }
    return loading ? loading : &s->workers[0];
}

struct worker *params_model(struct server *s, const cJSON *root, unsigned tasks,
                            struct problem *p)
{
    const cJSON *v = params_field(root, "model");

    if (!v)
        return params_default_model(s, tasks);
    if (!cJSON_IsString(v)) {
        problem(p, 400, "model", "model must be a string");
        return NULL;
    }
    for (size_t i = 0; i < s->n_workers; i++)
        if (strcmp(s->workers[i].config->name, v->valuestring) == 0)
            return &s->workers[i];
    problem(p, 404, "model", "there is no model '%.128s'", v->valuestring);
    p->code = "model_not_found";
    return NULL;
}
