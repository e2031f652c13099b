/*
 * route_tokens.c - POST /v1/tokenize and /v1/detokenize.
 *
 * Both run on the model's worker: a megabyte of text takes a third of a
 * second, which the loop does not have.
 */
#include "server/reply.h"
#include "server/routes.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 1 << 18 };

static bool take_text(const cJSON *root, struct job *job, struct problem *p)
{
    const cJSON *v = params_field(root, "text");

    if (!cJSON_IsString(v))
        return problem(p, 400, "text", "text is required, a string");
    job->input.len = strlen(v->valuestring);
    job->input.text = strdup(v->valuestring);
    job->add_special = true;
    if (!job->input.text)
        return problem(p, 503, NULL, "out of memory");
    return params_bool(root, "add_special", &job->add_special, p);
}

static bool take_ids(const cJSON *root, struct job *job, struct problem *p)
{
    const cJSON *v = params_field(root, "ids");

    if (!cJSON_IsArray(v))
        return problem(p, 400, "ids", "ids is required, a list of token ids");
    return params_ids(v, "ids", MAX_IDS, job->worker->info->n_vocab,
                      &job->input.tokens.ids, &job->input.tokens.n, p);
}

static bool take(struct request *r, const cJSON *root, int kind,
                 struct job *job, struct problem *p)
{
    (void)r;
    job->n_sequences = 1;
    return kind == JOB_TOKENIZE ? take_text(root, job, p)
                                : take_ids(root, job, p);
}

void route_tokenize(struct request *r)
{
    route_run(r, JOB_TOKENIZE, ANY_TASK, JOB_TOKENIZE, take);
}

void route_detokenize(struct request *r)
{
    route_run(r, JOB_DETOKENIZE, ANY_TASK, JOB_DETOKENIZE, take);
}
