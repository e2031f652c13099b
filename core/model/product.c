/*
 * product.c - activations and matrix products, shared among the team.
 *
 * A product is shared by output panels, so that a member streams its own
 * weights once for all rows, in tiles whose results still lie in the first
 * cache when the epilogue (bias, residual, activation) takes them. The
 * feed-forward's first half ends as quantized activations of its second.
 */
#include "core/model/forward_parts.h"

#include <string.h>

/* Columns [k0, k0 + n) of row t, from x[n], in every form of `wanted`. */
void infer_act_put(const struct infer_forward *f, const struct acts *a,
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

unsigned infer_act_wants(const struct infer_linear *l)
{
    return l->w.data ? 1u << infer_pack_info[l->w.kind].act : 0;
}

const struct infer_act *infer_act_for(const struct acts *a,
                                      const struct infer_linear *l)
{
    return &a->form[infer_pack_info[l->w.kind].act];
}

static void one_act(const struct infer_forward *f, const struct acts *a,
                    const struct act_source *s, size_t t, float *tmp,
                    double *squares)
{
    const struct infer_hparams *hp = &f->m->hp;
    const float *x = s->x + (s->rows ? s->rows[t] : t) * s->stride;

    if (s->keep)
        tmp = s->keep + t * s->stride;
    if (s->norm && hp->arch->norm == INFER_NORM_RMS)
        f->m->kern.rmsnorm(tmp, x, s->norm, s->k, hp->norm_eps);
    else if (s->norm)
        f->m->kern.layernorm(tmp, x, s->norm, s->bias, s->k, hp->norm_eps);
    x = s->norm ? tmp : x;
    if (squares)
        infer_tap_add(squares + s->tap, x, s->k);
    infer_act_put(f, a, s->wanted, t, 0, x, s->k);
}

/* Row t as floats: where a norm leaves its result. */
float *infer_act_row(const struct acts *a, size_t t)
{
    return (void *)(a->mem[INFER_ACT_F32] + t * a->form[INFER_ACT_F32].stride);
}

/* Make activations and return where they are: a small batch's in the member's
 * own memory, without a barrier. */
const struct acts *infer_acts_make(struct infer_forward *f,
                                   struct infer_member *me,
                                   const struct act_source *s)
{
    /* rows that are replaced can be normalized once only */
    const bool small = s->n_rows <= SMALL && !s->keep;
    const struct acts *a = small ? &f->scratch[me->id].acts : &f->wide;
    /* of a small batch every member makes all */
    double *squares = small && me->id > 0 ? NULL : f->scratch[me->id].squares;
    size_t t0 = 0, t1 = s->n_rows;

    if (!small)
        infer_team_share(me, s->n_rows, 1, &t0, &t1);
    for (size_t t = t0; t < t1; t++)
        one_act(f, a, s, t, infer_act_row(a, t), squares);
    if (!small)
        infer_team_barrier(me);
    return a;
}

/* A member's piece of a part is a multiple of this many panels: 32 outputs, or
 * 256 where they become activations that share a scale. */
static size_t panel_unit(const struct part *part)
{
    if (part->ffn && infer_act_wants(&part->ffn->down) & 1u << INFER_ACT_I8K)
        return INFER_K_BLOCK / INFER_PANEL;
    return 2;
}

static size_t padded_panels(const struct part *part)
{
    return infer_round_up(part->l->w.n_panels, panel_unit(part));
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

    f->m->kern.gemm[y->up.w.kind](up, width, &y->up.w, infer_act_for(a, &y->up),
                                  t0, t1, p0, p1);
    add_bias(f, &y->up, up, width, t1 - t0, p0, p1);
    if (gated) {
        f->m->kern.gemm[y->gate.w.kind](
            h, width, &y->gate.w, infer_act_for(a, &y->gate), t0, t1, p0, p1);
        add_bias(f, &y->gate, h, width, t1 - t0, p0, p1);
    }
    for (size_t t = t0; t < t1; t++, h += width, up += width) {
        if (gated)
            f->m->kern.silu_mul(h, up, width);
        else
            f->m->kern.gelu(h, width);
        if (s->squares)
            infer_tap_add(s->squares +
                              infer_tap(f->m, INFER_SITE_DOWN,
                                        (uint32_t)(y - f->m->layers)) +
                              k0,
                          h, k0 + width < k ? width : k - k0);
        infer_act_put(f, &f->ffn, infer_act_wants(&y->down), t, k0, h,
                      k0 + width < k ? width : k - k0);
    }
}

static void tile(struct infer_forward *f, struct scratch *s,
                 const struct acts *a, const struct part *part, size_t t0,
                 size_t t1, size_t p0, size_t p1)
{
    if (part->ffn)
        ffn_range(f, s, a, part, t0, t1, p0, p1);
    else
        product(f, s, part, infer_act_for(a, part->l), t0, t1, p0, p1);
}

static void tiles(struct infer_forward *f, struct scratch *s,
                  const struct acts *a, const struct part *part, size_t n_rows,
                  size_t p0, size_t p1)
{
    const size_t unit = panel_unit(part);
    const size_t most = unit == 2 ? TILE_ROWS : TILE_ROWS / 2;
    const size_t rows = n_rows < most ? n_rows : most;
    const size_t panels = TILE_FLOATS / rows / INFER_PANEL / unit * unit;

    if (p1 > part->l->w.n_panels)
        p1 = part->l->w.n_panels;
    for (size_t p = p0; p < p1; p += panels)
        for (size_t t = 0; t < n_rows; t += rows)
            tile(f, s, a, part, t, t + rows < n_rows ? t + rows : n_rows, p,
                 p + panels < p1 ? p + panels : p1);
}

/* Share the panels of all parts among the members; ends with a barrier. */
void infer_products(struct infer_forward *f, struct infer_member *me,
                    const struct acts *a, const struct part *parts, int n_parts,
                    size_t n_rows)
{
    struct scratch *s = &f->scratch[me->id];
    size_t total = 0, at = 0;

    for (int i = 0; i < n_parts; i++)
        total += padded_panels(&parts[i]);
    const size_t grain =
        infer_round_up(total / (size_t)me->n / (n_rows <= SMALL ? 2 : 8) + 1,
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
                tiles(f, s, a, &parts[i], n_rows, p0, p1);
            at += n;
        }
    }
    infer_team_barrier(me);
}
