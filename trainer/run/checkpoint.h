/*
 * checkpoint.h - everything a run needs to go on as if it had never stopped.
 *
 *   file   header | parameters | optimizer state | hash of all before
 *
 * Files are written atomically and carry a hash, so one that exists and reads
 * back is whole; reading takes the newest that does.
 */
#ifndef TRAINER_RUN_CHECKPOINT_H
#define TRAINER_RUN_CHECKPOINT_H

#include "trainer/data/shuffle.h"
#include "trainer/nn/optim.h"

/* Numbers of the run, as they lie in the file. */
struct train_progress {
    uint64_t step;
    uint64_t n_tokens;         /* trained on */
    struct train_shuffle data; /* where the next window is */
    double seconds;            /* of training so far */
    double best;               /* lowest validation loss; INFINITY: none */
    uint64_t best_step;
    double sum_loss; /* since the last line of metrics */
    uint64_t sum_steps;
};

/*
 * `folder`/step-N.ckpt, then the oldest beyond `keep` are removed.
 * Errors  EIO (e.g. no space), ENOMEM
 */
int train_checkpoint_save(const char *folder, unsigned keep, struct net *net,
                          struct optim *optim, const struct train_progress *p,
                          struct infer_error *err);

/* One file by name; for the best. */
int train_checkpoint_write(const char *path, struct net *net,
                           struct optim *optim, const struct train_progress *p,
                           struct infer_error *err);
/* optim NULL: parameters only. Errors  EIO, EFORMAT (damaged, or of another
 * shape; the net may then hold part of it) */
int train_checkpoint_read(const char *path, struct net *net,
                          struct optim *optim, struct train_progress *p,
                          struct infer_error *err);

/*
 * The newest checkpoint of the folder that is whole.
 *   n_damaged  out  newer ones that are not
 * Returns 1 when the folder has none. Errors  EIO, EFORMAT (all are damaged)
 */
int train_checkpoint_latest(const char *folder, struct net *net,
                            struct optim *optim, struct train_progress *p,
                            unsigned *n_damaged, struct infer_error *err);

#endif
