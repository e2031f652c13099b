/*
 * trie.h - the vocabulary as a tree of bytes, in the order of a walk.
 *
 * A walk that goes through the nodes one by one, and jumps to `skip` where the
 * byte is refused, meets each token whose bytes are accepted; tokens with a
 * common beginning share its cost.
 */
#ifndef INFER_ENGINE_TRIE_H
#define INFER_ENGINE_TRIE_H

#include "core/tokenizer/tokenizer.h"

/* Longer tokens are left out: runs of spaces, mostly. */
enum { INFER_TRIE_MAX_BYTES = 64 };

struct infer_trie_node {
    uint32_t skip;  /* the node after all those below this one */
    uint32_t token; /* the first in ids of those that end here */
    uint16_t n_tokens;
    uint8_t depth; /* bytes before this one's */
    uint8_t byte;
};

struct infer_trie {
    struct infer_trie_node *nodes; /* [n_nodes] */
    int32_t *ids;                  /* [n_ids] by their bytes */
    uint32_t n_nodes, n_ids;
    uint32_t longest; /* bytes of a token */
    bool single[256]; /* there is a token of just this byte */
    int32_t *eog;     /* [n_eog] tokens that end a text */
    uint32_t n_eog;
};

/* Tokens that stand for bytes and do not end a text. Errors  ENOMEM */
int infer_trie_create(struct infer_trie *t, const struct infer_tokenizer *tok,
                      uint32_t n_vocab, struct infer_error *err);
void infer_trie_release(struct infer_trie *t);

#endif
