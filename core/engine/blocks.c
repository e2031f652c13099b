/*
 * blocks.c - reference counts, free list, LRU and content index of KV blocks.
 *
 * Everything is an array indexed by block number, sized once; lists are linked
 * by number. The content index is a chained hash table of heads with as many
 * slots as blocks, rounded up to a power of two.
 *
 * Chains are serial numbers instead of hashes of hashes: a block stores the
 * serial of the block before it, and equality of (scope, previous serial, 16
 * ids) is by induction equality of the whole prefix. When a block is forgotten
 * while blocks that continue it are still registered, these can no longer be
 * found (no new block gets the old serial) and age out of the LRU.
 */
#include "core/engine/blocks.h"

#include "core/base/error.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NIL = -1 };

struct block {
    uint64_t serial; /* 0: not registered */
    uint64_t parent; /* chain it continues */
    uint64_t scope;
    uint32_t n_refs;
    int32_t slot_next;  /* in the hash slot; or in the free list */
    int32_t prev, next; /* in the LRU, when idle */
    int32_t ids[INFER_KV_BLOCK];
};

struct infer_blocks {
    uint32_t n;
    uint32_t mask;     /* slots - 1 */
    uint32_t n_unused; /* free and idle */
    int32_t free_head;
    int32_t lru_old, lru_new; /* idle blocks */
    uint64_t last_serial;
    int32_t *slots;      /* [mask + 1] */
    struct block *block; /* [n] */
};

static uint32_t slots_for(uint32_t n_blocks)
{
    uint32_t n = 1;

    while (n < n_blocks && n < 1u << 30)
        n *= 2;
    return n;
}

uint64_t infer_blocks_bytes(uint32_t n_blocks)
{
    return sizeof(struct infer_blocks) +
           (uint64_t)n_blocks * sizeof(struct block) +
           (uint64_t)slots_for(n_blocks) * sizeof(int32_t);
}

int infer_blocks_create(struct infer_blocks **out, uint32_t n_blocks,
                        struct infer_error *err)
{
    struct infer_blocks *b;

    if (n_blocks == 0 || n_blocks > INT32_MAX)
        return infer_fail(err, INFER_EINVAL, "cannot manage %u KV blocks",
                          n_blocks);
    b = calloc(1, sizeof(*b));
    if (b == NULL)
        goto nomem;
    b->n = b->n_unused = n_blocks;
    b->mask = slots_for(n_blocks) - 1;
    b->block = calloc(n_blocks, sizeof(*b->block));
    b->slots = malloc((b->mask + 1) * sizeof(*b->slots));
    if (b->block == NULL || b->slots == NULL)
        goto nomem;
    for (uint32_t i = 0; i <= b->mask; i++)
        b->slots[i] = NIL;
    for (uint32_t i = 0; i < n_blocks; i++)
        b->block[i].slot_next = i + 1 < n_blocks ? (int32_t)(i + 1) : NIL;
    b->free_head = 0;
    b->lru_old = b->lru_new = NIL;
    *out = b;
    return INFER_OK;

nomem:
    infer_blocks_free(b);
    return infer_fail(err, INFER_ENOMEM, "no memory for %u KV blocks",
                      n_blocks);
}

void infer_blocks_free(struct infer_blocks *b)
{
    if (b == NULL)
        return;
    free(b->slots);
    free(b->block);
    free(b);
}

uint32_t infer_blocks_total(const struct infer_blocks *b)
{
    return b->n;
}

uint32_t infer_blocks_available(const struct infer_blocks *b)
{
    return b->n_unused;
}

/* ---- LRU of idle blocks ------------------------------------------------- */

static void lru_append(struct infer_blocks *b, int32_t i)
{
    b->block[i].prev = b->lru_new;
    b->block[i].next = NIL;
    if (b->lru_new == NIL)
        b->lru_old = i;
    else
        b->block[b->lru_new].next = i;
    b->lru_new = i;
}

