/* papers.h - the files of a classifier's report, from its scores. */
#ifndef TRAINER_ENC_PAPERS_H
#define TRAINER_ENC_PAPERS_H

#include "trainer/enc/classify.h"
#include "trainer/enc/metrics.h"

#include <stdio.h>

struct enc_scores {
    uint64_t n, right;               /* in scope; right without the threshold */
    uint64_t right_in;               /* and with it */
    uint64_t oos, oos_right;         /* out of scope; refused */
    struct enc_class_score *classes; /* [C] */
    struct enc_class_score all;      /* sums */
    uint32_t *confusion;             /* [C][C] true, said */
    struct enc_bins bins;            /* calibrated */
    double ece, ece_raw, macro_f1;
    double squares, absolute, pearson, spearman; /* regression */
    int32_t *said;                               /* [n + oos] */
    double *sure; /* [n + oos]; regression: minus the error */
};

/* All but metrics.csv and the model. test NULL: there is none. Errors  EIO */
int enc_papers_write(struct enc_run *r, const struct enc_scores *val,
                     const struct enc_scores *test);

/* config.json: the command line; its presence makes the folder a run. */
int enc_paper_config(const char *run, const char *const *argv,
                     struct infer_error *err);

/* A file of the run's folder; close says EIO if anything failed, also when f
 * is NULL. */
FILE *enc_paper_open(const char *run, const char *name, const char *mode);
int enc_paper_close(FILE *f, const char *run, const char *name,
                    struct infer_error *err);

#endif
