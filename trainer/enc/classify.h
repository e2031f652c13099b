/*
 * classify.h - one training run of a classifier, from files of labelled texts
 * to a folder with a calibrated model and its report.
 */
#ifndef TRAINER_ENC_CLASSIFY_H
#define TRAINER_ENC_CLASSIFY_H

#include "trainer/enc/examples.h"
#include "trainer/enc/head.h"
#include "trainer/enc/recipe.h"

enum enc_balance {
    ENC_BALANCE_NONE,
    ENC_BALANCE_WEIGHTS,
    ENC_BALANCE_SAMPLING
};

struct enc_classify {
    const char *out;
    struct train_list train, val, test;
    struct enc_columns columns;
    double val_share; /* of the training examples, without val files */
    struct enc_recipe recipe;
    int balance; /* an enum enc_balance */
    double smoothing;
    double oos_recall; /* of validation texts out of scope to be refused */
    uint64_t epochs, patience;
    double time;   /* seconds; 0: no limit */
    bool no_refit; /* do not train again with the validation examples */
};

struct enc_run {
    const struct enc_classify *o;
    const char *const *argv;
    struct enc_rows train_rows, val_rows, test_rows;
    struct enc_labels labels;
    struct infer_team *team;
    struct enc_model model;
    struct enc_head head;
    struct enc_set train, val, test; /* test.n 0: none given */
    struct optim *optim;
    float *class_weights;   /* [C] or NULL */
    double mean, deviation; /* of the numbers of a regression */

    uint32_t *order;          /* [train.n] of the epoch */
    uint32_t *members;        /* [train.n] by class, for sampling */
    size_t *class_at;         /* [C + 1] */
    float *logits, *dvectors; /* [batch][C], [batch][D] */
    uint64_t step, epoch, best_epoch;
    double best, seconds;
    struct enc_copy copy;
    float *val_logits; /* [val.n][C] of the parameters that copy holds */
    bool refitted;     /* the model is the second training's */

    /* after training */
    double temperature, oos_threshold; /* threshold below 0: none */
    float *thresholds;                 /* [C] of labels; ENC_MULTI */
    int lock;                          /* of the folder */
    struct infer_error *err;
};

int enc_classify_check(struct enc_classify *o, struct infer_error *err);

/*
 * Train, calibrate, report. The folder is made.
 *   argv  the command line, for the card
 *   stop  set by a signal handler: end the epoch's work and finish early
 * Errors  those of the data and the disk; EINVAL; EFORMAT (the loss is not
 *         finite)
 */
int enc_classify_run(const struct enc_classify *o, const char *const *argv,
                     const volatile int *stop, struct infer_error *err);

enum { ENC_RUN_BATCH = 64 }; /* texts at once when nothing is learned */

/* Logits [n][C] of a whole set; r->model, train.n_classes and err are used. */
int enc_run_logits(struct enc_run *r, const struct enc_set *s, float *logits);

#endif
