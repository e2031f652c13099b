/*
 * matcher_parts.h - what the files of the matcher share.
 *
 *   matcher.c       arenas, stacks, states, steps
 *   matcher_mask.c  which tokens a state allows
 */
#ifndef INFER_ENGINE_MATCHER_PARTS_H
#define INFER_ENGINE_MATCHER_PARTS_H

#include "core/engine/matcher.h"

enum {
    MAX_ROWS = 1 << 17,
    MAX_STATES = 1 << 15,
    MAX_POSITIONS = 1 << 18,
    MAX_TABLES = 2048,
    MAX_GRAMMARS = 1024,
    /* Of one state; what was found later is dropped: the text is then held to
     * the earlier readings, any of which can end. */
    STATE_POSITIONS = 512,
    /* Steps without a byte from one state to the next; the first reading takes
     * INFER_GRAMMAR_MAX_CHAIN of them for each row, at most. */
    MAX_WORK = 1 << 14,
    SPARE_MASKS = 256,
    SAVED = 1 << 16, /* rows kept when the arenas are emptied */
    DEAD = 0
};
#define NOTHING UINT32_MAX /* no such row, state, table or mask */

/* item: part of the low bits; the grammar's slot is above them. */
struct row {
    uint32_t slot, item, k, below;
    uint32_t rounded; /* this stack with rounded counts */
    uint32_t chain;   /* next with the same hash */
    uint16_t depth;
};

struct position {
    uint32_t item, k, row;
};

struct state {
    uint32_t first; /* in positions */
    uint16_t n;
    bool complete;
    uint32_t slot;
    uint32_t rounded; /* NOTHING: not yet known */
    uint32_t table;   /* NOTHING: none */
    uint32_t mask;    /* NOTHING: none */
    uint32_t chain;
};

struct work {
    uint32_t item, k, row; /* item 0: come back to row */
};

struct infer_matcher {
    const struct infer_tokenizer *tok;
    struct infer_trie trie;
    uint32_t mask_words, n_masks, n_live, next_mask;
    uint64_t *masks;      /* [n_masks][mask_words] */
    uint32_t *mask_owner; /* [n_masks] state, or NOTHING */
    uint64_t epoch;
    bool full; /* an arena had no room; the result is DEAD */

    const struct infer_grammar *grammars[MAX_GRAMMARS];
    uint64_t uids[MAX_GRAMMARS];
    uint32_t n_grammars;
    struct row *rows; /* [MAX_ROWS], 0 is the bottom */
    uint32_t *row_heads;
    struct state *states; /* [MAX_STATES], 0 is DEAD */
    uint32_t *state_heads;
    struct position *positions; /* [MAX_POSITIONS] */
    uint32_t (*tables)[256];    /* [MAX_TABLES]; NOTHING: not yet known */
    uint32_t n_rows, n_states, n_positions, n_tables;

    /* scratch of one step */
    struct work *work; /* [MAX_WORK + parts of a choice] */
    struct work *seen; /* [2 * MAX_WORK] */
    uint32_t *seen_at; /* [2 * MAX_WORK] stamp */
    uint32_t stamp, n_work, n_seen;
    struct position found[STATE_POSITIONS];
    uint32_t n_found;
    bool complete;
    struct position *saved_rows; /* [SAVED] item, k of rows, row: position */
    struct position saved[STATE_POSITIONS];
};

/* A state in the making: begin, find its positions, intern. The state is DEAD
 * if it has none and is not complete, or if the arenas are full. */
void infer_matcher_begin(struct infer_matcher *m);
void infer_matcher_find(struct infer_matcher *m, uint32_t item, uint32_t k,
                        uint32_t row);
uint32_t infer_matcher_intern(struct infer_matcher *m, uint32_t slot);

/* Where a byte leads. remember: also for the next time. */
uint32_t infer_matcher_step(struct infer_matcher *m, uint32_t from,
                            uint8_t byte, bool remember);

/* Find the state after the first n tokens, from the beginning if need be. */
void infer_matcher_sync(struct infer_matcher *m, struct infer_match *match,
                        const int32_t *tokens, uint32_t n);

/* Empty the arenas but for one state, whose new number is returned. */
uint32_t infer_matcher_keep(struct infer_matcher *m, uint32_t from);

#endif
