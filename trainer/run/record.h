/*
 * record.h - what a run leaves for people: metrics.csv, metrics.jsonl and
 * TensorBoard's events as it goes, and loss.svg.
 */
#ifndef TRAINER_RUN_RECORD_H
#define TRAINER_RUN_RECORD_H

#include "trainer/run/tfevents.h"

/* A line of metrics; NAN: not measured at this step. */
struct train_row {
    uint64_t step, tokens;
    double seconds;
    double loss;     /* mean of the steps since the last row, nats per token */
    double val_loss; /* nats per token */
    double lr;       /* share of the peak */
    double norm;     /* of the gradient */
    double speed;    /* tokens per second since the last row */
};

struct train_record {
    char *folder;
    struct train_row *rows; /* [n] of the whole run */
    size_t n, cap;
    FILE *csv, *jsonl;
    struct train_events events;
};

/*
 * Open the files in a folder; rows up to last_step are taken over from
 * metrics.csv, later ones (of a run that was cut off) are dropped. Each call
 * begins another file of events.
 * Errors  EIO, ENOMEM
 */
int train_record_open(struct train_record *r, const char *folder,
                      uint64_t last_step, struct infer_error *err);
int train_record_add(struct train_record *r, const struct train_row *row,
                     struct infer_error *err);
/* Draw loss.svg. Errors  EIO */
int train_record_draw(const struct train_record *r, struct infer_error *err);
void train_record_close(struct train_record *r);

#endif
