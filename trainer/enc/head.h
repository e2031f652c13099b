/* head.h - from an encoder's vectors to the outputs of a classifier. */
#ifndef TRAINER_ENC_HEAD_H
#define TRAINER_ENC_HEAD_H

#include "trainer/nn/net.h"

struct enc_head {
    struct net *net;       /* borrowed */
    float *hidden, *dback; /* [max_batch][D], with a hidden layer */
};

/* The net must have classes. Zero *h first. Errors  ENOMEM */
int enc_head_create(struct enc_head *h, struct net *net, size_t max_batch,
                    struct infer_error *err);
void enc_head_release(struct enc_head *h);

/* The hidden layer begins as the identity, so that it costs nothing. */
void enc_head_init(struct net *net);

/* logits [n][C] of vectors [n][D] */
void enc_head_forward(struct enc_head *h, const float *vectors, size_t n,
                      float *logits);

/* After it: gradients of the head's parameters grow by those of dlogits [n][C];
 * dvectors [n][D] is set. */
void enc_head_back(struct enc_head *h, const float *vectors, size_t n,
                   const float *dlogits, float *dvectors);

/* Outputs times a, plus b. */
void enc_head_scale(struct enc_head *h, double a, double b);

#endif
