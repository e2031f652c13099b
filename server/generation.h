/*
 * generation.h - the loop's side of a generate job: from chunks to a reply, or
 * to a stream of events, in the native or in OpenAI's shapes.
 */
#ifndef SERVER_GENERATION_H
#define SERVER_GENERATION_H

#include "server/jsonout.h"
#include "server/server.h"

/* What a choice has told of itself so far. */
struct heard {
    uint32_t n_generated;
    bool any;
};

struct generation {
    enum api_shape shape;
    bool stream, include_usage, return_token_ids;
    int32_t logprobs;
    char id[32];
    int64_t created;
    const struct worker *worker;
    uint32_t n_choices, n; /* all, and per prompt */
    struct chunk **held;   /* [n_choices] results not written yet */
    bool *begun;           /* [n_choices] its first event was written */
    struct heard *heard;   /* [n_choices] */
    uint32_t n_generated;  /* by all choices */
    uint32_t n_prompt, n_cached;
    bool late; /* a choice met the deadline without a token */
    uint64_t arrived_ns;
    uint64_t started_ns, first_token_ns, last_ns; /* 0: not yet */
};

/* For a job that is about to be handed over. NULL: out of memory. */
struct generation *generation_create(struct request *r, const struct job *job);
void generation_free(struct generation *g);

/* Take over a delta of r's job. */
void generation_delta(struct request *r, const struct job *job,
                      struct chunk *c);

/* The job is back: finish the answer. */
void generation_done(struct request *r, const struct job *job,
                     const struct chunk *c);

/* End without the job: an error, as a status or as an event. */
void generation_abort(struct request *r, unsigned status, const char *message);

/* Keep a silent stream open. */
void generation_ping(struct request *r, uint64_t now_ms);

/* generation_chat.c: the parts of a choice that only chat has. */
void generation_write_message(struct json *j, const struct chunk *c);
void generation_write_chat_delta(struct json *j, const struct chunk *c,
                                 bool first);
void generation_write_chat_logprobs(struct json *j, const struct generation *g,
                                    const struct chunk *c);

/* generation_json.c: what the replies and events are made of. */
void generation_write_reply(struct buf *out, const struct generation *g,
                            const struct job *job);
void generation_write_delta(struct buf *out, const struct generation *g,
                            const struct job *job, const struct chunk *c,
                            bool first);
void generation_write_usage(struct buf *out, const struct generation *g);
const char *generation_finish_name(enum infer_finish f);
const struct chunk_token *generation_tokens(const struct chunk *c, size_t *n);
/* A token's text as a string; bytes that are no UTF-8 as bytes:\xe2. */
void generation_write_token(struct json *j, const struct infer_model *m,
                            int32_t id);

#endif
