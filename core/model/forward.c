/*
 * forward.c - the decoder: embedding, L layers of attention and feed-forward,
 * head. Vaswani et al. 2017 (arXiv:1706.03762) with the switches of infer_arch.
 *
 * Every member of the team runs decode_batch() and takes its share of each
 * phase; a barrier ends a phase. Products are shared by output panels, so a
 * thread streams its own weights once for all rows; norms and activations by
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
#include "core/model/forward.h"

#include "core/base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SMALL = 4,          /* rows that every member normalizes for itself */
    TILE_FLOATS = 6144, /* product waiting for its epilogue: half of L1 */
    TILE_ROWS = 48,     /* a multiple of what kernels take together */
    ATTN_ROWS = 16, /* query rows of one unit of attention */
    ALIGN = 64
};

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

    /* the batch in progress */
    const struct infer_batch *batch;
    size_t n_rows, n_runs, n_out;
    uint32_t n_units;
};

/* ---- memory ------------------------------------------------------------- */

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Hands out an arena front to back; with base NULL it only measures. */
struct carver {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carver *c, size_t bytes)
{
    void *p = c->base ? c->base + c->used : NULL;

    c->used += round_up(bytes, ALIGN);
    return p;
}

static size_t act_stride(enum infer_act_kind kind, size_t k)
{
    const size_t wide = round_up(k, 2 * INFER_PANEL);

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
    return round_up(n, 2 * INFER_PANEL);
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
    f->score_scale = 1.0f / sqrtf((float)m->hp.d_head);
    *out = f;
    return INFER_OK;
}

void infer_forward_free(struct infer_forward *f)
{
    if (!f)
        return;
    munmap(f->arena, f->arena_bytes);
    free(f);
}

float *infer_forward_logits(struct infer_forward *f, size_t i)
{
    return f->logits + i * f->logits_stride;
}

/* ---- activations -------------------------------------------------------- */

/* Columns [k0, k0 + n) of row t, from x[n], in every form of `wanted`. */
static void put_act(const struct infer_forward *f, const struct acts *a,
                    unsigned wanted, size_t t, size_t k0, const float *x,
                    size_t n)
{
    const struct infer_kernels *kern = &f->m->kern;

    for (int i = 0; i < INFER_ACT_COUNT; i++) {
        void *row = a->mem[i] + t * a->form[i].stride;

        if (!(wanted & 1u << i))
            continue;
        if (i == INFER_ACT_F32)
            memmove((float *)row + k0, x, n * sizeof(float));
        else if (i == INFER_ACT_BF16)
            kern->to_bf16((uint16_t *)row + k0, x, n);
        else
            (i == INFER_ACT_I8 ? kern->quantize_act : kern->quantize_act_k)(
                (struct infer_act_block *)row + k0 / INFER_ACT_BLOCK, x, n);
    }
}

static unsigned wants(const struct infer_linear *l)
{
    return l->w.data ? 1u << infer_pack_info[l->w.kind].act : 0;
}

static const struct infer_act *act_for(const struct acts *a,
                                       const struct infer_linear *l)
{
    return &a->form[infer_pack_info[l->w.kind].act];
}

/* A source of activations: rows of floats, normalized first when norm is set;
 * row i is rows[i] when rows is set. */
struct act_source {
    const float *x;
    size_t stride;
    const uint32_t *rows;
    size_t n_rows, k;
    const float *norm, *bias;
    unsigned wanted;
};

static void one_act(const struct infer_forward *f, const struct acts *a,
                    const struct act_source *s, size_t t, float *tmp)
{
    const struct infer_hparams *hp = &f->m->hp;
    const float *x = s->x + (s->rows ? s->rows[t] : t) * s->stride;

    if (s->norm && hp->arch->norm == INFER_NORM_RMS)
        f->m->kern.rmsnorm(tmp, x, s->norm, s->k, hp->norm_eps);
    else if (s->norm)
        f->m->kern.layernorm(tmp, x, s->norm, s->bias, s->k, hp->norm_eps);
    put_act(f, a, s->wanted, t, 0, s->norm ? tmp : x, s->k);
}

