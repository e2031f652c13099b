/*
 * session.c - bare forward passes for programs with a loop of their own.
 *
 * Each sequence owns a fixed run of KV blocks, so there is nothing to manage:
 * the block tables are filled once and appending is counting.
 */
#include "core/engine/session.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_ROWS = 512, MAX_ROWS = 65536, MAX_SEQS = 65536 };

struct infer_session {
    const struct infer_model *m;
    struct infer_kv kv;
    struct infer_forward *forward;
    uint32_t n_seqs, n_ctx, max_rows;
    uint32_t *blocks;             /* [n_seqs][blocks of n_ctx] */
    const uint32_t **tables;      /* [n_seqs] into blocks */
    uint32_t *n_tokens;           /* [n_seqs] */
    uint32_t *n_new;              /* [n_seqs] of the call in progress, else 0 */
    struct infer_batch_row *rows; /* [max_rows] */
};

static int check_params(struct infer_session *s,
                        const struct infer_session_params *p,
                        struct infer_error *err)
{
    const uint32_t n_ctx = s->m->hp.n_ctx;

    if (s->m->hp.arch->encoder)
        return infer_fail(err, INFER_EINVAL,
                          "the model is an encoder, it generates no text");
    s->n_seqs = p->n_seqs != 0 ? p->n_seqs : 1;
    s->n_ctx = p->n_ctx != 0 ? p->n_ctx : n_ctx;
    s->max_rows = p->max_rows != 0 ? p->max_rows : DEFAULT_ROWS;
    if (s->n_ctx > n_ctx)
        return infer_fail(err, INFER_EINVAL,
                          "a context of %u tokens: the model has %u", s->n_ctx,
                          n_ctx);
    if (s->n_seqs > MAX_SEQS || s->max_rows > MAX_ROWS)
        return infer_fail(err, INFER_EINVAL,
                          "%u sequences and %u rows: at most %d and %d",
                          s->n_seqs, s->max_rows, (int)MAX_SEQS, (int)MAX_ROWS);
    if (p->kv_type != INFER_KV_F16 && p->kv_type != INFER_KV_F32)
        return infer_fail(err, INFER_EINVAL, "unknown type of KV cache");
    return INFER_OK;
}

static int make_tables(struct infer_session *s, uint32_t per_seq,
                       struct infer_error *err)
{
    s->blocks = calloc((size_t)s->n_seqs * per_seq, sizeof(*s->blocks));
    s->tables = calloc(s->n_seqs, sizeof(uint32_t *));
    s->n_tokens = calloc(s->n_seqs, sizeof(*s->n_tokens));
    s->n_new = calloc(s->n_seqs, sizeof(*s->n_new));
    s->rows = calloc(s->max_rows, sizeof(*s->rows));
    if (s->blocks == NULL || s->tables == NULL || s->n_tokens == NULL ||
        s->n_new == NULL || s->rows == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for %u sequences",
                          s->n_seqs);
    for (uint32_t i = 0; i < s->n_seqs * per_seq; i++)
        s->blocks[i] = i;
    for (uint32_t i = 0; i < s->n_seqs; i++)
        s->tables[i] = s->blocks + (size_t)i * per_seq;
    return INFER_OK;
}

int infer_session_create(struct infer_session **out,
                         const struct infer_model *m, struct infer_team *team,
                         const struct infer_session_params *params,
                         struct infer_error *err)
{
    struct infer_session *s = calloc(1, sizeof(*s));
    uint64_t per_seq;
    int status;

    if (s == NULL)
        return infer_fail(err, INFER_ENOMEM, "no memory for a session");
    s->m = m;
    status = check_params(s, params, err);
    if (status != INFER_OK)
        goto out;
    per_seq = ((uint64_t)s->n_ctx + INFER_KV_BLOCK - 1) / INFER_KV_BLOCK;
    if (per_seq * s->n_seqs > INT32_MAX) {
        status = infer_fail(err, INFER_EINVAL,
                            "%u sequences of %u tokens are too many", s->n_seqs,
                            s->n_ctx);
        goto out;
    }
    status = make_tables(s, (uint32_t)per_seq, err);
    if (status != INFER_OK)
        goto out;
    status = infer_kv_create(&s->kv, m, params->kv_type,
                             (uint32_t)per_seq * s->n_seqs, err);
    if (status != INFER_OK)
        goto out;
    status = infer_forward_create(&s->forward, m, team, &s->kv, s->max_rows,
                                  s->max_rows, s->n_ctx, err);
    if (status != INFER_OK)
        goto out;
    *out = s;
    s = NULL;
out:
    infer_session_free(s);
    return status;
}

