/*
 * encoder.c - whole sequences in, pooled vectors or class scores out.
 *
 * The layers are the decoder's (layers.c), where every row sees all keys of its
 * sequence. Sequences lie behind one another without padding; each begins a
 * new KV block, of a cache of one layer that the next layer overwrites. Behind
 * the layers rows are normalized, pooled by sequence, and multiplied by the
 * head. What a sequence becomes depends on its own rows only and every sum has
 * one order, so company and threads cannot show.
 *
 *   embed | layers | final norm | pool | dense, tanh | output
 */
#include "core/model/forward_parts.h"

#include "core/base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_TOKENS = 2048,
    DEFAULT_SEQS = 256,
    MAX_TOKENS = 1 << 20,
    MAX_SEQS = 1 << 16
};

struct infer_encoder {
    const struct infer_model *m;
    enum infer_pooling pooling;
    bool head; /* results are the head's */
    uint32_t max_tokens, max_seqs;
    struct infer_kv kv;
    struct infer_forward *forward;
    struct infer_batch_row *rows; /* [max_tokens] */
    uint32_t *blocks;             /* [kv.n_blocks] 0, 1, 2, ... */
    const uint32_t **tables;      /* [max_seqs] into blocks */
    uint32_t *row0;               /* [max_seqs + 1] first row of a sequence */
    size_t stride, out_stride;    /* floats */
    float *pooled;                /* [max_seqs][stride] */
    float *dense;                 /* [max_seqs][stride] */
    float *outputs;               /* [max_seqs][out_stride] */

    /* the batch in progress */
    const struct infer_sequence *seqs;
    size_t n_seqs;
};

/* ---- creation -------------------------------------------------------------
 */

static int resolve(struct infer_encoder *e,
                   const struct infer_encoder_params *p,
                   struct infer_error *err)
{
    const uint32_t n_ctx = e->m->hp.n_ctx;

    if (!e->m->hp.arch->encoder)
        return infer_fail(err, INFER_EINVAL,
                          "the model generates text, it is "
                          "no encoder");
    e->pooling = p->pooling ? p->pooling : e->m->result.pooling;
    e->head = !p->pooling && e->m->result.n_classes > 0;
    e->max_tokens = p->max_tokens            ? p->max_tokens
                    : n_ctx > DEFAULT_TOKENS ? n_ctx
                                             : DEFAULT_TOKENS;
    e->max_seqs = p->max_seqs ? p->max_seqs : DEFAULT_SEQS;
    if (e->max_seqs > e->max_tokens)
        e->max_seqs = e->max_tokens;
    if (e->max_tokens > MAX_TOKENS || e->max_seqs > MAX_SEQS)
        return infer_fail(err, INFER_EINVAL,
                          "batches of %u tokens and %u sequences: at most %d "
                          "and %d",
                          e->max_tokens, e->max_seqs, MAX_TOKENS, MAX_SEQS);
    if (e->pooling > INFER_POOLING_LAST)
        return infer_fail(err, INFER_EINVAL, "unknown pooling");
    if (e->head && e->pooling == INFER_POOLING_NONE)
        return infer_fail(err, INFER_EINVAL,
                          "a head needs pooled vectors, the file pools none");
    return INFER_OK;
}

static float *floats(size_t rows, size_t stride)
{
    return aligned_alloc(64, infer_round_up(rows * stride * sizeof(float), 64));
}

static int create_memory(struct infer_encoder *e, uint32_t n_blocks,
                         struct infer_error *err)
{
    e->stride = infer_round_up(e->m->hp.d_model, 2 * INFER_PANEL);
    e->out_stride = infer_round_up(e->m->result.n_classes, 2 * INFER_PANEL);
    e->rows = calloc(e->max_tokens, sizeof(*e->rows));
    e->blocks = calloc(n_blocks, sizeof(*e->blocks));
    e->tables = calloc(e->max_seqs, sizeof(uint32_t *));
    e->row0 = calloc(e->max_seqs + 1, sizeof(*e->row0));
    e->pooled = floats(e->max_seqs, e->stride);
    if (e->head) {
        e->dense = floats(e->max_seqs, e->stride);
        e->outputs = floats(e->max_seqs, e->out_stride);
    }
    if (!e->rows || !e->blocks || !e->tables || !e->row0 || !e->pooled ||
        (e->head && (!e->dense || !e->outputs)))
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for batches of %u tokens",
                          e->max_tokens);
    memset(e->pooled, 0, e->max_seqs * e->stride * sizeof(float));
    for (uint32_t i = 0; i < n_blocks; i++)
        e->blocks[i] = i;
    return INFER_OK;
}

int infer_encoder_create(struct infer_encoder **out,
                         const struct infer_model *m, struct infer_team *team,
                         const struct infer_encoder_params *params,
                         struct infer_error *err)
{
    const struct infer_encoder_params none = {0};
    struct infer_encoder *e = calloc(1, sizeof(*e));
    uint32_t n_blocks = 0;
    int status;

