/*
 * init.h - a run that goes on from a model that is there, instead of from
 * random parameters: its shape, its vocabulary, its values.
 *
 * The model is a GGUF file of any types, or a Hugging Face checkpoint. The run
 * keeps a copy in F32, RUN/init.gguf, and needs the original no more.
 */
#ifndef TRAINER_RUN_INIT_H
#define TRAINER_RUN_INIT_H

#include "trainer/nn/net.h"
#include "trainer/run/lm.h"

/*
 * Fill in what o leaves open with what the model is; of a run that is resumed,
 * what its copy is.
 * Errors  EINVAL (an option says otherwise, and is named), EUNSUPPORTED (the
 *         model cannot be trained), those of the file
 */
int train_init_shape(struct train_lm *o, struct infer_error *err);

/* Make the copy in the run's folder. Errors  those of the file, EIO */
int train_init_copy(const struct train_lm *o, struct infer_error *err);

/* Its values into a net. Errors  EFORMAT (a tensor is missing or of another
 * shape), EIO, ENOMEM */
int train_init_load(struct net *net, const char *run, struct infer_error *err);

#endif
