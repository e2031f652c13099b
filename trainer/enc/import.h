/*
 * import.h - encoders from GGUF files: our own, and those of BERT's family as
 * llama.cpp stores them ("bert").
 */
#ifndef TRAINER_ENC_IMPORT_H
#define TRAINER_ENC_IMPORT_H

#include "core/format/gguf.h"
#include "trainer/enc/model.h"

/*
 * Take the parameters of a file that the model has too, by name and shape (a
 * classifier's head stays as it is unless it has the same classes). The layers
 * of a decoder ("llama") fit our own encoder as well.
 * Errors  EIO, EFORMAT; EINVAL (nothing fits: the message says what differs)
 */
int enc_import(struct enc_model *m, const char *path, struct infer_error *err);

/*
 * The shape of a BERT's file, with its head. Returns 1 for another kind of file
 * or one that cannot be opened, which whoever reads it will say.
 * Errors  EFORMAT
 */
int enc_import_bert(const char *path, struct net_shape *shape,
                    struct infer_error *err);

/* All but the head must be in the file. Errors  EIO, EFORMAT */
int enc_import_whole(struct enc_model *m, const char *path,
                     struct infer_error *err);

/* A whole encoder from its file; zero *m first. Errors  EIO, EFORMAT, ENOMEM */
int enc_load(struct enc_model *m, const char *path, size_t max_batch,
             struct infer_team *team, struct infer_error *err);

/* The key of the names of a classifier's classes, and they. Errors  EFORMAT (it
 * has none) */
const char *enc_labels_key(const struct infer_gguf *g);
int enc_import_labels(const struct infer_gguf *g, struct infer_gguf_array *a,
                      struct infer_error *err);

#endif