    if (!e)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    e->m = m;
    status = resolve(e, params ? params : &none, err);
    if (!status) {
        /* each sequence may leave a block unfilled */
        n_blocks = e->max_tokens / INFER_KV_BLOCK + e->max_seqs;
        status = create_memory(e, n_blocks, err);
    }
    if (!status)
        status = infer_kv_create(&e->kv, m, INFER_KV_F32, n_blocks, err);
    if (!status)
        status = infer_forward_create(&e->forward, m, team, &e->kv,
                                      e->max_tokens, 0, m->hp.n_ctx, err);
    if (status)
        infer_encoder_free(e);
    else
        *out = e;
    return status;
}

void infer_encoder_free(struct infer_encoder *e)
{
    if (!e)
        return;
    infer_forward_free(e->forward);
    infer_kv_release(&e->kv);
    free(e->rows);
    free(e->blocks);
    free(e->tables);
    free(e->row0);
    free(e->pooled);
    free(e->dense);
    free(e->outputs);
    free(e);
}

uint32_t infer_encoder_max_tokens(const struct infer_encoder *e)
{
    return e->max_tokens;
}

uint32_t infer_encoder_max_seqs(const struct infer_encoder *e)
{
    return e->max_seqs;
}

/* ---- behind the layers ------------------------------------------------------
 */

static void scale(float *y, size_t n, size_t by)
{
    const float f = by ? 1.0f / (float)by : 0.0f;

    for (size_t k = 0; k < n; k++)
        y[k] *= f;
}

/* y += mean of rows[n] of the n-gram table. */
static void add_ngrams(const struct infer_encoder *e, float *y,
                       float *const tmp[2], const uint32_t *rows, uint32_t n)
{
    const size_t d = e->m->hp.d_model;
    const struct infer_gguf_tensor *t = &e->m->ngram_embd;

    if (n == 0)
        return;
    memset(tmp[1], 0, d * sizeof(float));
    for (uint32_t i = 0; i < n; i++) {
        infer_dequantize(t->type,
                         (const uint8_t *)t->data +
                             rows[i] * infer_qtype_bytes(t->type, d),
                         tmp[0], d);
        e->m->kern.add(tmp[1], tmp[0], d);
    }
    scale(tmp[1], d, n);
    e->m->kern.add(y, tmp[1], d);
}

/* The sequence's vector: of its tokens' rows, plus means of its n-grams'. */
static void pool(struct infer_encoder *e, size_t i, float *const tmp[2])
{
    const struct infer_forward *f = e->forward;
    const struct infer_sequence *s = &e->seqs[i];
    const size_t d = e->m->hp.d_model;
    const float *x = f->x + e->row0[i] * f->x_stride;
    float *y = e->pooled + i * e->stride;

    if (e->pooling != INFER_POOLING_MEAN) {
        const size_t at = e->pooling == INFER_POOLING_CLS ? 0 : s->n - 1;

        memcpy(y, x + at * f->x_stride, d * sizeof(*y));
    } else {
        memset(y, 0, d * sizeof(*y));
        for (uint32_t t = 0; t < s->n; t++)
            e->m->kern.add(y, x + t * f->x_stride, d);
        scale(y, d, s->n);
    }
    add_ngrams(e, y, tmp, s->ngrams, s->n_words);
    if (s->n_chars)
        add_ngrams(e, y, tmp, s->ngrams + s->n_words, s->n_chars);
}

/* The final norm, where there is one; each member its rows. */
static void norm_rows(struct infer_encoder *e, struct infer_member *me)
{
    const struct infer_forward *f = e->forward;
    const struct infer_model *m = e->m;
    size_t t0, t1;

    infer_team_share(me, f->n_rows, 1, &t0, &t1);
    for (size_t t = t0; t < t1 && m->out_norm; t++) {
        float *x = f->x + t * f->x_stride;

        if (m->hp.arch->norm == INFER_NORM_RMS)
            m->kern.rmsnorm(x, x, m->out_norm, m->hp.d_model, m->hp.norm_eps);
        else
            m->kern.layernorm(x, x, m->out_norm, m->out_norm_bias,
                              m->hp.d_model, m->hp.norm_eps);
    }
    infer_team_barrier(me);
}

/* One product of all sequences. */
static void multiply(struct infer_encoder *e, struct infer_member *me,
                     const struct infer_linear *l, const float *x, float *y,
                     size_t ldy)
{
    const struct part part = {.l = l, .y = y, .ldy = ldy};
    const struct act_source source = {.x = x,
                                      .stride = e->stride,
                                      .n_rows = e->n_seqs,
                                      .k = e->m->hp.d_model,
                                      .wanted = infer_act_wants(l)};

    infer_products(e->forward, me, infer_acts_make(e->forward, me, &source),
                   &part, 1, e->n_seqs);
}

static void apply_head(struct infer_encoder *e, struct infer_member *me)
{
    const struct infer_model *m = e->m;
    const float *x = e->pooled;
    size_t i0, i1;

    if (m->cls_dense.w.data) {
        multiply(e, me, &m->cls_dense, x, e->dense, e->stride);
        infer_team_share(me, e->n_seqs, 1, &i0, &i1);
        for (size_t i = i0; i < i1; i++)
            for (size_t k = 0; k < m->hp.d_model; k++)
                e->dense[i * e->stride + k] =
                    tanhf(e->dense[i * e->stride + k]);
        infer_team_barrier(me);
        x = e->dense;
    }
    multiply(e, me, &m->cls_output, x, e->outputs, e->out_stride);
}

