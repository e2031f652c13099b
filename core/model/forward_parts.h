/*
 * forward_parts.h - what the files of the forward pass share, and no one else.
 *
 *   forward.c   workspaces, the plan of a batch, running it
 *   layers.c    the order of phases: norms, attention, feed-forward, head
 *   product.c   activations and products, shared among the members
 *   attend.c    rotation, cache and attention
 *   collect.c   squares of what is multiplied, for quantizers
 */
#ifndef INFER_MODEL_FORWARD_PARTS_H
#define INFER_MODEL_FORWARD_PARTS_H

#include "core/model/forward.h"

enum {
    SMALL = 4,          /* rows that every member normalizes for itself */
    TILE_FLOATS = 6144, /* product waiting for its epilogue: half of L1 */
    TILE_ROWS = 48,     /* a multiple of what kernels take together */
    ATTN_ROWS = 16      /* query rows of one unit of attention */
};

static inline size_t infer_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Rows of activations in each form that some product wants. */
struct acts {
    struct infer_act form[INFER_ACT_COUNT]; /* by infer_act_kind */
    uint8_t *mem[INFER_ACT_COUNT];          /* the same memory, to write */
};

/* Rows of one sequence in a batch, and its units of attention. */
struct run {
    uint32_t row0, n_rows;
    uint32_t tile_rows; /* tokens of one unit */
    uint32_t unit0;     /* number of its first unit */
};

struct scratch {      /* of one member */
    struct acts acts; /* [SMALL][max(D, H K)] */
    float *tile[2];   /* [TILE_FLOATS] */
    float *attn;
    double *squares; /* [tap_values] sums of this member; NULL: not collected */
};

struct infer_forward {
    const struct infer_model *m;
    struct infer_team *team;
    struct infer_kv *kv;
    uint32_t max_rows, max_logits, n_ctx;
    size_t x_stride, qkv_stride, attn_stride, logits_stride; /* floats */
    size_t k_at, v_at; /* in a row of qkv, which begins with q */
    float score_scale; /* 1 / sqrt(K) */

    float *x;         /* [T][x_stride] residual stream */
    float *qkv;       /* [T][qkv_stride] */
    float *attn;      /* [T][attn_stride] */
    struct acts wide; /* [T][max(D, H K)] of batches that are not small */
    struct acts ffn;  /* [T][F] */
    float *logits;    /* [max_logits][logits_stride] */
    float *rope;      /* [n_ctx][n_rot / 2][2] */
    struct scratch *scratch; /* [members] */
    struct run *runs;        /* [T] */
    uint32_t *out_rows;      /* [max_logits] rows that want logits */
    uint8_t *arena;
    size_t arena_bytes;
    double *squares;                /* [members][tap_values] or NULL */
    uint64_t n_rows_all, n_out_all; /* summed since */

    /* the batch in progress */
    const struct infer_batch *batch;
    size_t n_rows, n_runs, n_out;
    uint32_t n_units;
};

/* ---- activations and products (product.c) ------------------------------- */

/* A set of the activation forms (bits 1 << infer_act_kind) that l multiplies.
 */
unsigned infer_act_wants(const struct infer_linear *l);

/* The form that l multiplies. */
const struct infer_act *infer_act_for(const struct acts *a,
                                      const struct infer_linear *l);

/* Row t as floats: where a norm leaves its result. */
float *infer_act_row(const struct acts *a, size_t t);

/* Columns [k0, k0 + n) of row t, from x[n], in every form of `wanted`. */
void infer_act_put(const struct infer_forward *f, const struct acts *a,
                   unsigned wanted, size_t t, size_t k0, const float *x,
                   size_t n);

/* A source of activations: rows of floats, normalized first when norm is set;
 * row i is rows[i] when rows is set. */
struct act_source {
    const float *x;
    size_t stride;
    const uint32_t *rows;
    size_t n_rows, k;
    const float *norm, *bias;
    unsigned wanted;
    float *keep; /* x again where the normalized rows replace it, else NULL */
    size_t tap;  /* where its squares are summed, see collect.c */
};

/* Make activations and return where they are: a small batch's in the member's
 * own memory, without a barrier. */
const struct acts *infer_acts_make(struct infer_forward *f,
                                   struct infer_member *me,
                                   const struct act_source *s);

/* A product and where its rows go. */
struct part {
    const struct infer_linear *l;
    float *y;
    size_t ldy;
    bool add;                      /* y += instead of y = */
    const struct infer_layer *ffn; /* its feed-forward: leaves activations in
                                      f->ffn instead of y */
};

/* Share the panels of all parts among the members; ends with a barrier. */
void infer_products(struct infer_forward *f, struct infer_member *me,
                    const struct acts *a, const struct part *parts, int n_parts,
                    size_t n_rows);

/* ---- attention (attend.c) ------------------------------------------------ */

/* Attention of the whole batch, from f->qkv to f->attn; ends with a barrier. */
void infer_attend(struct infer_forward *f, struct infer_member *me,
                  uint32_t layer);

/* ---- sums of squares (collect.c) ------------------------------------------
 */

/* Place of a site's first value among a member's sums. */
size_t infer_tap(const struct infer_model *m, enum infer_site site,
                 uint32_t layer);
/* squares[i] += x[i]^2 */
void infer_tap_add(double *squares, const float *x, size_t n);

/* ---- layers (layers.c) --------------------------------------------------- */

/* Embedding and layers, up to and without the last norm; of every member. */
void infer_layers(struct infer_forward *f, struct infer_member *me);

/* The whole pass; run by every member (an infer_team_fn). */
void infer_decode_batch(struct infer_member *me, void *arg);

#endif
