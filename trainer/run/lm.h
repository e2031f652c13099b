/*
 * lm.h - one training run of a language model, from a folder that holds its
 * data to a folder that holds its model.
 */
#ifndef TRAINER_RUN_LM_H
#define TRAINER_RUN_LM_H

#include "trainer/data/text.h"
#include "trainer/nn/optim.h"
#include "trainer/nn/schedule.h"
#include "trainer/run/ranks.h"

struct train_lm {
    const char *out;       /* the run's folder */
    const char *tokenizer; /* .model, .gguf, or "char"; NULL: that, or init's */
    const char *init;      /* model to go on from; NULL: begin anew */
    bool resumed;          /* init is the run's own copy */
    struct train_text text;
    struct train_list val; /* files; else text.val_share */

    /* shape; 0: the default, derived from the others, or what init has */
    int arch; /* an enum net_arch; negative: as 0 above */
    bool untied;
    uint64_t layers, heads, kv_heads, width, ffn, context;
    uint64_t head, model_context; /* where they aren't the usual ones */
    double rope_base, norm_eps, dropout, smoothing;

    int optim;                               /* an enum optim_kind */
    double lr, other_lr, weight_decay, clip; /* negative: the optimizer's */
    int schedule;                            /* an enum schedule_kind */
    double warmup, decay, final; /* shares of the run; of the peak */

    uint64_t batch;         /* windows of `context` in one pass, all ranks */
    uint64_t accumulate;    /* passes in one step */
    uint64_t start_context; /* 0: context; doubles while training */
    uint64_t steps;         /* 0: no limit */
    double time;            /* seconds; 0: no limit */
    uint64_t seed, threads;
    int precision; /* an enum train_precision */

    uint64_t log_every, eval_every, eval_tokens, save_every, keep; /* steps */
    uint64_t patience; /* evaluations without a better one; 0: never stop */
    double ema;        /* decay of averaged parameters; 0: none */
    double peak;       /* GFLOP/s of the machine; 0: measure it */

    uint64_t sample_tokens, sample_every; /* 0: no samples; steps */
    const char *prompt;                   /* of samples */
    double temperature;
};

/* Refuses what cannot work together; fills in what is derived. EINVAL */
int train_lm_check(struct train_lm *o, struct infer_error *err);

/*
 * Train. The folder is made, or with resume taken up again.
 *
 *   argv  the command line, for config.json and the model card
 *   ranks share the batch; all make this call, rank 0 writes. Their folder
 *         must be the same one.
 *   stop  set by a signal handler, on any rank: save and return
 * Errors  those of the data, of the disk, EINVAL; EFORMAT when the loss is not
 *         finite any more (nothing is saved then); EIO when a rank is lost. But
 *         for that one, all ranks return the same.
 */
int train_lm_run(const struct train_lm *o, const char *const *argv, bool resume,
                 struct train_ranks *ranks, const volatile int *stop,
                 struct infer_error *err);

#endif
