/*
 * evaluate.h - what a model file makes of a text, through the engine that
 * serves it.
 *
 * The token stream (encode.h) is cut into windows of `context` tokens, each
 * evaluated from an empty context; every token but the stream's first is
 * predicted once. The trainer's own evaluation does the same, so the two agree.
 */
#ifndef TRAINER_RUN_EVALUATE_H
#define TRAINER_RUN_EVALUATE_H

#include "trainer/data/text.h"

/* Which part of a text, as a run with the same val_share divides it. */
enum train_split { TRAIN_SPLIT_ALL, TRAIN_SPLIT_TRAIN, TRAIN_SPLIT_VAL };

typedef int train_session_fn(void *user, const struct infer_model *m,
                             struct infer_session *s, struct infer_error *err);

struct train_evaluate_options {
    uint64_t context;    /* tokens; 0: the model's training context */
    uint64_t max_tokens; /* evaluated at most; 0: all */
    int n_threads;       /* 0: all processors */
    int split;           /* an enum train_split */

    /* with the session before and after the text goes through it; or NULL */
    train_session_fn *begin, *end;
    void *user;
};

struct train_evaluation {
    double loss;          /* nats per token */
    double perplexity;    /* exp(loss) */
    double bits_per_byte; /* of all tokens, per byte of text */
    double accuracy;      /* share of tokens that were the likeliest */
    uint64_t n_tokens;    /* predicted */
    uint64_t n_bytes;     /* of text they stand for */
    uint64_t context;     /* used */
    double seconds;
};

/*
 * Errors  infer_model_load()'s, train_text_each()'s, EINVAL (fewer than two
 *         tokens, a context the model cannot hold), EFORMAT (the model gives
 *         NaN), ENOMEM
 */
int train_evaluate_file(const char *model, const struct train_text *text,
                        const struct train_evaluate_options *how,
                        struct train_evaluation *out, struct infer_error *err);

#endif
