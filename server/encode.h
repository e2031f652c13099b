/*
 * encode.h - work for an encoder: texts of one request, and what they become.
 *
 * The loop fills it (params_encode.c), the worker tokenizes, submits, collects
 * (encodejob.c) and writes the reply (encode_json.c), all in struct job.
 */
#ifndef SERVER_ENCODE_H
#define SERVER_ENCODE_H

#include "infer.h"
#include "server/buf.h"

struct job;
struct worker;

/* What the reply looks like. */
enum encode_shape {
    SHAPE_EMBEDDINGS, /* /v1/embeddings */
    SHAPE_CLASSIFY,   /* /v1/classify */
    SHAPE_RERANK,     /* /v1/rerank */
    SHAPE_TEI_EMBED,
    SHAPE_TEI_PREDICT,
    SHAPE_TEI_RERANK
};

enum { EXPLAIN_MAX_INPUTS = 16, EXPLAIN_MAX_TOKENS = 256 };

/* A sequence in the batcher's hands. */
struct probe {
    struct infer_encode_request request;
    struct input *input;
};

/* One text or pair. With `explain` it is encoded in many variants: see
 * explain.c. */
struct input {
    struct job *job;
    char *text, *pair; /* owned; pair NULL: none */
    size_t len, pair_len;
    struct infer_tokens given;     /* owned; ids instead of a text */
    struct infer_encoded *encoded; /* [n_members], owned */
    uint32_t n_variants;           /* of each member, the whole first */
    struct probe *probes;          /* [n_members * n_variants], owned */
    float *results;                /* [n_members * n_variants][n_out], owned */
    int32_t *variant_ids;          /* of explained texts, owned */
    size_t n_variant_ids;          /* written so far */
    uint32_t n_made;               /* variants made so far */
    uint32_t **ngrams;             /* [n_variants] of these, owned; or NULL */
    uint64_t waiting;         /* tokens counted in worker->waiting_tokens */
    bool counted;             /* no longer */
    struct infer_error error; /* status 0: none */
    const char *param;        /* the field at fault; NULL: none. static */
};

struct encode {
    enum encode_shape shape;
    struct input *inputs; /* [n_inputs], owned */
    size_t n_inputs;
    char *query; /* of a rerank, owned */
    size_t query_len;
    bool bare; /* TEI: one text, so the reply is not a list of lists */
    bool normalize, base64, raw_scores, explain, partial, return_text;
    enum infer_truncate truncate;
    uint32_t dimensions; /* 0: all */
    uint32_t top_k;      /* 0: all */
    float threshold;     /* NAN: the model's own */
    uint64_t deadline_ms;
    char id[32];
    int64_t created;

    /* the worker's */
    size_t n_encoded;                 /* inputs */
    uint64_t n_submitted, n_finished; /* sequences */
    uint64_t n_tokens;                /* of all inputs, as computed */
    uint64_t started_ns;              /* first result; 0: none yet */
    bool late;                        /* a deadline passed */
};

/* The field that holds the inputs (params_encode.c). static */
const char *encode_field(enum encode_shape shape);

void encode_release(struct encode *e, size_t n_members);

/* Worker: tokenize up to a time. true: done or failed (job->error). */
bool encode_prepare(struct worker *w, struct job *job, uint64_t until_ns);

/* Worker: its tokens no longer wait. */
void encode_started(struct worker *w, struct input *in);

/* Worker: hand all over; false: nothing to wait for, the job is over. */
bool encode_submit(struct worker *w, struct job *job);

/* Worker: the reply of a job whose inputs are all done. */
void encode_reply(const struct worker *w, const struct job *job,
                  struct buf *body);

/* Memory for an input's sequences and results. 0 or ENOMEM */
int encode_make_probes(const struct worker *w, struct input *in,
                       struct infer_error *err);

/* ---- explain.c ----------------------------------------------------------- */

/* Memory for an input's variants. 0 or ENOMEM, ETOOLONG */
int explain_begin(const struct worker *w, struct input *in,
                  struct infer_error *err);

/* Make variants up to a time. true: none is left, or *rc < 0. */
bool explain_more(const struct worker *w, struct input *in, uint64_t until_ns,
                  int *rc, struct infer_error *err);

/* Attribution of each token of the encoded text to class c; out [n]; returns
 * the score without any token. */
float explain_attribute(const struct worker *w, const struct input *in,
                        bool raw_scores, uint32_t c, float *out);

#endif
