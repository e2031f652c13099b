/*
 * grammar.h - the inside of struct infer_grammar, for the matcher.
 *
 * Items are numbered from 1; an item's parts have any numbers. What infer.h
 * calls a part is an item here.
 */
#ifndef INFER_ENGINE_GRAMMAR_H
#define INFER_ENGINE_GRAMMAR_H

#include "infer.h"

enum {
    INFER_GRAMMAR_MAX_ITEMS = (1 << 17) - 1,
    INFER_GRAMMAR_MAX_PARTS = 1 << 19,
    INFER_GRAMMAR_MAX_TEXT = 1 << 20,
    INFER_GRAMMAR_MAX_RULES = 4096,
    /* Rows of a stack: what is begun and not ended, one inside the other. */
    INFER_GRAMMAR_MAX_DEPTH = 256,
    /* Items inside one another before the first byte. */
    INFER_GRAMMAR_MAX_CHAIN = 4096
};

enum infer_item_kind {
    INFER_ITEM_NONE,
    INFER_ITEM_BYTES,    /* a: set */
    INFER_ITEM_TEXT,     /* a: start in text; n: length, >= 1 */
    INFER_ITEM_SEQUENCE, /* a: start in parts; n: count */
    INFER_ITEM_CHOICE,   /* the same */
    INFER_ITEM_REPEAT,   /* a: item; b: least; n: most, UINT32_MAX: no end */
    INFER_ITEM_RULE      /* a: item; 0: not yet defined */
};

struct infer_item {
    uint8_t kind;
    bool nullable; /* may stand for no bytes */
    uint16_t need; /* further stack rows that its end takes at least */
    uint32_t a, b, n;
};

struct infer_set {
    uint8_t bits[32];
};

struct infer_grammar {
    uint64_t uid;             /* never used twice in a process */
    struct infer_item *items; /* [n_items], the first is not used */
    uint32_t *parts;          /* [n_parts] */
    char *text;               /* [n_text] */
    struct infer_set *sets;   /* [n_sets] */
    uint32_t *set_slots; /* [n_slots] a set's number + 1, by hash; 0: free */
    uint32_t n_slots;    /* a power of two */
    uint32_t n_items, n_parts, n_text, n_sets, n_rules;
    uint32_t cap_items, cap_parts, cap_text, cap_sets;
    uint32_t start;
    int failed; /* a status: what follows is dropped */
    bool finished;
};

static inline bool infer_set_has(const struct infer_set *s, uint8_t byte)
{
    return s->bits[byte / 8] >> byte % 8 & 1;
}

#endif
