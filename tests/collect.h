/*
 * collect.h - run requests on an engine and keep what comes back, so that two
 * runs can be compared byte by byte. Each event is checked as it arrives.
 */
#ifndef TESTS_COLLECT_H
#define TESTS_COLLECT_H

#include "infer.h"

enum { COLLECT_CHOICES = 4, COLLECT_TEXT = 8192, COLLECT_TOKENS = 1024 };

/* What one choice said. */
struct said {
    char text[COLLECT_TEXT];
    size_t text_len;
    struct infer_token_info tokens[COLLECT_TOKENS]; /* top is in tops */
    struct infer_logprob tops[COLLECT_TOKENS][4];
    size_t n_tokens;
    uint32_t n_generated;
    enum infer_finish finish;
};

/* What one request said. */
struct reply {
    struct said choices[COLLECT_CHOICES];
    uint32_t n_cached;
    uint32_t n_events;
    bool done;
    uint64_t order; /* of completion, 1 first */
};

/* The on_event of a request whose user is a struct reply. */
void collect(void *user, const struct infer_event *event);

/* Submit (must succeed) with r as the reply; r is cleared. */
void collect_submit(struct infer_engine *e, struct infer_request *req,
                    struct reply *r);

/* Step until idle. */
void collect_finish(struct infer_engine *e);

/* Fail the test unless both said the same, to the bit. */
void assert_same_reply(const struct reply *a, const struct reply *b);

/* A model of the reference, or NULL and a line that says it was skipped. */
struct infer_model *collect_model(const char *file);

#endif
