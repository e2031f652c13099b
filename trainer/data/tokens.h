/*
 * tokens.h - a corpus as token ids on disk, mapped when read, so that it may be
 * larger than memory.
 *
 *   file   ids (u16 for vocabularies up to 65536, else u32) | trailer
 */
#ifndef TRAINER_DATA_TOKENS_H
#define TRAINER_DATA_TOKENS_H

#include "core/format/replace.h"
#include "trainer/data/files.h"

struct train_token_writer {
    struct infer_replace file;
    uint32_t width; /* bytes of an id: 2 or 4 */
    uint32_t n_vocab;
    uint64_t n;
};

/* The file appears at commit. path is borrowed. Errors  EIO, ENOMEM */
int train_tokens_begin(struct train_token_writer *w, const char *path,
                       uint32_t n_vocab, struct infer_error *err);
int train_tokens_write(struct train_token_writer *w, const int32_t *ids,
                       size_t n, struct infer_error *err);
int train_tokens_commit(struct train_token_writer *w, uint64_t n_bytes,
                        struct infer_error *err);
void train_tokens_abort(struct train_token_writer *w);

struct train_tokens {
    struct train_map map;
    uint32_t width;
    uint64_t n;
    uint64_t n_bytes; /* of the text they stand for */
};

/* Errors  EIO, EFORMAT (not such a file, or of another vocabulary) */
int train_tokens_open(struct train_tokens *t, const char *path,
                      uint32_t n_vocab, struct infer_error *err);
void train_tokens_close(struct train_tokens *t);

/* ids[0..n) of the stream from `from`; all must be there. False: an id is
 * outside the vocabulary the file was made for (it was damaged). */
bool train_tokens_read(const struct train_tokens *t, uint64_t from, size_t n,
                       uint32_t n_vocab, int32_t *ids);

#endif
