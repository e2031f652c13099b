/*
 * attend.c - rotate queries and keys, fill the cache, attend.
 *
 * The unit of work is a KV head of one sequence with a few of its rows; units
 * are handed out as members become free, since their lengths differ.
 */
#include "core/model/forward_parts.h"

static uint8_t *kv_at(const struct infer_forward *f, uint32_t layer,
                      uint32_t head, uint32_t block)
{
    if (f->m->hp.arch->encoder) /* one layer's memory serves all */
        layer = 0;
    return f->kv->data + block * f->kv->block_bytes +
           ((size_t)layer * f->m->hp.n_kv_heads + head) * f->kv->head_bytes;
}

static void norm_heads(const struct infer_forward *f, float *x, uint32_t n,
                       const float *w)
{
    const struct infer_hparams *hp = &f->m->hp;

    for (uint32_t h = 0; h < n && w; h++, x += hp->d_head)
        f->m->kern.rmsnorm(x, x, w, hp->d_head, hp->norm_eps);
}

/* Rotate row t's queries of KV heads [g0, g1) and put its K and V into the
 * cache. */
static void place(struct infer_forward *f, uint32_t layer, size_t t,
                  uint32_t g0, uint32_t g1)
{
    const struct infer_hparams *hp = &f->m->hp;
    const struct infer_kernels *kern = &f->m->kern;
    const struct infer_layer *y = &f->m->layers[layer];
    const struct infer_batch_row *row = &f->batch->rows[t];
    const uint32_t rep = hp->n_heads / hp->n_kv_heads;
    float *q = f->qkv + t * f->qkv_stride + (size_t)g0 * rep * hp->d_head;
    float *k = f->qkv + t * f->qkv_stride + f->k_at + (size_t)g0 * hp->d_head;
    const float *v =
        f->qkv + t * f->qkv_stride + f->v_at + (size_t)g0 * hp->d_head;
    const uint32_t block =
        f->batch->blocks[row->seq][row->pos / INFER_KV_BLOCK];

    norm_heads(f, q, (g1 - g0) * rep, y->q_norm);
    norm_heads(f, k, g1 - g0, y->k_norm);
    if (hp->arch->positions != INFER_POS_LEARNED) {
        const float *cs = f->rope + (size_t)row->pos * hp->rope.n_rot;
        const bool halves = hp->arch->positions == INFER_POS_ROPE_HALVES;

        kern->rope(q, cs, (g1 - g0) * rep, hp->d_head, hp->rope.n_rot, halves);
        kern->rope(k, cs, g1 - g0, hp->d_head, hp->rope.n_rot, halves);
    }
    for (uint32_t g = g0; g < g1; g++, k += hp->d_head, v += hp->d_head)
        kern->kv_store(kv_at(f, layer, g, block), k, v, hp->d_head,
                       row->pos % INFER_KV_BLOCK, f->kv->type == INFER_KV_F32);
}

/* Rows [t0, t1) of one sequence, all query heads of KV head g. Rows of an
 * encoder see the whole run, of a decoder what comes up to them. */
static void attend(struct infer_forward *f, struct scratch *s, uint32_t layer,
                   uint32_t g, const struct run *run, size_t t0, size_t t1)
{
    const bool all = f->m->hp.arch->encoder;
    const struct infer_hparams *hp = &f->m->hp;
    const uint32_t rep = hp->n_heads / hp->n_kv_heads;
    const float *q[ATTN_ROWS];
    float *out[ATTN_ROWS];
    uint32_t n_keys[ATTN_ROWS];
    struct infer_attn a = {
        .q = q,
        .out = out,
        .n_keys = n_keys,
        .blocks = f->batch->blocks[f->batch->rows[t0].seq],
        .kv = kv_at(f, layer, g, 0),
        .block_stride = f->kv->block_bytes,
        .f32 = f->kv->type == INFER_KV_F32,
        .d = hp->d_head,
        .scale = f->score_scale,
        .scratch = s->attn,
    };

    for (size_t t = t0; t < t1; t++) {
        for (uint32_t r = 0; r < rep; r++) {
            const size_t head = ((size_t)g * rep + r) * hp->d_head;

            q[a.n_rows] = f->qkv + t * f->qkv_stride + head;
            out[a.n_rows] = f->attn + t * f->attn_stride + head;
            n_keys[a.n_rows] = all ? run->n_rows : f->batch->rows[t].pos + 1;
            if (++a.n_rows == ATTN_ROWS) {
                f->m->kern.attention(&a);
                a.n_rows = 0;
            }
        }
    }
    if (a.n_rows)
        f->m->kern.attention(&a);
}

static const struct run *find_run(const struct infer_forward *f, uint32_t unit)
{
    size_t low = 0, high = f->n_runs;

    while (high - low > 1) {
        const size_t mid = (low + high) / 2;

        if (f->runs[mid].unit0 <= unit)
            low = mid;
        else
            high = mid;
    }
    return &f->runs[low];
}

/* Attention of the whole batch. Rows that are alone in their sequence need
 * only their own new key, so there one unit does all; otherwise all keys are
 * placed first. Units go last to first: the longest first. */
void infer_attend(struct infer_forward *f, struct infer_member *me,
                  uint32_t layer)
{
    const uint32_t G = f->m->hp.n_kv_heads;
    const bool alone = f->n_runs == f->n_rows;

    if (!alone) {
        size_t t0, t1;

        infer_team_share(me, f->n_rows, 1, &t0, &t1);
        for (size_t t = t0; t < t1; t++)
            place(f, layer, t, 0, G);
        infer_team_barrier(me);
    }
    for (int64_t i = infer_team_take(me, f->n_units, 1); i >= 0;
         i = infer_team_take(me, f->n_units, 1)) {
        const uint32_t unit = f->n_units - 1 - (uint32_t)i;
        const struct run *run = find_run(f, unit);
        const uint32_t g = (unit - run->unit0) % G;
        const size_t t0 =
            run->row0 + (size_t)(unit - run->unit0) / G * run->tile_rows;
        const size_t end = (size_t)run->row0 + run->n_rows;
        const size_t t1 = t0 + run->tile_rows < end ? t0 + run->tile_rows : end;

        if (alone)
            place(f, layer, t0, g, g + 1);
        attend(f, &f->scratch[me->id], layer, g, run, t0, t1);
    }
    infer_team_barrier(me);
}
