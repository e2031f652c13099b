/*
 * bpe.h - byte-level BPE: merges by rank within pre-tokenized words.
 *
 * Private to core/tokenizer. Read-only after creation, any thread may encode.
 */
#ifndef INFER_TOKENIZER_BPE_H
#define INFER_TOKENIZER_BPE_H

#include "core/tokenizer/pretok.h"

struct infer_bpe; /* opaque */

/* From tokenizer.ggml.merges of g, for the finished vocabulary v. */
int infer_bpe_create(struct infer_bpe **bpe, const struct infer_vocab *v,
                     const struct infer_pretok_rule *rule,
                     const struct infer_gguf *g, struct infer_error *err);
void infer_bpe_free(struct infer_bpe *bpe);

/* Append the ids of a text; bytes that are not UTF-8 count as U+FFFD. */
int infer_bpe_encode(const struct infer_bpe *bpe, const char *text, size_t len,
                     struct infer_ids *out, struct infer_error *err);

#endif
