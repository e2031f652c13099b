/* embed_parts.h - a run of infer-train embed, as its files share it. */
#ifndef TRAINER_ENC_EMBED_PARTS_H
#define TRAINER_ENC_EMBED_PARTS_H

#include "trainer/enc/embed.h"
#include "trainer/enc/embed_loss.h"

/* Texts [first, first + n) of texts mean the same, the n_negatives behind them
 * do not. */
struct enc_group {
    uint32_t first, n, n_negatives;
};

struct enc_embed_run {
    const struct enc_embed *o;
    const char *const *argv;
    struct infer_team *team;
    struct train_table *tables; /* [o->groups.n] */
    struct enc_model model;
    struct optim *optim;
    struct enc_texts texts;
    struct enc_group *groups; /* [n] */
    size_t n;
    struct enc_pairs scored, val, test;
    size_t dims[ENC_MAX_DIMENSIONS], n_dims;

    uint32_t *which; /* [max_batch] texts of a step */
    int32_t *group;  /* [max_batch] whose they are, -1: a negative */
    float *scores;   /* [max_batch] */
    struct enc_embed_loss loss;
    size_t max_batch; /* texts */
    uint64_t step, total, epoch, best_epoch, scored_step;
    double best, seconds;
    struct enc_copy copy;
    int lock; /* of the folder */
    struct infer_error *err;
};

/* Read the files of groups. Errors  as train_table_read() */
int enc_embed_read(struct enc_embed_run *r);

/* RUN/tokenizer.gguf, of the groups' texts. Errors  as enc_vocab_make() */
int enc_embed_vocab(struct enc_embed_run *r);

/* Groups and pairs in ids; the model must be there. Errors  EFORMAT (names
 * file and row), ENOMEM */
int enc_embed_encode(struct enc_embed_run *r);

/* Write the model, score it, write its papers. Errors  EIO, ENOMEM */
int enc_embed_finish(struct enc_embed_run *r);

#endif
