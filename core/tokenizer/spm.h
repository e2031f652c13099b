/*
 * spm.h - SentencePiece behind a C face; spm.cc is the only C++ of the tree.
 *
 * Private to core/tokenizer. Read-only after creation, any thread may encode.
 */
#ifndef INFER_TOKENIZER_SPM_H
#define INFER_TOKENIZER_SPM_H

#include "core/tokenizer/vocab.h"

#ifdef __cplusplus
extern "C" {
#endif

struct infer_spm; /* opaque */

/* What a .model file says beyond its pieces. */
struct infer_spm_file {
    const char *data; /* the serialised ModelProto */
    size_t size;
    bool plain; /* BPE that leaves the text as it is: the vocabulary suffices */
    bool normalizes; /* it changes texts before it encodes them */
};

/*
 * A processor for the vocabulary; file NULL or plain: built from the
 * vocabulary alone, else from the file's own proto with its normaliser.
 */
int infer_spm_create(struct infer_spm **spm, const struct infer_vocab *v,
                     const struct infer_spm_file *file,
                     struct infer_error *err);
void infer_spm_free(struct infer_spm *spm);

/* Append the ids of a text; prefix: as if a space stood before it. */
int infer_spm_encode(const struct infer_spm *spm, const struct infer_vocab *v,
                     const char *text, size_t len, bool prefix,
                     struct infer_ids *out, struct infer_error *err);

/* Read a .model file's pieces and ids into v (spm_file.c). *data, which
 * file->data points to, is malloc'd. */
int infer_spm_file_load(struct infer_vocab *v, struct infer_spm_file *file,
                        char **data, const char *path, struct infer_error *err);

/*
 * Write such a file for a vocabulary of this family (spm_write.c), atomically.
 * Errors  EIO, EUNSUPPORTED (not exactly one unknown piece), ENOMEM
 */
int infer_spm_file_save(const struct infer_vocab *v, const char *path,
                        struct infer_error *err);

#ifdef __cplusplus
}
#endif
#endif
