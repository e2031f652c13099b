/*
 * schedule.h - the learning rate over a run, as a share of its peak.
 *
 * The unit is whatever the run is limited by: steps, tokens or seconds.
 *
 *   constant  1
 *   cosine    half a cosine from 1 to final (Loshchilov & Hutter 2017)
 *   linear    a line from 1 to final
 *   wsd       1, then a line to final over the last `decay`
 *             (warm-up, stable, decay: Hu et al. 2024)
 * each after a line from 0 to 1 over `warmup`.
 */
#ifndef TRAINER_NN_SCHEDULE_H
#define TRAINER_NN_SCHEDULE_H

#include "infer.h"

enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_COSINE,
    SCHEDULE_LINEAR,
    SCHEDULE_WSD
};

struct schedule {
    enum schedule_kind kind;
    double warmup, total; /* total includes the warm-up */
    double decay;         /* wsd only */
    double final;         /* share at the end, 0..1 */
};

/* "constant", "cosine", "linear", "wsd"; EINVAL names the unknown word. */
int schedule_parse(const char *text, enum schedule_kind *kind,
                   struct infer_error *err);

/* EINVAL with a sentence, or 0. */
int schedule_check(const struct schedule *s, struct infer_error *err);

/* Share for the step that begins at `at`: step i of n asks for (i, n), and the
 * first step of a warm-up is not 0 but one unit into it. */
double schedule_at(const struct schedule *s, double at);

#endif
