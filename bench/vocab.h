/*
 * vocab.h - the tokenizer that a made-up model carries, as GGUF metadata.
 *
 * Either copied from a file, or invented: a vocabulary of any size that is
 * complete (every byte string encodes) and that the usual engines accept.
 */
#ifndef BENCH_VOCAB_H
#define BENCH_VOCAB_H

#include "core/format/gguf.h"

enum { BENCH_VOCAB_MIN = 300, BENCH_VOCAB_MAX = 400000 };

/* SentencePiece ("llama"): <unk>, <s>, </s>, 256 bytes, then made-up words. */
int bench_vocab_spm(struct infer_gguf_writer *w, uint32_t n,
                    struct infer_error *err);

/* Byte-level BPE ("gpt2"): 256 bytes, merges of two and three letters, an
 * end-of-text token. */
int bench_vocab_bpe(struct infer_gguf_writer *w, uint32_t n,
                    struct infer_error *err);

/* WordPiece ("bert"): five special tokens, words, single letters within words.
 */
int bench_vocab_wpm(struct infer_gguf_writer *w, uint32_t n,
                    struct infer_error *err);

/* The tokenizer.* keys of a file, as they are; *n is its number of tokens.
 * Errors  EIO, EFORMAT, ENOMEM */
int bench_vocab_copy(struct infer_gguf_writer *w, const char *path, uint32_t *n,
                     struct infer_error *err);

#endif