/* Row t as floats: where a norm leaves its result. */
static float *act_row(const struct acts *a, size_t t)
{
    return (void *)(a->mem[INFER_ACT_F32] + t * a->form[INFER_ACT_F32].stride);
}

/* Make activations and return where they are: a small batch's in the member's
 * own memory, without a barrier. */
static const struct acts *make_acts(struct infer_forward *f,
                                    struct infer_member *me,
                                    const struct act_source *s)
{
    const bool small = s->n_rows <= SMALL;
    const struct acts *a = small ? &f->scratch[me->id].acts : &f->wide;
    size_t t0 = 0, t1 = s->n_rows;

    if (!small)
        infer_team_share(me, s->n_rows, 1, &t0, &t1);
    for (size_t t = t0; t < t1; t++)
        one_act(f, a, s, t, act_row(a, t));
    if (!small)
        infer_team_barrier(me);
    return a;
}

/* ---- products ----------------------------------------------------------- */

/* A product and where its rows go. */
struct part {
    const struct infer_linear *l;
    float *y;
    size_t ldy;
    bool add;                      /* y += instead of y = */
    const struct infer_layer *ffn; /* of ffn_range(), which writes no y */
};

/* A member's piece of a part is a multiple of this many panels: 32 outputs, or
 * 256 where they become activations that share a scale. */
static size_t panel_unit(const struct part *part)
{
    if (part->ffn && wants(&part->ffn->down) & 1u << INFER_ACT_I8K)
        return INFER_K_BLOCK / INFER_PANEL;
    return 2;
}

static size_t padded_panels(const struct part *part)
{
    return round_up(part->l->w.n_panels, panel_unit(part));
}

static void add_bias(const struct infer_forward *f,
                     const struct infer_linear *l, float *y, size_t ldy,
                     size_t rows, size_t p0, size_t p1)
{
    if (!l->bias)
        return;
    for (size_t t = 0; t < rows; t++)
        f->m->kern.add(y + t * ldy, l->bias + p0 * INFER_PANEL,
                       (p1 - p0) * INFER_PANEL);
}

/* Panels [p0, p1) of a part for rows [t0, t1). */
static void product(const struct infer_forward *f, const struct scratch *s,
                    const struct part *part, const struct infer_act *x,
                    size_t t0, size_t t1, size_t p0, size_t p1)
{
    const struct infer_kernels *kern = &f->m->kern;
    const struct infer_packed *w = &part->l->w;
    float *y = part->y + t0 * part->ldy + p0 * INFER_PANEL;
    const size_t width = (p1 - p0) * INFER_PANEL;

    if (!part->add) {
        kern->gemm[w->kind](y, part->ldy, w, x, t0, t1, p0, p1);
        add_bias(f, part->l, y, part->ldy, t1 - t0, p0, p1);
        return;
    }
    kern->gemm[w->kind](s->tile[0], width, w, x, t0, t1, p0, p1);
    add_bias(f, part->l, s->tile[0], width, t1 - t0, p0, p1);
    for (size_t t = t0; t < t1; t++)
        kern->add(y + (t - t0) * part->ldy, s->tile[0] + (t - t0) * width,
                  width);
}

/* What one member does with panels [p0, p1) of all rows, tile by tile. */
typedef void range_fn(struct infer_forward *f, struct scratch *s,
                      const struct acts *a, const struct part *part, size_t t0,
                      size_t t1, size_t p0, size_t p1);

static void plain_range(struct infer_forward *f, struct scratch *s,
                        const struct acts *a, const struct part *part,
                        size_t t0, size_t t1, size_t p0, size_t p1)
{
    product(f, s, part, act_for(a, part->l), t0, t1, p0, p1);
}

static void tiles(struct infer_forward *f, struct scratch *s,
                  const struct acts *a, const struct part *part, size_t n_rows,
                  size_t p0, size_t p1, range_fn *fn)
{
    const size_t unit = panel_unit(part);
    const size_t most = unit == 2 ? TILE_ROWS : TILE_ROWS / 2;
    const size_t rows = n_rows < most ? n_rows : most;
    const size_t panels = TILE_FLOATS / rows / INFER_PANEL / unit * unit;

    if (p1 > part->l->w.n_panels)
        p1 = part->l->w.n_panels;
    for (size_t p = p0; p < p1; p += panels)
        for (size_t t = 0; t < n_rows; t += rows)
            fn(f, s, a, part, t, t + rows < n_rows ? t + rows : n_rows, p,
               p + panels < p1 ? p + panels : p1);
}

