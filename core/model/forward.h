/*
 * forward.h - one batch through the layers: tokens in, logits out.
 *
 * The caller (a session or the engine) owns the schedule: it says which token
 * goes to which position of which sequence and which KV blocks hold that
 * sequence. The forward pass owns the workspaces, sized at creation; a run
 * allocates nothing and checks nothing.
 */
#ifndef INFER_MODEL_FORWARD_H
#define INFER_MODEL_FORWARD_H

#include "core/base/team.h"
#include "core/model/model.h"

/* ---- KV memory: n_blocks blocks of INFER_KV_BLOCK tokens, all layers ---- */

struct infer_kv {
    enum infer_kv_type type;
    uint32_t n_blocks;
    size_t block_bytes; /* [L][G] of (K [d][16], V [16][d]) */
    size_t head_bytes;  /* of one layer and KV head */
    uint8_t *data;      /* [n_blocks][block_bytes], 64-byte aligned */
};

size_t infer_kv_block_bytes(const struct infer_model *m,
                            enum infer_kv_type type);
int infer_kv_create(struct infer_kv *kv, const struct infer_model *m,
                    enum infer_kv_type type, uint32_t n_blocks,
                    struct infer_error *err);
void infer_kv_release(struct infer_kv *kv);

/* ---- a batch ------------------------------------------------------------ */

struct infer_batch_row {
    int32_t token; /* in the vocabulary */
    uint32_t pos;  /* 0-based position in its sequence, < the model's n_ctx */
    uint32_t seq;  /* index into blocks */
    bool logits;
};

/* Rows of one sequence are neighbours with consecutive positions. Everything
 * before a row's position is in the cache or earlier in this batch. */
struct infer_batch {
    const struct infer_batch_row *rows; /* [n_rows], n_rows >= 1 */
    size_t n_rows;
    const uint32_t *const *blocks; /* [n_seqs]: position p of a sequence lies in
                                      its block number p / 16, slot p % 16 */
};

struct infer_forward; /* opaque */

/*
 * Workspaces for up to max_rows rows and max_logits rows that want logits.
 *   n_ctx  positions are below it (sizes the rotation table)
 */
int infer_forward_create(struct infer_forward **f, const struct infer_model *m,
                         struct infer_team *team, struct infer_kv *kv,
                         uint32_t max_rows, uint32_t max_logits, uint32_t n_ctx,
                         struct infer_error *err);
size_t infer_forward_bytes(const struct infer_model *m, int n_threads,
                           uint32_t max_rows, uint32_t max_logits,
                           uint32_t n_ctx);
void infer_forward_free(struct infer_forward *f);

/* Lay a batch out, for a pass of one's own (encoder.c). */
void infer_forward_plan(struct infer_forward *f, const struct infer_batch *b);

/* Compute; K and V of every row are in the cache afterwards. */
void infer_forward_run(struct infer_forward *f, const struct infer_batch *b);

/*
 * What the matrices multiply, squared and summed over all rows that go through
 * from now on: how much an error in each column of their weights matters.
 *
 *   INFER_SITE_QKV     [D]    attn_q, attn_k, attn_v, attn_qkv
 *   INFER_SITE_OUT     [H K]  attn_output
 *   INFER_SITE_UP      [D]    ffn_up, ffn_gate
 *   INFER_SITE_DOWN    [F]    ffn_down
 *   INFER_SITE_HEAD    [D]    output; of rows that want logits; layer 0
 *
 * collect: ENOMEM. collected: sums [..] out, and the rows that were summed.
 */
enum infer_site {
    INFER_SITE_QKV,
    INFER_SITE_OUT,
    INFER_SITE_UP,
    INFER_SITE_DOWN,
    INFER_SITE_HEAD
};

int infer_forward_collect(struct infer_forward *f, struct infer_error *err);
uint64_t infer_forward_collected(const struct infer_forward *f,
                                 enum infer_site site, uint32_t layer,
                                 double *sums);
/* Values of a site. */
size_t infer_site_width(const struct infer_model *m, enum infer_site site);

/* Logits of the i-th row (in batch order) that wanted them: [V]. */
float *infer_forward_logits(struct infer_forward *f, size_t i);

#endif
