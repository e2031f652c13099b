/*
 * blocks.h - who owns which block of the KV cache.
 *
 * The pool knows block numbers only; the memory is struct infer_kv's. A block
 * is in one of four states:
 *
 *   free       on the free list, content meaningless
 *   private    referenced by one sequence, still being filled (or a duplicate)
 *   shared     full, registered by content, referenced by >= 1 sequences
 *   idle       full, registered, unreferenced: kept until the room is needed,
 *              the least recently used goes first
 *
 * A registered block is found again by (scope, the chain it continues, its 16
 * token ids). All three are stored and compared, so a hash collision costs a
 * comparison and can neither mix up texts nor leak from one scope to another.
 */
#ifndef INFER_ENGINE_BLOCKS_H
#define INFER_ENGINE_BLOCKS_H

#include "core/kernels/kernels.h"

enum { INFER_NO_BLOCK = -1 };

/*
 * A chain names the content of a whole prefix: the serial number its last
 * block got when it was registered. Numbers are never used twice, so a chain
 * outlives its blocks without ever meaning something else.
 */
enum { INFER_CHAIN_ROOT = 0 }; /* the empty prefix, of every scope */

struct infer_blocks; /* opaque */

uint64_t infer_blocks_bytes(uint32_t n_blocks);
int infer_blocks_create(struct infer_blocks **b, uint32_t n_blocks,
                        struct infer_error *err);
void infer_blocks_free(struct infer_blocks *b);

uint32_t infer_blocks_total(const struct infer_blocks *b);
/* Blocks that infer_blocks_take() could hand out now: free and idle ones. */
uint32_t infer_blocks_available(const struct infer_blocks *b);

/* A private block (one reference), or INFER_NO_BLOCK. May forget the least
 * recently used idle block. O(1). */
int64_t infer_blocks_take(struct infer_blocks *b);

/* Drop one reference. A sequence releases its blocks last to first, so that
 * the end of an idle prefix is forgotten before its beginning. O(1). */
void infer_blocks_release(struct infer_blocks *b, uint32_t block);

/*
 * Find the longest registered prefix and reference its blocks.
 *
 *   ids     [16 * n_max]  in
 *   blocks  [n_max]       out  the first n found
 *   chain                 out  of the prefix found
 * Returns n.  Cost  O(16 n)
 */
uint32_t infer_blocks_lookup(struct infer_blocks *b, uint64_t scope,
                             const int32_t *ids, uint32_t n_max,
                             uint32_t *blocks, uint64_t *chain);

/*
 * Make a full block of the caller findable, as continuation of `chain`; ids
 * [16] are its tokens. Should another block hold the same already, the
 * caller's stays private. Returns the chain that ends with this content.
 */
uint64_t infer_blocks_register(struct infer_blocks *b, uint64_t scope,
                               uint64_t chain, const int32_t *ids,
                               uint32_t block);

#endif
