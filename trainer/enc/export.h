/* export.h - an encoder as a GGUF file (docs/model-format.md), and back. */
#ifndef TRAINER_ENC_EXPORT_H
#define TRAINER_ENC_EXPORT_H

#include "trainer/enc/model.h"
#include "trainer/run/export.h"

/* RUN/FILE with RUN's vocabulary; keys adds the task's (or NULL).
 * Errors  as train_export() */
int enc_export(struct enc_model *m, const char *run, const char *file,
               train_export_fn *keys, void *user, struct infer_error *err);

/*
 * Take the parameters of a file that the model has too, by name and shape (a
 * classifier's head stays as it is unless it has the same classes). The layers
 * of a decoder ("llama") fit as well.
 * Errors  EIO, EFORMAT; EINVAL (nothing fits: the message says what differs)
 */
int enc_import(struct enc_model *m, const char *path, struct infer_error *err);

/* A whole encoder from its file; zero *m first. Errors  EIO, EFORMAT, ENOMEM */
int enc_load(struct enc_model *m, const char *path, size_t max_batch,
             struct infer_team *team, struct infer_error *err);

#endif
