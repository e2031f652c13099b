/*
 * optim.h - what turns gradients into the next parameters.
 *
 *   sgd    momentum (Polyak 1964); weight decay joins the gradient
 *   adam   Kingma & Ba 2015; weight decay joins the gradient
 *   adamw  Loshchilov & Hutter 2019: decay apart from the gradient
 *   muon   Jordan et al. 2024: the momentum of a matrix is replaced by the
 *          nearest matrix with equal singular values (five Newton-Schulz
 *          steps), times sqrt(max(1, out / in)); embeddings, head and vectors
 *          take adamw with other_lr
 *
 * Decay is for matrices and embeddings, never for norms and biases. Memory: 4
 * bytes a parameter for sgd, 8 for adam; muon 4 for matrices, 8 for the rest.
 */
#ifndef TRAINER_NN_OPTIM_H
#define TRAINER_NN_OPTIM_H

#include "trainer/nn/net.h"

enum optim_kind { OPTIM_SGD, OPTIM_ADAM, OPTIM_ADAMW, OPTIM_MUON };

struct optim_config {
    enum optim_kind kind;
    float lr;           /* peak */
    float other_lr;     /* muon: of what is not a matrix */
    float momentum;     /* sgd, muon: 0 <= m < 1 */
    float beta1, beta2; /* adam, adamw, muon's rest: 0 <= beta < 1 */
    float eps;          /* > 0 */
    float weight_decay; /* >= 0 */
    float clip;         /* longest gradient, as one vector; 0: any */
};

/* Usual values of a kind: lr 0.1, 1e-3, 1e-3, 0.02; other_lr 3e-3; momentum
 * 0.9, muon 0.95; betas 0.9 and 0.95 (adam 0.999); eps 1e-8; decay 0, adamw and
 * muon 0.1 (muon 0.01); clip 1. */
struct optim_config optim_default(enum optim_kind kind);

/* "sgd", "adam", "adamw", "muon"; EINVAL names the unknown word. */
int optim_parse(const char *text, enum optim_kind *kind,
                struct infer_error *err);

/* EINVAL with a sentence, or 0. */
int optim_check(const struct optim_config *c, struct infer_error *err);

struct optim; /* opaque */

/*
 * net is borrowed and must live longer.
 * Errors  EINVAL (a setting out of range), ENOMEM
 */
int optim_create(struct optim **o, struct net *net,
                 const struct optim_config *config, struct infer_error *err);
void optim_free(struct optim *o);

/*
 * One step from net_grads(), which stay as they are, with lr_scale of the peak
 * learning rates (schedule.h). Returns the length of the gradient before
 * clipping; if that is not finite, nothing was changed.
 */
double optim_step(struct optim *o, float lr_scale);

/* What a checkpoint must hold: [n] values and the number of steps done. */
float *optim_state(struct optim *o, size_t *n);
uint64_t optim_n_steps(const struct optim *o);
void optim_set_n_steps(struct optim *o, uint64_t n);

/* ---- averaged parameters --------------------------------------------------
 */

/*
 * Exponential moving average of the parameters (Polyak & Juditsky 1992). Its
 * weight grows as (1 + n) / (10 + n) up to `decay`, so that the start fades.
 */
struct ema;

int ema_create(struct ema **e, struct net *net, float decay,
               struct infer_error *err);
void ema_free(struct ema *e);
/* The average is the parameters as they are now. */
void ema_restart(struct ema *e);
void ema_update(struct ema *e); /* after each step of the optimizer */

/* Exchange the average with the net's parameters, to evaluate or export; again
 * to go on. */
void ema_swap(struct ema *e);

/* For checkpoints. */
float *ema_values(struct ema *e); /* [net_n_values()] */
uint64_t ema_n_updates(const struct ema *e);
void ema_set_n_updates(struct ema *e, uint64_t n);

#endif
