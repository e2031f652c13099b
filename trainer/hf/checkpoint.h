/*
 * checkpoint.h - the tensors of a checkpoint, whether it is one file or, by
 * model.safetensors.index.json, several.
 */
#ifndef TRAINER_HF_CHECKPOINT_H
#define TRAINER_HF_CHECKPOINT_H

#include "core/format/safetensors.h"

struct hf_checkpoint {
    char *folder; /* where config.json and the tokenizer are */
    struct infer_safetensors **files; /* [n_files] */
    size_t n_files;
};

/* Is the path a folder, or a file of weights by its name? */
bool hf_checkpoint_is_folder(const char *path);
bool hf_checkpoint_is(const char *path);

/*
 *   path  a folder with model.safetensors or the index, or one such file
 * Errors  EIO, EFORMAT (also: a tensor is in two files, or not where the index
 *         says), EUNSUPPORTED, ENOMEM
 */
int hf_checkpoint_open(struct hf_checkpoint *c, const char *path,
                       struct infer_error *err);
void hf_checkpoint_close(struct hf_checkpoint *c);

/* NULL: absent. */
const struct infer_st_tensor *hf_checkpoint_find(const struct hf_checkpoint *c,
                                                 const char *name);
size_t hf_checkpoint_n(const struct hf_checkpoint *c);
const struct infer_st_tensor *
hf_checkpoint_tensor(const struct hf_checkpoint *c, size_t i);

#endif
