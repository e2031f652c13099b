/*
 * ranks.h - the processes of one data-parallel run ("ranks") and what they tell
 * each other. A process that no MPI launcher started is rank 0 of 1: then
 * nothing is loaded and every call is a copy or nothing.
 *
 * All calls but the first two groups are collective: every rank makes the same
 * ones in the same order, from its main thread. Sums are made in the order of
 * ranks, once, and copied: their bits are the same on every rank, in every
 * repetition, and under every MPI.
 *
 * A rank that dies does not leave the others waiting: those of its machine see
 * it within a moment, those elsewhere hear of it from MPI or are ended by the
 * launcher. After such a failure (INFER_EIO) only train_ranks_close() is left.
 */
#ifndef TRAINER_RUN_RANKS_H
#define TRAINER_RUN_RANKS_H

#include "infer.h"

struct train_ranks; /* opaque */

/*
 * Find the others. Starts MPI when a launcher started this process.
 * Errors  EIO (no library, of another MPI than the launcher, no connection),
 *         ENOMEM
 */
int train_ranks_open(struct train_ranks **ranks, struct infer_error *err);

/* Leave; NULL is fine. After a failure of these calls the whole job is ended:
 * then it does not return. */
void train_ranks_close(struct train_ranks *ranks);

int train_ranks_id(const struct train_ranks *r); /* 0 .. n-1 */
int train_ranks_n(const struct train_ranks *r);

/* Compute threads for a rank where none are asked for: the processors it may
 * use, shared with the ranks of its machine that may use the same; the least
 * of all ranks, since the bits of a step depend on their number. */
int train_ranks_threads(const struct train_ranks *r);

int train_ranks_here(const struct train_ranks *r); /* of them on this machine */

/* Has one of these calls failed? */
bool train_ranks_lost(const struct train_ranks *r);

/* Seconds spent so far in train_ranks_sum(). */
double train_ranks_sum_seconds(const struct train_ranks *r);

/* all [n ranks][size] = what each holds in mine [size]. Errors  EIO */
int train_ranks_gather(struct train_ranks *r, const void *mine, void *all,
                       size_t size, struct infer_error *err);

/* x [n] = the sum of every rank's x, by buckets of some megabytes.
 * Errors  EIO */
int train_ranks_sum(struct train_ranks *r, float *x, size_t n,
                    struct infer_error *err);

/*
 * The first rank's failure is everyone's: returns its status and its sentence
 * in err, or 0 when all have 0. Each puts in its own.
 * Errors  EIO, and whatever a rank failed with
 */
int train_ranks_agree(struct train_ranks *r, int status,
                      struct infer_error *err);

#endif