static void lru_remove(struct infer_blocks *b, int32_t i)
{
    const struct block *x = &b->block[i];

    if (x->prev == NIL)
        b->lru_old = x->next;
    else
        b->block[x->prev].next = x->next;
    if (x->next == NIL)
        b->lru_new = x->prev;
    else
        b->block[x->next].prev = x->prev;
}

/* ---- content index ------------------------------------------------------ */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static int32_t *slot_of(struct infer_blocks *b, uint64_t scope, uint64_t parent,
                        const int32_t *ids)
{
    uint64_t h = mix(mix(0x243f6a8885a308d3u, scope), parent);

    for (int i = 0; i < INFER_KV_BLOCK; i += 2)
        h = mix(h, (uint64_t)(uint32_t)ids[i] << 32 | (uint32_t)ids[i + 1]);
    return &b->slots[(h ^ h >> 32) & b->mask];
}

static int32_t find(const struct infer_blocks *b, const int32_t *slot,
                    uint64_t scope, uint64_t parent, const int32_t *ids)
{
    int32_t i = *slot;

    while (i != NIL) {
        const struct block *x = &b->block[i];

        if (x->parent == parent && x->scope == scope &&
            memcmp(x->ids, ids, sizeof(x->ids)) == 0)
            break;
        i = x->slot_next;
    }
    return i;
}

static void forget(struct infer_blocks *b, int32_t i)
{
    struct block *x = &b->block[i];
    int32_t *link = slot_of(b, x->scope, x->parent, x->ids);

    while (*link != i)
        link = &b->block[*link].slot_next;
    *link = x->slot_next;
    x->serial = 0;
}

/* ---- references --------------------------------------------------------- */

int64_t infer_blocks_take(struct infer_blocks *b)
{
    int32_t i = b->free_head;

    if (i != NIL) {
        b->free_head = b->block[i].slot_next;
    } else if (b->lru_old != NIL) {
        i = b->lru_old;
        lru_remove(b, i);
        forget(b, i);
    } else {
        return INFER_NO_BLOCK;
    }
    b->block[i].n_refs = 1;
    b->n_unused--;
    return i;
}

void infer_blocks_release(struct infer_blocks *b, uint32_t block)
{
    struct block *x = &b->block[block];

    assert(block < b->n && x->n_refs > 0);
    if (--x->n_refs > 0)
        return;
    b->n_unused++;
    if (x->serial != 0) {
        lru_append(b, (int32_t)block);
    } else {
        x->slot_next = b->free_head;
        b->free_head = (int32_t)block;
    }
}

uint32_t infer_blocks_lookup(struct infer_blocks *b, uint64_t scope,
                             const int32_t *ids, uint32_t n_max,
                             uint32_t *blocks, uint64_t *chain)
{
    uint64_t at = INFER_CHAIN_ROOT;
    uint32_t n = 0;

    for (; n < n_max; n++, ids += INFER_KV_BLOCK) {
        const int32_t i = find(b, slot_of(b, scope, at, ids), scope, at, ids);

        if (i == NIL)
            break;
        if (b->block[i].n_refs++ == 0) {
            lru_remove(b, i);
            b->n_unused--;
        }
        blocks[n] = (uint32_t)i;
        at = b->block[i].serial;
    }
    *chain = at;
    return n;
}

uint64_t infer_blocks_register(struct infer_blocks *b, uint64_t scope,
                               uint64_t chain, const int32_t *ids,
                               uint32_t block)
{
    struct block *x = &b->block[block];
    int32_t *slot = slot_of(b, scope, chain, ids);
    const int32_t same = find(b, slot, scope, chain, ids);

    assert(x->n_refs > 0);
    if (same != NIL)
        return b->block[same].serial;
    assert(x->serial == 0);
    x->serial = ++b->last_serial;
    x->parent = chain;
    x->scope = scope;
    memcpy(x->ids, ids, sizeof(x->ids));
    x->slot_next = *slot;
    *slot = (int32_t)block;
    return x->serial;
}