static void encode_batch(struct infer_member *me, void *arg)
{
    struct infer_encoder *e = arg;
    struct infer_forward *f = e->forward;
    float *const tmp[2] = {infer_act_row(&f->scratch[me->id].acts, 0),
                           infer_act_row(&f->scratch[me->id].acts, 1)};

    if (f->n_rows) {
        infer_layers(f, me);
        norm_rows(e, me);
    }
    if (e->pooling == INFER_POOLING_NONE)
        return;
    for (int64_t i = infer_team_take(me, (int64_t)e->n_seqs, 1); i >= 0;
         i = infer_team_take(me, (int64_t)e->n_seqs, 1))
        pool(e, (size_t)i, tmp);
    infer_team_barrier(me);
    if (e->head)
        apply_head(e, me);
}

/* ---- a batch --------------------------------------------------------------
 */

static int check(const struct infer_encoder *e, size_t i,
                 const struct infer_sequence *s, struct infer_error *err)
{
    const struct infer_hparams *hp = &e->m->hp;

    if (s->n == 0 && e->pooling != INFER_POOLING_MEAN)
        return infer_fail(err, INFER_EINVAL, "sequence %zu has no tokens", i);
    if (s->n > hp->n_ctx)
        return infer_fail(err, INFER_ETOOLONG,
                          "sequence %zu has %u tokens, the model's context is "
                          "%u",
                          i, s->n, hp->n_ctx);
    for (uint32_t t = 0; t < s->n; t++)
        if (s->ids[t] < 0 || (uint32_t)s->ids[t] >= hp->n_vocab)
            return infer_fail(err, INFER_EINVAL,
                              "sequence %zu: token id %d is outside the "
                              "vocabulary of %u",
                              i, s->ids[t], hp->n_vocab);
    for (size_t t = 0; t < (size_t)s->n_words + s->n_chars; t++)
        if (!e->m->ngram_embd.data || s->ngrams[t] >= e->m->ngram_embd.dims[1])
            return infer_fail(err, INFER_EINVAL,
                              "sequence %zu: n-gram %u is outside the table", i,
                              s->ngrams[t]);
    return INFER_OK;
}

int infer_encoder_check(const struct infer_encoder *e,
                        const struct infer_sequence *seq,
                        struct infer_error *err)
{
    return check(e, 0, seq, err);
}

/* Rows and blocks of the batch. */
static int lay_out(struct infer_encoder *e, const struct infer_sequence *seqs,
                   size_t n_seqs, uint32_t *n_rows, struct infer_error *err)
{
    uint32_t row = 0, block = 0;

    for (size_t i = 0; i < n_seqs; i++) {
        const int status = check(e, i, &seqs[i], err);

        if (status)
            return status;
        if (seqs[i].n > e->max_tokens - row)
            return infer_fail(err, INFER_EINVAL,
                              "a batch of more than %u tokens", e->max_tokens);
        e->tables[i] = e->blocks + block;
        e->row0[i] = row;
        for (uint32_t t = 0; t < seqs[i].n; t++)
            e->rows[row++] = (struct infer_batch_row){
                .token = seqs[i].ids[t], .pos = t, .seq = (uint32_t)i};
        block += (seqs[i].n + INFER_KV_BLOCK - 1) / INFER_KV_BLOCK;
    }
    *n_rows = row;
    return INFER_OK;
}

static void copy_rows(float *out, const float *x, size_t n, size_t width,
                      size_t stride)
{
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * width, x + i * stride, width * sizeof(*out));
}

int infer_encoder_run(struct infer_encoder *e,
                      const struct infer_sequence *seqs, size_t n_seqs,
                      float *out, struct infer_error *err)
{
    struct infer_forward *f = e->forward;
    uint32_t n_rows = 0;
    int status;

    if (n_seqs == 0 || n_seqs > e->max_seqs)
        return infer_fail(err, INFER_EINVAL,
                          "a batch of %zu sequences, 1 to %u are possible",
                          n_seqs, e->max_seqs);
    status = lay_out(e, seqs, n_seqs, &n_rows, err);
    if (status)
        return status;
    e->seqs = seqs;
    e->n_seqs = n_seqs;
    infer_forward_plan(f, &(struct infer_batch){.rows = e->rows,
                                                .n_rows = n_rows,
                                                .blocks = e->tables});
    infer_team_run(f->team, encode_batch, e);
    if (e->pooling == INFER_POOLING_NONE)
        copy_rows(out, f->x, n_rows, e->m->hp.d_model, f->x_stride);
    else if (e->head)
        copy_rows(out, e->outputs, n_seqs, e->m->result.n_classes,
                  e->out_stride);
    else
        copy_rows(out, e->pooled, n_seqs, e->m->hp.d_model, e->stride);
    return INFER_OK;
}
