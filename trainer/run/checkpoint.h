/*
 * checkpoint.h - everything a run needs to go on as if it had never stopped.
 *
 *   file   header | parameters | optimizer state | averages | hash of all
 * before
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
    uint64_t stale;  /* evaluations since the best */
    double sum_loss; /* since the last line of metrics */
    uint64_t sum_steps;
    uint64_t sample_bytes; /* of samples.txt */
};

/* What a file holds beside them; borrowed. A reader or writer of parameters
 * alone has no optim and no ema. */
struct train_state {
    struct net *net;
    struct optim *optim; /* or NULL */
    struct ema *ema;     /* or NULL */
};

/*
 * `folder`/step-N.ckpt, then the oldest beyond `keep` are removed.
 * Errors  EIO (e.g. no space), EFORMAT (a parameter is not finite: nothing was
 *         written), ENOMEM
 */
int train_checkpoint_save(const char *folder, unsigned keep,
                          const struct train_state *s,
                          const struct train_progress *p,
                          struct infer_error *err);

/* Of what s holds; equal when it is. */
uint64_t train_checkpoint_hash(const struct train_state *s);

/* One file by name; for the best. */
int train_checkpoint_write(const char *path, const struct train_state *s,
                           const struct train_progress *p,
                           struct infer_error *err);
/* A file may hold more than s takes. Errors  EIO, EFORMAT (damaged, or of
 * another shape; then nothing was read) */
int train_checkpoint_read(const char *path, const struct train_state *s,
                          struct train_progress *p, struct infer_error *err);

/*
 * The newest checkpoint of the folder that is whole.
 *   n_damaged  out  newer ones that are not
 * Returns 1 when the folder has none.
 * Errors  EIO, EFORMAT (none of them can be used)
 */
int train_checkpoint_latest(const char *folder, const struct train_state *s,
                            struct train_progress *p, unsigned *n_damaged,
                            struct infer_error *err);

#endif
