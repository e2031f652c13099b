/*
 * layers.c - the order of phases of one pass through the layers.
 *
 * Vaswani et al. 2017 (arXiv:1706.03762) with the switches of infer_arch; the
 * encoder's are Devlin et al. 2018 (arXiv:1810.04805).
 */
#include "core/model/forward_parts.h"

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
        .keep = hp->arch->post_norm ? f->x : NULL,
        .wanted = infer_act_wants(&y->q) | infer_act_wants(&y->k) |
                  infer_act_wants(&y->v),
        .tap = infer_tap(f->m, INFER_SITE_QKV, layer),
    };
    const struct act_source mixed = {
        .x = f->attn,
        .stride = f->attn_stride,
        .n_rows = f->n_rows,
        .k = (size_t)hp->n_heads * hp->d_head,
        .wanted = infer_act_wants(&y->out),
        .tap = infer_tap(f->m, INFER_SITE_OUT, layer),
    };

    infer_products(f, me, infer_acts_make(f, me, &norm), qkv, 3, f->n_rows);
    infer_attend(f, me, layer);
    infer_products(f, me, infer_acts_make(f, me, &mixed), &out, 1, f->n_rows);
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
        .keep = f->m->hp.arch->post_norm ? f->x : NULL,
        .wanted = infer_act_wants(&y->up) | infer_act_wants(&y->gate),
        .tap = infer_tap(f->m, INFER_SITE_UP, layer),
    };

    infer_products(f, me, infer_acts_make(f, me, &norm), &up, 1, f->n_rows);
    infer_products(f, me, &f->ffn, &down, 1, f->n_rows);
}

static void embed(struct infer_forward *f, size_t t, float *tmp)
{
    const struct infer_hparams *hp = &f->m->hp;
    const struct infer_batch_row *row = &f->batch->rows[t];
    const struct infer_gguf_tensor *tok = &f->m->tok_embd;
    const struct infer_gguf_tensor *pos = &f->m->pos_embd;
    float *x = f->x + t * f->x_stride;

    infer_dequantize(tok->type,
                     (const uint8_t *)tok->data +
                         (size_t)row->token *
                             infer_qtype_bytes(tok->type, hp->d_model),
                     x, hp->d_model);
    if (f->m->type_embd)
        f->m->kern.add(x, f->m->type_embd, hp->d_model);
    if (!pos->data)
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
        .wanted = infer_act_wants(&m->head),
        .tap = infer_tap(m, INFER_SITE_HEAD, 0),
    };

    infer_products(f, me, infer_acts_make(f, me, &norm), &part, 1, f->n_out);
}

void infer_layers(struct infer_forward *f, struct infer_member *me)
{
    struct acts *own = &f->scratch[me->id].acts;

    for (size_t t = (size_t)me->id; t < f->n_rows; t += (size_t)me->n)
        embed(f, t, infer_act_row(own, 0));
    infer_team_barrier(me);
    for (uint32_t i = 0; i < f->m->hp.n_layers; i++) {
        attention_block(f, me, i);
        ffn_block(f, me, i);
    }
}

void infer_decode_batch(struct infer_member *me, void *arg)
{
    struct infer_forward *f = arg;

    infer_layers(f, me);
    if (f->n_out)
        head(f, me);
}
