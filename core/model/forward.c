/*
 * forward.c - the decoder: embedding, L layers of attention and feed-forward,
 * head. Vaswani et al. 2017 (arXiv:1706.03762) with the switches of infer_arch.
 *
 * Every member of the team runs infer_decode_batch() and takes its share of
 * each phase; a barrier ends a phase. Products are shared by output panels, so
 * a thread streams its own weights once for all rows; norms and activations by
 * rows. A batch of up to SMALL rows (generation) has too little of the latter
 * to be worth a barrier: there each member computes them all, in memory of its
 * own. Per layer that leaves five barriers:
 *
 *   norm, q k v | rotate, store, attend | output + residual |
 *   norm, gate up, activation | down + residual |
 *
 * A row's results never depend on which rows share the batch (kernels.h), nor
 * on who computed what, so neither does any output.
 */
#include "core/model/forward_parts.h"

#include "core/base/error.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGN = 64 };

/* ---- memory ------------------------------------------------------------- */

/* Hands out an arena front to back; with base NULL it only measures. */
struct carver {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carver *c, size_t bytes)
{
    void *p = c->base ? c->base + c->used : NULL;

    c->used += infer_round_up(bytes, ALIGN);
    return p;
}

static size_t act_stride(enum infer_act_kind kind, size_t k)
{
    const size_t wide = infer_round_up(k, 2 * INFER_PANEL);

    switch (kind) {
    case INFER_ACT_F32:
        return wide * sizeof(float);
    case INFER_ACT_BF16:
        return wide * sizeof(uint16_t);
    case INFER_ACT_I8:
    case INFER_ACT_I8K:
        return wide / INFER_ACT_BLOCK * sizeof(struct infer_act_block);
    case INFER_ACT_COUNT:
        break;
    }
    return 0;
}

static void carve_acts(struct carver *c, struct acts *a, size_t rows, size_t k)
{
    for (int i = 0; i < INFER_ACT_COUNT; i++) {
        const enum infer_act_kind kind = (enum infer_act_kind)i;
        const size_t stride = act_stride(kind, k);

        a->mem[i] = carve(c, rows * stride);
        a->form[i] = (struct infer_act){
            .kind = kind, .stride = stride, .data = a->mem[i]};
    }
}

static size_t panels_wide(size_t n)
{
    return infer_round_up(n, 2 * INFER_PANEL);
}

static void carve_all(struct infer_forward *f, struct carver *c, int n_members)
{
    const struct infer_hparams *hp = &f->m->hp;
    const size_t nq = (size_t)hp->n_heads * hp->d_head;
    const size_t nk = (size_t)hp->n_kv_heads * hp->d_head;
    const size_t widest = hp->d_model > nq ? hp->d_model : nq;
    const size_t rows = f->max_rows;

    f->x_stride = panels_wide(hp->d_model);
    f->k_at = panels_wide(nq);
    f->v_at = f->k_at + panels_wide(nk);
    f->qkv_stride = f->v_at + panels_wide(nk);
    f->attn_stride = panels_wide(nq);
    f->logits_stride = panels_wide(hp->n_vocab);

    f->x = carve(c, rows * f->x_stride * sizeof(float));
    f->qkv = carve(c, rows * f->qkv_stride * sizeof(float));
    f->attn = carve(c, rows * f->attn_stride * sizeof(float));
    carve_acts(c, &f->wide, rows, widest);
    carve_acts(c, &f->ffn, rows, hp->d_ff);
    f->logits = carve(c, f->max_logits * f->logits_stride * sizeof(float));
    f->rope = carve(c, (size_t)f->n_ctx * hp->rope.n_rot * sizeof(float));
    f->runs = carve(c, rows * sizeof(*f->runs));
    f->out_rows = carve(c, rows * sizeof(*f->out_rows));
    f->scratch = carve(c, (size_t)n_members * sizeof(*f->scratch));
    for (int i = 0; i < n_members; i++) {
        struct scratch none, *s = c->base ? &f->scratch[i] : &none;

        carve_acts(c, &s->acts, SMALL, widest);
        s->tile[0] = carve(c, TILE_FLOATS * sizeof(float));
        s->tile[1] = carve(c, TILE_FLOATS * sizeof(float));
        s->attn = carve(c, infer_attn_scratch(hp->d_head) * sizeof(float));
    }
}

