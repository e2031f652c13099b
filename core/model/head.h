/*
 * head.h - what an encoder's file says about its results: pooling, classes.
 */
#ifndef INFER_MODEL_HEAD_H
#define INFER_MODEL_HEAD_H

#include "core/model/model.h"

/*
 * Read pooling, classes and n-grams of an encoder's metadata into m->head;
 * hyper-parameters are there already. n_classes is of the head's tensor, 0: no
 * head.
 * Errors  EFORMAT (names the key), ENOMEM
 */
int infer_head_read(struct infer_model *m, uint32_t n_classes,
                    struct infer_error *err);
void infer_head_release(struct infer_head *h);

/* Fill the encoder's part of m->info. */
void infer_head_info(struct infer_model *m);

#endif
