/* embed_loss.h - the losses of embedders, over vectors cut to each dimension,
 * and their gradients. */
#ifndef TRAINER_ENC_EMBED_LOSS_H
#define TRAINER_ENC_EMBED_LOSS_H

#include "trainer/gemm/gemm.h"

struct enc_embed_loss {
    float *dv;     /* [max][D] the result: d(loss)/d(vectors) */
    float *u, *du; /* [max][d] unit vectors of one dimension, and gradient */
    float *length; /* [max] */
    float *s, *ds; /* [max][max] similarities */
    float *cosines, *work; /* [max] */
    size_t width, n_dims;
    const size_t *dims; /* [n_dims], borrowed */
    const struct train_gemm_ctx *gemm;
};

int enc_embed_loss_create(struct enc_embed_loss *l, size_t max, size_t width,
                          const size_t *dims, size_t n_dims,
                          const struct train_gemm_ctx *gemm,
                          struct infer_error *err);
void enc_embed_loss_release(struct enc_embed_loss *l);

/*
 * InfoNCE of vectors v [n][D]: each text of a group (group [n] >= 0) is to find
 * each other text of its group among all of other groups and all negatives
 * (-1). Returns the mean over texts and their partners; dv is set.
 */
double enc_embed_contrast(struct enc_embed_loss *l, const float *v,
                          const int32_t *group, size_t n, float temperature);

/* Scored pairs, vectors 2 i and 2 i + 1: the loss of their order divided by n,
 * or the squared difference of cosine and score / 5. dv is set. */
double enc_embed_order(struct enc_embed_loss *l, const float *v,
                       const float *scores, size_t n, float temperature,
                       bool squares);

#endif
