/*
 * matcher.h - which tokens may follow, by a grammar.
 *
 * A grammar is run as an automaton over bytes with a stack. Where it is
 * ambiguous, several stacks are followed at once; such a set of them is a
 * state. States are found again by content, and remember where each byte leads
 * and which tokens are allowed, so most tokens cost a look-up.
 *
 * All of it lives in arenas of fixed size. When one is full, they are emptied;
 * a text's state is then found again from its tokens. What is allowed is a
 * function of the grammar and the text alone, whatever was cached.
 */
#ifndef INFER_ENGINE_MATCHER_H
#define INFER_ENGINE_MATCHER_H

#include "core/engine/grammar.h"
#include "core/engine/trie.h"

struct infer_matcher; /* opaque; one thread */

/*
 *   n_live  masks that must stay valid at the same time, at most
 * Cost    about 18 MiB, the tree of the vocabulary, and n_live + 256 masks of
 *         a bit per token
 */
int infer_matcher_create(struct infer_matcher **m,
                         const struct infer_tokenizer *tok, uint32_t n_vocab,
                         uint32_t n_live, struct infer_error *err);
void infer_matcher_free(struct infer_matcher *m);

/* Whether texts can be written at all: each character of ASCII needs a token.
 * Errors  EUNSUPPORTED */
int infer_matcher_check(const struct infer_matcher *m, struct infer_error *err);

/* Where a text stands in its grammar. Zero but for the grammar: at the start.
 */
struct infer_match {
    const struct infer_grammar *grammar;
    uint64_t epoch; /* of the matcher, in which state is valid */
    uint32_t state;
    uint32_t n_tokens; /* that state comes after */
    bool complete;     /* the text may end here */
    bool final;        /* nothing may follow */
};

/*
 * Tokens allowed next, a bit for each; those that end a text when it is
 * complete. Valid until n_live more masks were asked for.
 *
 *   tokens  [n]  the text so far, all allowed before
 */
const uint64_t *infer_matcher_mask(struct infer_matcher *m,
                                   struct infer_match *match,
                                   const int32_t *tokens, uint32_t n);

/* Take the text's last token, n being the count with it. */
void infer_matcher_take(struct infer_matcher *m, struct infer_match *match,
                        const int32_t *tokens, uint32_t n);

#endif