size_t infer_forward_bytes(const struct infer_model *m, int n_threads,
                           uint32_t max_rows, uint32_t max_logits,
                           uint32_t n_ctx)
{
    struct infer_forward f = {
        .m = m, .max_rows = max_rows, .max_logits = max_logits, .n_ctx = n_ctx};
    struct carver c = {0};

    carve_all(&f, &c, n_threads);
    return c.used;
}

int infer_forward_create(struct infer_forward **out,
                         const struct infer_model *m, struct infer_team *team,
                         struct infer_kv *kv, uint32_t max_rows,
                         uint32_t max_logits, uint32_t n_ctx,
                         struct infer_error *err)
{
    const int n = infer_team_size(team);
    const size_t bytes = infer_forward_bytes(m, n, max_rows, max_logits, n_ctx);
    struct infer_forward *f = calloc(1, sizeof(*f));
    struct carver c = {0};

    if (!f)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    *f = (struct infer_forward){.m = m,
                                .team = team,
                                .kv = kv,
                                .max_rows = max_rows,
                                .max_logits = max_logits,
                                .n_ctx = n_ctx,
                                .arena_bytes = bytes};
    /* zeroed by the system: padding of rows is read and must be finite */
    f->arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->arena == MAP_FAILED) {
        free(f);
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for workspaces of %zu bytes", bytes);
    }
    madvise(f->arena, bytes, MADV_HUGEPAGE);
    c.base = f->arena;
    carve_all(f, &c, n);
    if (m->hp.arch->positions != INFER_POS_LEARNED)
        infer_rope_table(f->rope, &m->hp.rope, m->rope_freqs, n_ctx);
    f->score_scale = m->hp.score_scale > 0.0f
                         ? m->hp.score_scale
                         : 1.0f / sqrtf((float)m->hp.d_head);
    *out = f;
    return INFER_OK;
}

void infer_forward_free(struct infer_forward *f)
{
    if (!f)
        return;
    munmap(f->arena, f->arena_bytes);
    free(f->squares);
    free(f);
}

float *infer_forward_logits(struct infer_forward *f, size_t i)
{
    return f->logits + i * f->logits_stride;
}

/* Find the runs of rows of one sequence and the rows that want logits. */
void infer_forward_plan(struct infer_forward *f, const struct infer_batch *b)
{
    const uint32_t G = f->m->hp.n_kv_heads;
    const uint32_t rep = f->m->hp.n_heads / G;
    const uint32_t tile = rep < ATTN_ROWS ? ATTN_ROWS / rep : 1;

    f->batch = b;
    f->n_rows = b->n_rows;
    f->n_runs = f->n_out = 0;
    f->n_units = 0;
    for (uint32_t t = 0; t < b->n_rows; t++) {
        if (b->rows[t].logits)
            f->out_rows[f->n_out++] = t;
        if (t > 0 && b->rows[t].seq == b->rows[t - 1].seq) {
            f->runs[f->n_runs - 1].n_rows++;
            continue;
        }
        f->runs[f->n_runs++] =
            (struct run){.row0 = t, .n_rows = 1, .tile_rows = tile};
    }
    for (size_t i = 0; i < f->n_runs; i++) {
        f->runs[i].unit0 = f->n_units;
        f->n_units += (f->runs[i].n_rows + tile - 1) / tile * G;
    }
}

void infer_forward_run(struct infer_forward *f, const struct infer_batch *b)
{
    infer_forward_plan(f, b);
    f->n_rows_all += f->n_rows;
    f->n_out_all += f->n_out;
    infer_team_run(f->team, infer_decode_batch, f);
}
