/*
 * embed.h - one training run of a sentence embedder.
 *
 * Texts of a group mean the same. A step takes some texts of each of a batch of
 * groups; each has to find its own group among all the others' texts (InfoNCE:
 * van den Oord et al. 2018, arXiv:1807.03748) and among negatives that the data
 * names. Pairs with scores teach their order. With several dimensions the loss
 * is the mean over vectors cut to each (matryoshka: Kusupati et al. 2022,
 * arXiv:2205.13147).
 */
#ifndef TRAINER_ENC_EMBED_H
#define TRAINER_ENC_EMBED_H

#include "trainer/enc/retrieval.h"
#include "trainer/enc/recipe.h"

enum { ENC_MAX_DIMENSIONS = 8 };
enum enc_begin { ENC_BEGIN_ZERO, ENC_BEGIN_IDF }; /* of n-gram rows */
enum enc_pair_loss { ENC_PAIRS_ORDER, ENC_PAIRS_SQUARES };

struct enc_embed {
    const char *out;
    struct train_list groups, scored, val, test; /* files */
    struct train_table_options table;
    const char *texts, *pair, *negatives; /* columns of groups; the last two
                                             may be NULL */
    bool cut; /* a text alone becomes a group: its halves and its middle */
    const char *a, *b, *score; /* columns of scored pairs */
    const char *dimensions;    /* "256,64" or NULL: the width */
    const char *retrieval;     /* folder, see retrieval.h; or NULL */
    struct enc_recipe recipe;
    int begin;                           /* an enum enc_begin */
    uint64_t views;                      /* texts of a group in a step */
    double temperature;                  /* of InfoNCE */
    double pair_temperature, pair_share; /* scored passes per pass of groups */
    int pair_loss;                       /* an enum enc_pair_loss */
    uint64_t epochs;
    double time;
};

int enc_embed_check(struct enc_embed *o, struct infer_error *err);

/* Errors  as enc_classify_run() */
int enc_embed_run(const struct enc_embed *o, const char *const *argv,
                  const volatile int *stop, struct infer_error *err);

#endif
