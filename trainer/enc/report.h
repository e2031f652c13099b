/*
 * report.h - what a classifier's run leaves for people: metrics.csv while it
 * goes, then calibration, scores of the validation and test examples, tables
 * and pictures, the model and its card.
 *
 *   RUN/metrics.csv  learning.svg  report.json  README.md  model.gguf
 *   RUN/classes.csv  confusion.csv  confusion.svg  reliability.svg
 *   RUN/mistakes.csv        of the test examples, or else of the validation
 */
#ifndef TRAINER_ENC_REPORT_H
#define TRAINER_ENC_REPORT_H

#include "trainer/enc/classify.h"

/* One number the higher the better, and the loss, of logits [n][C]. */
void enc_report_quick(const struct enc_run *r, const struct enc_set *s,
                      const float *logits, double *score, double *loss);
const char *enc_report_score_name(const struct enc_run *r);

/* A line of metrics.csv, and learning.svg. Errors  EIO */
int enc_report_epoch(struct enc_run *r, double train_loss, double val_loss,
                     double score);

/* Calibrate on the validation examples, export, report. Errors  EIO, ENOMEM */
int enc_report_finish(struct enc_run *r);

#endif
