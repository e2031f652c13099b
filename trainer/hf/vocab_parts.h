/* vocab_parts.h - a vocabulary on its way into a GGUF file; private to the
 * readers of tokenizers. */
#ifndef TRAINER_HF_VOCAB_PARTS_H
#define TRAINER_HF_VOCAB_PARTS_H

#include "trainer/hf/json.h"
#include "trainer/hf/vocab.h"

#include "core/tokenizer/tokenizer.h"

/* Strings, each malloc'd; data NULL: none yet. */
struct hf_strings {
    struct infer_gguf_str *items; /* [cap] */
    size_t n, cap;
};

struct hf_vocab {
    const struct hf_config *config;
    const char *folder;
    struct infer_error *err;

    const char *model, *pre;  /* tokenizer.ggml.model and .pre */
    struct hf_strings tokens; /* [n_vocab] by id */
    float *scores;            /* [n_vocab] */
    int32_t *types;           /* [n_vocab] an enum infer_token_type */
    struct hf_strings merges; /* "left right", by rank */
    int32_t unk, bos, eos;    /* -1: none, or config.json's */
    int32_t sep, pad, mask;   /* WordPiece; bos is [CLS] */
    bool add_bos, add_eos, add_space;
};

/* Token id is text [len], any bytes; it must be inside and no other. */
int hf_vocab_put(struct hf_vocab *v, double id, const char *text, size_t len,
                 float score, enum infer_token_type type);
int hf_vocab_merge(struct hf_vocab *v, const char *left, const char *right);
int32_t hf_vocab_find(const struct hf_vocab *v, const char *text);

/* vocab_json.c: a whole tokenizer.json. */
int hf_vocab_read_json(struct hf_vocab *v, const cJSON *root);
/* A vocabulary as an object from token to id, all normal. */
int hf_vocab_read_ids(struct hf_vocab *v, const cJSON *vocab);

/* vocab_wordpiece.c: BERT's tokenizer.json or vocab.txt, and its keys. */
int hf_vocab_read_wordpiece(struct hf_vocab *v);
void hf_vocab_set_wordpiece(const struct hf_vocab *v,
                            struct infer_gguf_writer *w);

/* vocab_spm.c: merges by rank to SentencePiece's scores. */
int hf_vocab_scores(struct hf_vocab *v);

#endif
