/*
 * seen.h - a set of texts, kept as 128-bit hashes: which came before?
 */
#ifndef TRAINER_DATA_SEEN_H
#define TRAINER_DATA_SEEN_H

#include "infer.h"

struct train_seen {
    uint64_t (*slots)[2]; /* [cap], open addressing; 0 0: free */
    size_t n, cap;        /* cap 0 or a power of two, at most half full */
};

/* 1: it was there; 0: it is now. Texts are equal when their hashes are: one
 * chance in 2^64 of a mistake in four billion documents. Errors  ENOMEM */
int train_seen_add(struct train_seen *s, const char *text, size_t len,
                   struct infer_error *err);
void train_seen_release(struct train_seen *s);

#endif
