/*
 * sampler.h - from one row of logits to one token.
 *
 * Order of operations, each on what the previous one left:
 *
 *   1  logit_bias           added
 *   2  repetition penalty   divides positive, multiplies negative logits of
 *                           tokens in prompt or output
 *   3  presence, frequency  subtracted for tokens in the output
 *   -  mask                 others are out
 *   4  temperature          0: the largest logit, lowest id on a tie; done
 *   5  top_k                the k most probable
 *   6  top_p                the fewest most probable with mass >= top_p
 *   7  min_p                those with p >= min_p * the largest p
 *   8  typical_p            the fewest nearest to the entropy, mass >=
 * typical_p 9  draw
 *
 * Equally probable tokens rank by id, lowest first. Logprobs are those of the
 * model's own distribution, before step 1. The random number is a function of
 * (seed, choice, position) alone: nothing that happens elsewhere, nor having
 * to compute a sequence again, can change a draw.
 */
#ifndef INFER_ENGINE_SAMPLER_H
#define INFER_ENGINE_SAMPLER_H

#include "core/kernels/kernels.h"

enum { INFER_MAX_TOP = 20 }; /* alternatives per token */

/* Work space of one thread. */
struct infer_sampler;

uint64_t infer_sampler_bytes(uint32_t n_vocab);
int infer_sampler_create(struct infer_sampler **s,
                         const struct infer_kernels *kern, uint32_t n_vocab,
                         struct infer_error *err);
void infer_sampler_free(struct infer_sampler *s);

struct infer_sample {
    /* in */
    const float *logits;                 /* [V] */
    const struct infer_sampling *params; /* in range; unused when given >= 0 */
    const int32_t *tokens;               /* [n_tokens], prompt then output */
    uint32_t n_prompt, n_tokens;
    uint32_t choice;
    int32_t given;        /* >= 0: draw nothing, only tell its logprob */
    int32_t n_top;        /* -1: no logprobs; else alternatives wanted */
    const uint64_t *mask; /* a bit per token that may be drawn; NULL: all */
    /* out */
    bool broken; /* NaN or infinite logits; the rest is undefined */
    bool stuck;  /* the mask allows nothing; the rest is undefined */
    int32_t id;
    float logprob; /* NAN when n_top is -1 */
    uint32_t n_found;
    struct infer_logprob top[INFER_MAX_TOP]; /* best first */
};

/* Cost  O(V), no sort of the vocabulary, no allocation */
void infer_sampler_run(struct infer_sampler *s, struct infer_sample *job);

/* Uniform in [0, 1), 53 bits. */
double infer_uniform(uint64_t seed, uint32_t choice, uint32_t position);

#endif
