/*
 * shuffle.h - a corpus as windows in a random order that takes no memory and
 * can be entered anywhere: the order is a function of (seed, epoch).
 *
 * An epoch cuts the stream into windows of n_tokens + 1 tokens, each beginning
 * with the last of the one before; where the first begins is random too, so
 * the cuts fall elsewhere in every epoch.
 */
#ifndef TRAINER_DATA_SHUFFLE_H
#define TRAINER_DATA_SHUFFLE_H

#include "infer.h"

struct train_shuffle {
    uint64_t seed;
    uint64_t total;    /* tokens of the corpus */
    uint64_t n_tokens; /* of a window, targets not counted */
    uint64_t epoch;    /* which pass */
    uint64_t next;     /* window of the pass */
};

/* A number that looks random, of a and b. */
uint64_t train_mix(uint64_t a, uint64_t b);

/* Element i of a permutation of 0 .. n-1 chosen by key. */
uint64_t train_permute(uint64_t i, uint64_t n, uint64_t key);

/* First token of the next window; total must exceed n_tokens. */
uint64_t train_shuffle_next(struct train_shuffle *s);

/* Another window length from now on: the pass begins anew. */
void train_shuffle_resize(struct train_shuffle *s, uint64_t n_tokens);

#endif
