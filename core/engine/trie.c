/* trie.c - sort the vocabulary, then cut common beginnings off. */
#include "core/engine/trie.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const char *bytes;
    uint32_t len;
    int32_t id;
};

static int by_bytes(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    const uint32_t n = x->len < y->len ? x->len : y->len;
    const int order = memcmp(x->bytes, y->bytes, n);

    if (order != 0)
        return order;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The tokens to use; the total of their bytes bounds the nodes. */
static size_t collect(struct infer_trie *t, const struct infer_tokenizer *tok,
                      uint32_t n_vocab, struct entry *entries)
{
    size_t total = 0;

    for (uint32_t id = 0; id < n_vocab; id++) {
        size_t len;
        const char *bytes =
            infer_tokenizer_bytes(tok, (int32_t)id, false, &len);

        if (infer_tokenizer_is_eog(tok, (int32_t)id)) {
            t->eog[t->n_eog++] = (int32_t)id;
            continue;
        }
        if (bytes == NULL || len == 0 || len > INFER_TRIE_MAX_BYTES)
            continue;
        entries[t->n_ids++] = (struct entry){bytes, (uint32_t)len, (int32_t)id};
        total += len;
        if (len > t->longest)
            t->longest = (uint32_t)len;
        if (len == 1)
            t->single[(uint8_t)bytes[0]] = true;
    }
    return total;
}

static uint32_t common(const struct entry *a, const struct entry *b)
{
    uint32_t n = 0;

    while (n < a->len && n < b->len && a->bytes[n] == b->bytes[n])
        n++;
    return n;
}

static void build(struct infer_trie *t, const struct entry *entries)
{
    uint32_t open[INFER_TRIE_MAX_BYTES]; /* nodes on the way to the last */
    uint32_t depth = 0;

    for (uint32_t i = 0; i < t->n_ids; i++) {
        const struct entry *e = &entries[i];
        const uint32_t shared = i > 0 ? common(&entries[i - 1], e) : 0;

        t->ids[i] = e->id;
        while (depth > shared)
            t->nodes[open[--depth]].skip = t->n_nodes;
        while (depth < e->len) {
            open[depth] = t->n_nodes;
            t->nodes[t->n_nodes++] =
                (struct infer_trie_node){.token = i,
                                         .depth = (uint8_t)depth,
                                         .byte = (uint8_t)e->bytes[depth]};
            depth++;
        }
        if (t->nodes[open[depth - 1]].n_tokens < UINT16_MAX)
            t->nodes[open[depth - 1]].n_tokens++;
    }
    while (depth > 0)
        t->nodes[open[--depth]].skip = t->n_nodes;
}

int infer_trie_create(struct infer_trie *t, const struct infer_tokenizer *tok,
                      uint32_t n_vocab, struct infer_error *err)
{
    struct entry *entries = malloc(n_vocab * sizeof(*entries));
    int status = INFER_OK;
    size_t total = 0;

    memset(t, 0, sizeof(*t));
    t->ids = malloc(n_vocab * sizeof(*t->ids));
    t->eog = malloc(n_vocab * sizeof(*t->eog));
    if (entries != NULL && t->ids != NULL && t->eog != NULL) {
        total = collect(t, tok, n_vocab, entries);
        t->nodes = malloc((total + 1) * sizeof(*t->nodes));
    }
    if (t->nodes != NULL) {
        qsort(entries, t->n_ids, sizeof(*entries), by_bytes);
        build(t, entries);
    } else {
        infer_trie_release(t);
        status = infer_fail(err, INFER_ENOMEM,
                            "no memory for a tree of %u tokens", n_vocab);
    }
    free(entries);
    return status;
}

void infer_trie_release(struct infer_trie *t)
{
    free(t->nodes);
    free(t->ids);
    free(t->eog);
    memset(t, 0, sizeof(*t));
}