/* Share the panels of all parts among the members; ends with a barrier. */
static void products(struct infer_forward *f, struct infer_member *me,
                     const struct acts *a, const struct part *parts,
                     int n_parts, size_t n_rows, range_fn *fn)
{
    struct scratch *s = &f->scratch[me->id];
    size_t total = 0, at = 0;

    for (int i = 0; i < n_parts; i++)
        total += padded_panels(&parts[i]);
    const size_t grain =
        round_up(total / (size_t)me->n / (n_rows <= SMALL ? 2 : 8) + 1,
                 panel_unit(&parts[0]));

    for (int64_t next = infer_team_take(me, (int64_t)total, (int64_t)grain);
         next >= 0;
         next = infer_team_take(me, (int64_t)total, (int64_t)grain)) {
        const size_t begin = (size_t)next;
        const size_t end = begin + grain < total ? begin + grain : total;

        at = 0;
        for (int i = 0; i < n_parts; i++) {
            const size_t n = padded_panels(&parts[i]);
            const size_t p0 = begin > at ? begin - at : 0;
            const size_t p1 = end < at + n ? (end > at ? end - at : 0) : n;

            if (p0 < p1)
                tiles(f, s, a, &parts[i], n_rows, p0, p1, fn);
            at += n;
        }
    }
    infer_team_barrier(me);
}

/* ---- attention ---------------------------------------------------------- */

