/*
 * vocab.h - what the tokenizer families share: the pieces, what each stands
 * for, the special tokens, and growing lists of ids.
 *
 * Private to core/tokenizer. A vocabulary is filled once (vocab.c from GGUF
 * metadata, spm_file.c from a .model file), finished, and then only read.
 */
#ifndef INFER_TOKENIZER_VOCAB_H
#define INFER_TOKENIZER_VOCAB_H

#include "core/tokenizer/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    INFER_VOCAB_MAX_TOKENS = 1 << 21,
    /* SentencePiece recurses over pieces: 100 KB of one overflow its stack. */
    INFER_VOCAB_MAX_PIECE = 4096,
    INFER_VOCAB_EMPTY_NAME = 24, /* room for "[EMPTY_4294967295]" */
    INFER_TOKENIZE_MAX_BYTES = 64 << 20,
    /* A stretch of text that cannot be cut costs memory in proportion (some
     * hundred bytes a byte in SentencePiece). */
    INFER_TOKENIZE_MAX_RUN = 4 << 20
};

/* A growing list of ids; zero it to start. */
struct infer_ids {
    int32_t *data; /* [cap], malloc'd */
    size_t n, cap;
};

int infer_ids_push(struct infer_ids *ids, int32_t id); /* 0 or ENOMEM */

/* The same of spans. */
struct infer_spans {
    struct infer_span *data; /* [cap], malloc'd */
    size_t n, cap;
};

/* 0 or ENOMEM */
int infer_spans_push(struct infer_spans *spans, uint32_t begin, uint32_t end);

/* Strings → their index: open addressing over strings the caller keeps. */
struct infer_strs {
    struct infer_gguf_str *data; /* [cap] */
    uint32_t n, cap;
    uint32_t *slots; /* [mask + 1] index + 1; 0: empty */
    uint32_t mask;
};

int infer_strs_init(struct infer_strs *m, uint32_t cap); /* 0 or ENOMEM */
void infer_strs_release(struct infer_strs *m);
int32_t infer_strs_find(const struct infer_strs *m, const char *s, size_t len);
/* Append, at most cap strings; the index of an equal string if there is one. */
uint32_t infer_strs_add(struct infer_strs *m, const char *s, size_t len);

/* Special tokens of one length, so that one pass over a text finds them. */
struct infer_special_class {
    uint32_t len;      /* bytes */
    uint8_t first[32]; /* bitmap: bytes that one of them starts with */
    int only_first;    /* the byte, when all start with it; else -1 */
};

struct infer_specials {
    struct infer_special_class *classes; /* [n], longest first */
    size_t n;
};

enum infer_family { INFER_FAMILY_SPM, INFER_FAMILY_BPE, INFER_FAMILY_WPM };

struct infer_vocab {
    enum infer_family family;
    uint32_t n;
    uint8_t *types;               /* [n] an enum infer_token_type */
    float *scores;                /* [n] */
    uint8_t *eog;                 /* [n] ends a generation */
    struct infer_strs texts;      /* [n] as in the file */
    struct infer_gguf_str *bytes; /* [n] what each adds to a text */
    char *text_arena, *byte_arena;
    int32_t bos, eos, unk;          /* -1: none */
    int32_t sep;                    /* between the texts of a pair; -1: none */
    int32_t byte_ids[256];          /* SPM: token of a lone byte; -1: none */
    bool unigram;                   /* SPM: the likeliest pieces, not merges by
                                       score */
    bool add_bos, add_eos, add_sep; /* sep: at the end */
    size_t longest;                 /* bytes of the longest piece */
    bool add_space_prefix;          /* and its removal by decode */
    bool clean_spaces; /* decode drops the space in " ." and the like */
    struct infer_specials user;     /* found in any text */
    struct infer_specials specials; /* found when control text is parsed */
};

/* Room for n tokens with text_bytes of text in all. */
int infer_vocab_init(struct infer_vocab *v, uint32_t n, size_t text_bytes,
                     struct infer_error *err);
/* Append the next token; its text is copied. what names the source in errors.
 */
int infer_vocab_add(struct infer_vocab *v, const char *text, size_t len,
                    float score, uint32_t type, const char *what,
                    struct infer_error *err);
/* All tokens and ids are set: derive the rest. */
int infer_vocab_finish(struct infer_vocab *v, struct infer_error *err);
void infer_vocab_release(struct infer_vocab *v);

/* Fill from tokenizer.ggml.*; family, add_* and ids hold the defaults. */
int infer_vocab_load(struct infer_vocab *v, const struct infer_gguf *g,
                     struct infer_error *err);

/* The byte that stands behind a character of byte-level BPE; -1: none. And
 * back: the character of a byte, as UTF-8 in s[0..4); its length. */
int infer_bpe_byte(uint32_t cp);
size_t infer_bpe_char(char *s, unsigned char byte);

/* A stretch of text, or one special token found in it. */
struct infer_fragment {
    size_t start, len;
    int32_t id; /* -1: text */
};

/*
 * Cut text at special tokens as the reference does: longer ones first, from
 * the left. *frags is malloc'd.
 */
int infer_special_split(const struct infer_vocab *v, const char *text,
                        size_t len, bool parse_special,
                        struct infer_fragment **frags, size_t *n,
                        struct infer_error *err);
/*
 * Spans of ids[n], which a family that keeps the text made of text[0..len);
 * base is added. 0 or ENOMEM
 */
int infer_spans_align(const struct infer_vocab *v, const char *text, size_t len,
                      size_t base, const int32_t *ids, size_t n,
                      struct infer_spans *out);
/* The same of several parts, which text holds one after the other: control
 * tokens only within trusted ones. */
int infer_special_split_parts(const struct infer_vocab *v, const char *text,
                              const struct infer_part *parts, size_t n_parts,
                              struct infer_fragment **frags, size_t *n,
                              struct infer_error *err);
int infer_specials_init(struct infer_specials *s, const struct infer_vocab *v,
                        bool user_only);
void infer_specials_release(struct infer_specials *s);

#ifdef __cplusplus
}
#endif
#endif
