/*
 * model.h - an encoder in training: tokens through the net, n-grams through
 * their table, added up to one vector a text (docs/model-format.md).
 */
#ifndef TRAINER_ENC_MODEL_H
#define TRAINER_ENC_MODEL_H

#include "core/tokenizer/ngrams.h"
#include "core/tokenizer/tokenizer.h"
#include "trainer/nn/optim.h"
#include "trainer/nn/rows.h"

/* Texts as ids, all in one place. Zero it to start. */
struct enc_texts {
    int32_t *tokens;
    uint32_t *grams;
    struct enc_text {
        size_t tokens, grams;               /* where its ids begin */
        uint32_t n_tokens, n_word, n_chars; /* word n-grams, then characters */
    } * texts;                              /* [n] */
    size_t n, cap, n_tokens, tokens_cap, n_grams, grams_cap;
};

void enc_texts_release(struct enc_texts *t);

struct enc_dropout {
    float tokens, grams; /* shares left out of a text */
    float vector;        /* of the pooled values */
    float part;          /* of texts that lose all tokens but the first, and as
                            many that lose all n-grams: neither part can lean
                            on the other */
};

struct enc_model {
    struct infer_tokenizer *tokenizer; /* owned */
    struct infer_ngrams_spec spec;     /* buckets 0: no n-grams */
    struct infer_ngrams work;
    struct infer_team *team; /* borrowed */
    struct net *net;
    struct nn_rows *rows; /* NULL without n-grams */
    size_t max_batch, max_tokens;

    /* the batch in progress */
    int32_t *tokens;         /* [max_batch * max_tokens] */
    uint32_t *starts;        /* [max_batch + 1] */
    struct nn_row_use *uses; /* [uses_cap] */
    size_t n_uses, uses_cap, n;
    struct enc_dropout dropout;
    uint64_t seed;
};

/*
 * Memory for a model and batches of up to max_batch texts of max_tokens, at
 * most the shape's context; what a text has more is cut off. Zero *m first. The
 * tokenizer becomes the model's, also on failure. Parameters are as after
 * net_init().
 * Errors  EINVAL (the shape), EFORMAT (its vocabulary is not the tokenizer's),
 *         ENOMEM
 */
int enc_model_create(struct enc_model *m, const struct net_shape *shape,
                     const struct infer_ngrams_spec *spec,
                     struct infer_tokenizer *tokenizer, size_t max_batch,
                     size_t max_tokens, struct infer_team *team,
                     enum train_precision precision, uint64_t seed,
                     struct infer_error *err);
void enc_model_release(struct enc_model *m);

/* Encode and append a text, or a pair (b not NULL). Errors  ENOMEM */
int enc_texts_add(struct enc_texts *t, struct enc_model *m, const char *a,
                  size_t a_len, const char *b, size_t b_len,
                  struct infer_error *err);

/*
 * Vectors [n][D] of texts which[0..n), in the model's memory until the next
 * batch. dropout NULL: none, and nothing is kept for enc_back().
 * Errors  ENOMEM
 */
int enc_forward(struct enc_model *m, const struct enc_texts *t,
                const uint32_t *which, size_t n,
                const struct enc_dropout *dropout, uint64_t seed,
                float **vectors, struct infer_error *err);

/* d(loss)/d(vectors) [n][D] (which is changed): the net's gradients grow, the
 * n-gram rows move by rows_lr. Errors  ENOMEM */
int enc_back(struct enc_model *m, float *dvectors, float rows_lr,
             float rows_decay, struct infer_error *err);

/* All parameters, to go back to: a copy of the net's and of the rows. */
struct enc_copy {
    float *net, *rows;
};
int enc_copy_take(struct enc_copy *c, struct enc_model *m,
                  struct infer_error *err);
/* EINVAL: nothing was taken. */
int enc_copy_restore(const struct enc_copy *c, struct enc_model *m,
                     struct infer_error *err);
void enc_copy_release(struct enc_copy *c);

#endif