static int check_row(const struct infer_session *s,
                     const struct infer_row *rows, size_t i,
                     struct infer_error *err)
{
    const struct infer_row *r = &rows[i];

    if (r->seq >= s->n_seqs)
        return infer_fail(err, INFER_EINVAL, "row %zu: no sequence %u", i,
                          r->seq);
    if (r->token < 0 || (uint32_t)r->token >= s->m->hp.n_vocab)
        return infer_fail(err, INFER_EINVAL, "row %zu: no token %d", i,
                          r->token);
    if (s->n_tokens[r->seq] + s->n_new[r->seq] >= s->n_ctx)
        return infer_fail(err, INFER_ETOOLONG,
                          "row %zu: sequence %u is full with %u tokens", i,
                          r->seq, s->n_ctx);
    if (s->n_new[r->seq] > 0 && rows[i - 1].seq != r->seq)
        return infer_fail(err, INFER_EINVAL,
                          "row %zu: the rows of sequence %u are apart", i,
                          r->seq);
    return INFER_OK;
}

/* Check and translate; n_new counts the rows of each sequence. */
static int take_rows(struct infer_session *s, const struct infer_row *rows,
                     size_t n, struct infer_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const int status = check_row(s, rows, i, err);

        if (status != INFER_OK)
            return status;
        s->rows[i] = (struct infer_batch_row){.token = rows[i].token,
                                              .pos = s->n_tokens[rows[i].seq] +
                                                     s->n_new[rows[i].seq]++,
                                              .seq = rows[i].seq,
                                              .logits = rows[i].logits};
    }
    return INFER_OK;
}

int infer_session_eval(struct infer_session *s, const struct infer_row *rows,
                       size_t n, float *logits, struct infer_error *err)
{
    const size_t row_bytes = s->m->hp.n_vocab * sizeof(float);
    struct infer_batch batch = {
        .rows = s->rows, .n_rows = n, .blocks = s->tables};
    int status;

    if (n == 0 || n > s->max_rows)
        return infer_fail(err, INFER_EINVAL, "%zu rows are not 1..%u", n,
                          s->max_rows);
    status = take_rows(s, rows, n, err);
    if (status == INFER_OK) {
        infer_forward_run(s->forward, &batch);
        for (uint32_t i = 0; i < s->n_seqs; i++)
            s->n_tokens[i] += s->n_new[i];
    }
    memset(s->n_new, 0, s->n_seqs * sizeof(*s->n_new));
    if (status != INFER_OK || logits == NULL)
        return status;
    for (size_t i = 0, wanted = 0; i < n; i++)
        if (rows[i].logits) {
            memcpy(logits, infer_forward_logits(s->forward, wanted++),
                   row_bytes);
            logits += s->m->hp.n_vocab;
        }
    return INFER_OK;
}

const float *infer_session_logits(const struct infer_session *s, size_t i)
{
    return infer_forward_logits(s->forward, i);
}

void infer_session_rewind(struct infer_session *s, uint32_t seq,
                          uint32_t n_tokens)
{
    if (seq < s->n_seqs && n_tokens < s->n_tokens[seq])
        s->n_tokens[seq] = n_tokens;
}

void infer_session_free(struct infer_session *s)
{
    if (s == NULL)
        return;
    infer_forward_free(s->forward);
    infer_kv_release(&s->kv);
    free(s->blocks);
    free(s->tables);
    free(s->n_tokens);
    free(s->n_new);
    free(s->rows);
    free(s);
}

struct infer_forward *infer_session_forward(struct infer_session *s)
{
    return s->forward;
}