static uint8_t *kv_at(const struct infer_forward *f, uint32_t layer,
                      uint32_t head, uint32_t block)
{
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

/* Rows [t0, t1) of one sequence, all query heads of KV head g. */
static void attend(struct infer_forward *f, struct scratch *s, uint32_t layer,
                   uint32_t g, size_t t0, size_t t1)
{
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
            n_keys[a.n_rows] = f->batch->rows[t].pos + 1;
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
static void attention(struct infer_forward *f, struct infer_member *me,
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
        attend(f, &f->scratch[me->id], layer, g, t0, t1);
    }
    infer_team_barrier(me);
}

/* ---- layers ------------------------------------------------------------- */

static void attention_block(struct infer_forward *f, struct infer_member *me,
                            uint32_t layer)
{
    const struct infer_hparams *hp = &f->m->hp;
    const struct infer_layer *y = &f->m->layers[layer];
    const struct part qkv[] = {
        {.l = &y->q, .y = f->qkv, .ldy = f->qkv_stride},
        {.l = &y->k, .y = f->qkv + f->k_at, .ldy = f->qkv_stride},
        {.l = &y->v, .y = f->qkv + f->v_at, .ldy = f->qkv_stride},
    };
    const struct part out = {
        .l = &y->out, .y = f->x, .ldy = f->x_stride, .add = true};
    const struct act_source norm = {
        .x = f->x,
        .stride = f->x_stride,
        .n_rows = f->n_rows,
        .k = hp->d_model,
        .norm = y->attn_norm,
        .bias = y->attn_norm_bias,
        .wanted = wants(&y->q) | wants(&y->k) | wants(&y->v),
    };
    const struct act_source mixed = {
        .x = f->attn,
        .stride = f->attn_stride,
        .n_rows = f->n_rows,
        .k = (size_t)hp->n_heads * hp->d_head,
        .wanted = wants(&y->out),
    };

    products(f, me, make_acts(f, me, &norm), qkv, 3, f->n_rows, plain_range);
    attention(f, me, layer);
    products(f, me, make_acts(f, me, &mixed), &out, 1, f->n_rows, plain_range);
}

/* Panels of gate and up (or up alone): multiply, activate, and leave the result
 * as activations of the next product. */
static void ffn_range(struct infer_forward *f, struct scratch *s,
                      const struct acts *a, const struct part *part, size_t t0,
                      size_t t1, size_t p0, size_t p1)
{
    const struct infer_layer *y = part->ffn;
    const size_t width = (p1 - p0) * INFER_PANEL;
    const bool gated = y->gate.w.data != NULL;
    float *h = s->tile[0], *up = gated ? s->tile[1] : h;
    const size_t k0 = p0 * INFER_PANEL;
    const size_t k = f->m->hp.d_ff;

    f->m->kern.gemm[y->up.w.kind](up, width, &y->up.w, act_for(a, &y->up), t0,
                                  t1, p0, p1);
    add_bias(f, &y->up, up, width, t1 - t0, p0, p1);
    if (gated) {
        f->m->kern.gemm[y->gate.w.kind](h, width, &y->gate.w,
                                        act_for(a, &y->gate), t0, t1, p0, p1);
        add_bias(f, &y->gate, h, width, t1 - t0, p0, p1);
    }
    for (size_t t = t0; t < t1; t++, h += width, up += width) {
        if (gated)
            f->m->kern.silu_mul(h, up, width);
        else
            f->m->kern.gelu(h, width);
        put_act(f, &f->ffn, wants(&y->down), t, k0, h,
                k0 + width < k ? width : k - k0);
    }
}

static void ffn_block(struct infer_forward *f, struct infer_member *me,
                      uint32_t layer)
{
    const struct infer_layer *y = &f->m->layers[layer];
    const struct part up = {.l = &y->up, .ffn = y};
    const struct part down = {
        .l = &y->down, .y = f->x, .ldy = f->x_stride, .add = true};
    const struct act_source norm = {
        .x = f->x,
        .stride = f->x_stride,
        .n_rows = f->n_rows,
        .k = f->m->hp.d_model,
        .norm = y->ffn_norm,
        .bias = y->ffn_norm_bias,
        .wanted = wants(&y->up) | wants(&y->gate),
    };

    products(f, me, make_acts(f, me, &norm), &up, 1, f->n_rows, ffn_range);
    products(f, me, &f->ffn, &down, 1, f->n_rows, plain_range);
}

static void embed(struct infer_forward *f, size_t t, float *tmp)
{
    const struct infer_hparams *hp = &f->m->hp;
    const struct infer_batch_row *row = &f->batch->rows[t];
    const struct infer_gguf_tensor *tok = f->m->tok_embd, *pos = f->m->pos_embd;
    float *x = f->x + t * f->x_stride;

    infer_dequantize(tok->type,
                     (const uint8_t *)tok->data +
                         (size_t)row->token *
                             infer_qtype_bytes(tok->type, hp->d_model),
                     x, hp->d_model);
    if (!pos)
        return;
    infer_dequantize(pos->type,
                     (const uint8_t *)pos->data +
                         row->pos * infer_qtype_bytes(pos->type, hp->d_model),
                     tmp, hp->d_model);
    f->m->kern.add(x, tmp, hp->d_model);
}

static void head(struct infer_forward *f, struct infer_member *me)
{
    const struct infer_model *m = f->m;
    const struct part part = {
        .l = &m->head, .y = f->logits, .ldy = f->logits_stride};
    const struct act_source norm = {
        .x = f->x,
        .stride = f->x_stride,
        .rows = f->out_rows,
        .n_rows = f->n_out,
        .k = m->hp.d_model,
        .norm = m->out_norm,
        .bias = m->out_norm_bias,
        .wanted = wants(&m->head),
    };

    products(f, me, make_acts(f, me, &norm), &part, 1, f->n_out, plain_range);
}

static void decode_batch(struct infer_member *me, void *arg)
{
    struct infer_forward *f = arg;
    struct acts *own = &f->scratch[me->id].acts;

    for (size_t t = (size_t)me->id; t < f->n_rows; t += (size_t)me->n)
        embed(f, t, act_row(own, 0));
    infer_team_barrier(me);
    for (uint32_t i = 0; i < f->m->hp.n_layers; i++) {
        attention_block(f, me, i);
        ffn_block(f, me, i);
    }
    if (f->n_out)
        head(f, me);
}

/* Find the runs of rows of one sequence and the rows that want logits. */
static void plan(struct infer_forward *f, const struct infer_batch *b)
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
    plan(f, b);
    infer_team_run(f->team, decode_batch, f);
}
