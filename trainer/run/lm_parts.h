/* lm_parts.h - what the files of a training run share: its insides. */
#ifndef TRAINER_RUN_LM_PARTS_H
#define TRAINER_RUN_LM_PARTS_H

#include "trainer/run/corpus.h"
#include "trainer/run/progress.h"
#include "trainer/run/ranks.h"

/* What a rank tells the others. */
struct lm_report {
    double nll; /* summed over its targets */
    uint64_t n_counted;
    double seconds; /* of training, by its clock */
    uint64_t hash;
    int32_t stop; /* a signal asked it to */
};

struct run {
    const struct train_lm *o;
    struct train_ranks *ranks;
    bool first;                /* rank 0: writes and prints */
    struct lm_report *reports; /* [ranks] */
    const volatile int *stop;
    struct train_corpus corpus;
    struct infer_team *team;
    enum train_precision precision; /* of rank 0 */
    struct net *net;
    struct optim *optim;
    struct ema *ema; /* NULL: not asked for */
    struct train_record record;
    struct train_progress p;
    struct train_meter meter;
    struct schedule schedule;
    uint64_t n_seqs;           /* of batch, this rank's */
    int32_t *tokens, *targets; /* [n_seqs * context] */
    int32_t *window;           /* [context + 1] */
    uint64_t started_ns;       /* this process's training */
    double seconds_before;     /* of the run, before this process */
    double clock;              /* of rank 0, at the last step */
    bool stopping;             /* some rank was asked to stop */
    double norm;
    int lock; /* descriptor that holds the folder; -1 */
    struct infer_error *err;
};

/* ---- lm_plan.c: what the options ask for, and how far the run is ----------
 */

struct net_shape lm_shape(const struct train_lm *o, uint32_t n_vocab);
struct optim_config lm_optim(const struct train_lm *o);
struct schedule lm_schedule(const struct train_lm *o);

/* EINVAL: the machine has less memory than the net takes. */
int lm_check_memory(const struct run *r, const struct net_shape *shape,
                    int n_threads);

double lm_seconds(const struct run *r); /* of training, before this too */
/* Share of the run that is done, by the limit that counts: steps if given. */
double lm_done(const struct run *r);
bool lm_finished(const struct run *r);
/* Tokens of a window now: start_context grows to context over the first half.
 */
uint64_t lm_context(const struct run *r);
float lm_lr(const struct run *r); /* share of the peak */

/* ---- lm_step.c: the arithmetic --------------------------------------------
 */

/* One step of the optimizer. Errors  EFORMAT (the loss is not finite any more:
 * nothing may be saved; or the token files are damaged) */
int lm_step(struct run *r);

/* Nats per token of the first `limit` validation tokens (0: all), in windows
 * of the full context, as the engine's evaluation cuts them. Errors  EFORMAT */
int lm_evaluate(struct run *r, uint64_t limit, double *loss);

/* ---- lm_ranks.c: a batch over the ranks -----------------------------------
 */

/* This rank's share. Errors  EINVAL (ranks that cannot share the batch) */
int lm_ranks_init(struct run *r, const volatile int *stop);

/* What AUTO means is measured, and not alike everywhere: as rank 0 says.
 * Errors  EIO */
int lm_ranks_precision(struct run *r);

/* *report = the sums of everyone's, with the clock of rank 0; notes whether one
 * was asked to stop. Errors  the first rank's that has status != 0, EIO */
int lm_ranks_exchange(struct run *r, int status, struct lm_report *report);

/* Errors  EFORMAT when not all ranks have the same bits, EIO */
int lm_ranks_compare(struct run *r);

/* ---- lm_sample.c: what the model writes meanwhile --------------------------
 */

/* Drop what a process that was cut off wrote after the checkpoint. */
int lm_sample_begin(struct run *r);
/* Print a sample and keep it in samples.txt. Errors  EIO, ENOMEM */
int lm_sample(struct run *r);

#endif
