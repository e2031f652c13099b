/*
 * progress.h - the progress of a run on its terminal: one line that changes,
 * or a plain line for each row of metrics where stdout is no terminal.
 */
#ifndef TRAINER_RUN_PROGRESS_H
#define TRAINER_RUN_PROGRESS_H

#include "trainer/run/checkpoint.h"
#include "trainer/run/lm.h"
#include "trainer/run/record.h"

struct train_meter {
    bool tty;
    double flops, peak; /* per token; per second of the machine, 0: unknown */
    uint64_t start_ns;  /* of this process's training */
    double start_done;  /* share of the run done then; -1: unset */
    uint64_t shown_ns;  /* the line was drawn */
    uint64_t row_ns, row_tokens; /* at the last row */
};

void train_meter_start(struct train_meter *m, const struct train_lm *o,
                       const struct net *net, uint64_t n_tokens);
void train_meter_step(struct train_meter *m, const struct train_progress *p,
                      double done);
/* Tokens per second since the last call. */
double train_meter_speed(struct train_meter *m, uint64_t n_tokens);
void train_meter_row(struct train_meter *m, const struct train_row *row,
                     double done);
void train_meter_end(struct train_meter *m);

#endif
