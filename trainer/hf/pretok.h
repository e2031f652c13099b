/*
 * pretok.h - how a byte-level BPE cuts text into words: the names that GGUF
 * files use, and the regular expressions that tokenizer.json holds instead.
 * Private to the tokenizer's reader and writer.
 */
#ifndef TRAINER_HF_PRETOK_H
#define TRAINER_HF_PRETOK_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct hf_pretok {
    const char *pre;   /* tokenizer.ggml.pre */
    const char *split; /* the regular expression; NULL: ByteLevel's own */
    bool digits;       /* each digit is a word */
    bool ignore_merges;
    bool nfc;
};

/* NULL: unknown */
const struct hf_pretok *hf_pretok_find(const char *pre, size_t len);

/* By a tokenizer.json; NULL: none of ours, and *why says what differs. */
const struct hf_pretok *hf_pretok_match(const cJSON *tokenizer,
                                        const char **why);

/* The "pre_tokenizer" of a tokenizer.json. */
cJSON *hf_pretok_json(const struct hf_pretok *p);

#endif
