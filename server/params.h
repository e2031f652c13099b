/* params.h - the fields of a request's JSON body, each of them checked. */
#ifndef SERVER_PARAMS_H
#define SERVER_PARAMS_H

#include "server/job.h"
#include "server/server.h"

#include <cjson/cJSON.h>

/* Why a request is refused. */
struct problem {
    unsigned status;  /* 0: it is not */
    const char *code; /* NULL: the status's own */
    char param[64];   /* the field, or empty */
    char message[320];
};

/* false and *p filled: for `return problem(...)`. */
bool problem(struct problem *p, unsigned status, const char *param,
             const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The body as an object; the caller deletes it. NULL: refused. */
cJSON *params_parse(const struct buf *body, struct problem *p);

/* A field, or NULL if it is absent or null. */
const cJSON *params_field(const cJSON *root, const char *name);

bool params_bool(const cJSON *root, const char *name, bool *out,
                 struct problem *p);
bool params_int(const cJSON *root, const char *name, int64_t lowest,
                int64_t highest, int64_t *out, struct problem *p);
/* Token ids below n_vocab, into memory the caller frees. */
bool params_ids(const cJSON *list, const char *name, size_t max,
                uint32_t n_vocab, int32_t **ids, size_t *n, struct problem *p);

/* Tasks that a route serves, as a set. */
#define TASK_BIT(task) (1u << (task))
#define ANY_TASK       (~0u)

/* The model of a request that names none. */
struct worker *params_default_model(struct server *s, unsigned tasks);

/* The worker that `model` names; without it, the first whose task is among
 * these. NULL: refused. */
struct worker *params_model(struct server *s, const cJSON *root, unsigned tasks,
                            struct problem *p);

/* Everything of the route that job->gen.shape stands for, into job->gen. */
bool params_generate(const struct config *c, const cJSON *root, struct job *job,
                     struct problem *p);

/* params_chat.c: what chat has in place of prompt and logprobs. */
bool params_chat(const cJSON *root, struct job *job, struct problem *p);
bool params_chat_logprobs(const cJSON *root, int64_t *logprobs,
                          struct problem *p);
bool params_max_completion_tokens(const cJSON *root, int64_t *tokens,
                                  struct problem *p);

/* Everything of a route for encoders into job->enc. */
bool params_encode(const struct config *c, const cJSON *root,
                   enum encode_shape shape, struct job *job, struct problem *p);

#endif
