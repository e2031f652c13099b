/*
 * recipe.h - how an encoder is built and trained: what classify and embed
 * share.
 *
 * There are two recipes. Our own encoder is trained from nothing, its rows and
 * matrices at high rates. A BERT that --init names brings its shape and its
 * vocabulary and moves a little (Devlin et al. 2018, section 4): AdamW at a low
 * rate, no n-grams, and a tenth of the values dropped.
 */
#ifndef TRAINER_ENC_RECIPE_H
#define TRAINER_ENC_RECIPE_H

#include "trainer/enc/model.h"

/* What an option that was not given holds until enc_recipe_check(). */
#define ENC_UNSET        UINT64_MAX
#define ENC_UNSET_REAL   (-1.0)
#define ENC_UNSET_CHOICE (-1)

struct enc_recipe {
    uint64_t layers, heads, width, ffn, context, vocab;
    uint64_t buckets, words, char_min, char_max; /* n-grams; words: longest */
    bool plain;            /* the head has no hidden layer */
    const char *tokenizer; /* .model or .gguf; NULL: init's, or learned */
    const char *init;      /* GGUF to begin from, or NULL */
    bool bert;             /* set by the check: init is one, and its shape: */
    struct net_shape begin;
    double drop_tokens, drop_grams, drop_vector, drop_part, dropout;
    double lr, other_lr, rows_lr, rows_decay, weight_decay, warmup;
    uint64_t batch, seed, threads;
    int precision; /* an enum train_precision, or ENC_UNSET_CHOICE */
};

struct enc_recipe enc_recipe_default(void);

/* Refuses what cannot work together; fills in what was not given. Errors
 * EINVAL, of a BERT's file also EIO, EFORMAT */
int enc_recipe_check(struct enc_recipe *p, struct infer_error *err);

/*
 * The model and optimizer of a recipe. RUN/tokenizer.gguf must be there.
 *   n_classes  rows of a head, 0: none;  max_batch  texts of a batch
 * Errors  as enc_model_create(), enc_import()
 */
int enc_recipe_build(const struct enc_recipe *p, const char *run,
                     size_t n_classes, size_t max_batch,
                     struct infer_team *team, struct enc_model *m,
                     struct optim **optim, struct infer_error *err);

struct enc_dropout enc_recipe_dropout(const struct enc_recipe *p);

/*
 * The end of step `step` of `total`: from d(loss)/d(vectors) [n][D] of the
 * batch (which is changed) to moved parameters, at the schedule's rate.
 * Errors  EFORMAT (the loss or a gradient is not finite), ENOMEM
 */
int enc_recipe_step(const struct enc_recipe *p, struct enc_model *m,
                    struct optim *optim, float *dvectors, double loss,
                    uint64_t step, uint64_t total, struct infer_error *err);

#endif
