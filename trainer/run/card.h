/*
 * card.h - the papers of a run: config.json, written before it starts and read
 * to resume it, and README.md, the model's card.
 */
#ifndef TRAINER_RUN_CARD_H
#define TRAINER_RUN_CARD_H

#include "trainer/run/checkpoint.h"
#include "trainer/run/lm.h"

#include <stdio.h>

/* used: the precision of the products, never TRAIN_AUTO */
int train_config_write(const struct train_lm *o, const char *const *argv,
                       enum train_precision used, uint32_t n_vocab,
                       struct infer_error *err);

/*
 * The command line that config.json holds, NULL-terminated; free it and its
 * strings with train_config_free(). Errors  EIO, EFORMAT, ENOMEM
 */
int train_config_read(const char *run, char ***argv, struct infer_error *err);
void train_config_free(char **argv);

/* The section of a card that says how the model was made. */
void train_card_recipe(FILE *f, const char *const *argv);

struct train_card {
    const struct train_lm *o;
    const char *const *argv;
    struct net *net;
    int n_ranks;                /* processes, each with the net's threads */
    struct train_progress last; /* where the run ended */
    double val_loss, bits_per_byte, seconds;
    uint64_t train_tokens, val_tokens;
};

int train_card_write(const struct train_card *c, struct infer_error *err);

#endif
