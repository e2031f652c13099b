/* draw.h - pictures of a classifier's run, as SVG files in its folder. All:
 * Errors  EIO */
#ifndef TRAINER_ENC_DRAW_H
#define TRAINER_ENC_DRAW_H

#include "trainer/enc/metrics.h"

/* confusion.svg: counts [c][c], rows the truth, darker the larger its share of
 * the row; names [c] where they fit. */
int enc_draw_confusion(const char *run, const uint32_t *counts,
                       const char *const *names, size_t c,
                       struct infer_error *err);

/* reliability.svg: how often answers of a probability were right. */
int enc_draw_reliability(const char *run, const struct enc_bins *b,
                         struct infer_error *err);

/* learning.svg, of the run's metrics.csv. */
int enc_draw_learning(const char *run, struct infer_error *err);

#endif
