/*
 * metrics.h - what classifiers and embedders are judged by.
 */
#ifndef TRAINER_ENC_METRICS_H
#define TRAINER_ENC_METRICS_H

#include "infer.h"

/* Hits and misses of one class, or of one label. */
struct enc_class_score {
    uint64_t right, wrong, missed; /* true positives, false ones, false
                                      negatives */
};

double enc_precision(const struct enc_class_score *s); /* 0: nothing said */
double enc_recall(const struct enc_class_score *s);
double enc_f1(const struct enc_class_score *s);

/* Calibration: answers sorted into bins by the probability they came with.
 * (Guo et al. 2017, arXiv:1706.04599) */
enum { ENC_BINS = 15 };
struct enc_bins {
    uint64_t n[ENC_BINS];
    double sure[ENC_BINS], right[ENC_BINS]; /* sums */
};

void enc_bins_add(struct enc_bins *b, double probability, bool right);
/* Expected calibration error, 0..1. */
double enc_bins_ece(const struct enc_bins *b);

/* Softmax of c logits / temperature. */
void enc_softmax(const float *logits, size_t c, double temperature, double *p);

/*
 * The temperature that makes the answers most likely, 0.05..20.
 *   logits  [n][c]
 *   multi   false: targets [n] are classes, -1 is not counted; true: labels
 *           [n][c] are 0 or 1
 */
double enc_fit_temperature(const float *logits, size_t n, size_t c,
                           const int32_t *targets, const float *labels);

/* The threshold in 0..1 that gives a label its best F1, of n probabilities. */
double enc_fit_threshold(const double *p, const bool *is, size_t n);

/* Rank correlation of a and b [n], ties share their mean rank. NAN: one of
 * them is constant, or memory is out. */
double enc_spearman(const double *a, const double *b, size_t n);
double enc_pearson(const double *a, const double *b, size_t n);

/*
 * nDCG at k of one ranking: gains[0..n) in ranked order (2^g - 1 over log2 of
 * the place + 1); all [n_all] gains there are, in any order (changed).
 */
double enc_ndcg(const double *gains, size_t n, double *all, size_t n_all,
                size_t k);

#endif
