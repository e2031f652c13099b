/*
 * tokenizer.h - text to token ids and back, by the vocabulary in a GGUF file.
 *
 * Three families behind one face, chosen by tokenizer.ggml.model: "llama" and
 * "t5" (SentencePiece's bpe and unigram), "gpt2" (byte-level BPE), "bert"
 * (WordPiece). A tokenizer is read-only after creation: any number of threads
 * may use it.
 */
#ifndef INFER_TOKENIZER_H
#define INFER_TOKENIZER_H

#include "core/format/gguf.h"

struct infer_tokenizer; /* opaque */

/* Token classes of tokenizer.ggml.token_type. */
enum infer_token_type {
    INFER_TOKEN_NORMAL = 1,
    INFER_TOKEN_UNKNOWN = 2,
    INFER_TOKEN_CONTROL = 3,
    INFER_TOKEN_USER = 4,
    INFER_TOKEN_UNUSED = 5,
    INFER_TOKEN_BYTE = 6
};

/*
 * Build from a file's tokenizer.ggml.* keys; everything is copied, g may be
 * closed afterwards.
 * Errors  EFORMAT (names the key), EUNSUPPORTED (model or pre-tokenizer),
 * ENOMEM
 */
int infer_tokenizer_create(struct infer_tokenizer **t,
                           const struct infer_gguf *g, struct infer_error *err);

/* The same from a SentencePiece .model file. */
int infer_tokenizer_load_spm(struct infer_tokenizer **t, const char *path,
                             struct infer_error *err);
void infer_tokenizer_free(struct infer_tokenizer *t);

uint32_t infer_tokenizer_n_vocab(const struct infer_tokenizer *t);
int32_t infer_tokenizer_bos(const struct infer_tokenizer *t); /* -1: none */
int32_t infer_tokenizer_eos(const struct infer_tokenizer *t);
/* Special tokens around a text, in order: one before it, two behind; -1: none.
 */
void infer_tokenizer_around(const struct infer_tokenizer *t, int32_t ids[3]);
/* What stands between the texts of a pair; -1: none. */
int32_t infer_tokenizer_sep(const struct infer_tokenizer *t);
bool infer_tokenizer_is_eog(const struct infer_tokenizer *t, int32_t id);

/* See infer_tokenize(), infer_detokenize(), infer_token_bytes() in infer.h. */
int infer_tokenizer_encode(const struct infer_tokenizer *t, const char *text,
                           size_t len, bool add_special, bool parse_special,
                           struct infer_tokens *out, struct infer_error *err);
int infer_tokenizer_encode_spans(const struct infer_tokenizer *t,
                                 const char *text, size_t len, bool add_special,
                                 bool parse_special, struct infer_tokens *out,
                                 struct infer_span **spans,
                                 struct infer_error *err);
int infer_tokenizer_encode_parts(const struct infer_tokenizer *t,
                                 const struct infer_part *parts, size_t n_parts,
                                 bool bos, struct infer_tokens *out,
                                 struct infer_error *err);
int infer_tokenizer_decode(const struct infer_tokenizer *t, const int32_t *ids,
                           size_t n, bool show_special, char **text,
                           size_t *len, struct infer_error *err);
const char *infer_tokenizer_bytes(const struct infer_tokenizer *t, int32_t id,
                                  bool show_special, size_t *len);

/*
 * Streaming decode: feed ids one at a time, get the bytes each adds to the
 * text; the concatenation equals infer_tokenizer_decode() of all ids (so the
 * first SentencePiece word loses its leading space when the file says so, and
 * only then). One thing the stream leaves out: vocabularies of the gpt-2 kind
 * are decoded as a whole with a clean-up (" ." becomes ".", as the reference
 * does), which would change text already sent and spoil code; their stream is
 * the plain bytes, as the reference's own token by token output.
 * Bytes may end inside a UTF-8 character: infer_utf8_complete().
 */
struct infer_decoder {
    const struct infer_tokenizer *tokenizer;
    bool started; /* a token that stands for something was fed */
};

void infer_decoder_init(struct infer_decoder *d,
                        const struct infer_tokenizer *t);
/* Borrowed from the tokenizer. NULL: an id outside the vocabulary. */
const char *infer_decoder_feed(struct infer_decoder *d, int32_t id,
                               size_t *len);

#endif
