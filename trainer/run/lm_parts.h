/* lm_parts.h - what the files of a training run share: its insides. */
#ifndef TRAINER_RUN_LM_PARTS_H
#define TRAINER_RUN_LM_PARTS_H

#include "trainer/run/corpus.h"
#include "trainer/run/progress.h"

struct run {
    const struct train_lm *o;
    struct train_corpus corpus;
    struct infer_team *team;
    struct net *net;
    struct optim *optim;
    struct ema *ema; /* NULL: not asked for */
    struct train_record record;
    struct train_progress p;
    struct train_meter meter;
    struct schedule schedule;
    int32_t *tokens, *targets; /* [batch * context] */
    int32_t *window;           /* [context + 1] */
    uint64_t started_ns;       /* this process's training */
    double seconds_before;     /* of the run, before this process */
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
int lm_check_memory(const struct train_lm *o, const struct net_shape *shape,
                    int n_threads, struct infer_error *err);

double lm_seconds(const struct run *r); /* of training, all processes */
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

/* ---- lm_sample.c: what the model writes meanwhile --------------------------
 */

/* Drop what a process that was cut off wrote after the checkpoint. */
int lm_sample_begin(struct run *r);
/* Print a sample and keep it in samples.txt. Errors  EIO, ENOMEM */
int lm_sample(struct run *r);

#endif
