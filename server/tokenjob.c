/*
 * tokenjob.c - /v1/tokenize and /v1/detokenize, on the worker's thread.
 *
 * A megabyte of text makes a reply of twenty; the loop has no time to write
 * it, so the worker does.
 */
#include "server/tokenjob.h"
#include "server/jsonout.h"

#include <stdlib.h>
#include <string.h>

static void write_token(struct json *j, const struct infer_model *m, int32_t id,
                        struct infer_span at)
{
    size_t n;
    const char *shown = infer_token_bytes(m, id, true, &n);

    json_open(j, '{');
    json_key(j, "id");
    json_int(j, id);
    json_key(j, "text");
    json_text(j, shown ? shown : "", shown ? n : 0);
    json_key_uint(j, "start", at.begin);
    json_key_uint(j, "end", at.end);
    json_close(j, '}');
}

static int finish(struct buf *body, struct infer_error *err)
{
    if (!body->failed)
        return 0;
    err->status = INFER_ENOMEM;
    strcpy(err->text, "out of memory");
    return INFER_ENOMEM;
}

int tokenize_job(const struct infer_model *m, struct job *job, struct buf *body,
                 struct infer_error *err)
{
    struct prompt *p = &job->input;
    struct json j = json_into(body);
    struct infer_span *spans = NULL;
    int rc = infer_tokenize_spans(m, p->text, p->len, job->add_special, true,
                                  &p->tokens, &spans, err);

    if (rc)
        return rc;
    json_open(&j, '{');
    json_key(&j, "tokens");
    json_open(&j, '[');
    for (size_t i = 0; i < p->tokens.n && !body->failed; i++)
        write_token(&j, m, p->tokens.ids[i], spans[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    free(spans);
    return finish(body, err);
}

int detokenize_job(const struct infer_model *m, struct job *job,
                   struct buf *body, struct infer_error *err)
{
    const struct infer_tokens *t = &job->input.tokens;
    struct json j = json_into(body);
    char *text = NULL;
    size_t len = 0;
    int rc = infer_detokenize(m, t->ids, t->n, false, &text, &len, err);

    if (rc)
        return rc;
    json_open(&j, '{');
    json_key(&j, "text");
    json_text(&j, text, len);
    json_close(&j, '}');
    free(text);
    return finish(body, err);
}

/* ---- text-embeddings-inference --------------------------------------------
 */

static void tei_token(struct json *j, const struct infer_model *m, int32_t id,
                      struct infer_span at)
{
    size_t n, shown_len;
    const char *bytes = infer_token_bytes(m, id, false, &n);
    const char *shown = infer_token_bytes(m, id, true, &shown_len);
    const bool special = shown_len > 0 && n == 0;

    (void)bytes;
    json_open(j, '{');
    json_key(j, "id");
    json_int(j, id);
    json_key(j, "text");
    json_text(j, shown ? shown : "", shown ? shown_len : 0);
    json_key(j, "special");
    json_bool(j, special);
    json_key(j, "start");
    if (special && at.begin == at.end)
        json_null(j);
    else
        json_uint(j, at.begin);
    json_key(j, "stop");
    if (special && at.begin == at.end)
        json_null(j);
    else
        json_uint(j, at.end);
    json_close(j, '}');
}

int tei_tokenize_job(const struct infer_model *m, struct job *job,
                     struct buf *body, struct infer_error *err)
{
    struct json j = json_into(body);

    json_open(&j, '[');
    for (size_t i = 0; i < job->enc.n_inputs; i++) {
        const struct input *in = &job->enc.inputs[i];
        struct infer_span *spans = NULL;
        struct infer_tokens t = {0};
        const int rc = infer_tokenize_spans(
            m, in->text, in->len, job->add_special, true, &t, &spans, err);

        if (rc)
            return rc;
        json_open(&j, '[');
        for (size_t k = 0; k < t.n && !body->failed; k++)
            tei_token(&j, m, t.ids[k], spans[k]);
        json_close(&j, ']');
        free(spans);
        infer_tokens_release(&t);
    }
    json_close(&j, ']');
    return finish(body, err);
}

int tei_decode_job(const struct infer_model *m, struct job *job,
                   struct buf *body, struct infer_error *err)
{
    struct json j = json_into(body);

    json_open(&j, '[');
    for (size_t i = 0; i < job->enc.n_inputs; i++) {
        const struct infer_tokens *t = &job->enc.inputs[i].given;
        char *text = NULL;
        size_t len = 0;
        const int rc = infer_detokenize(m, t->ids, t->n, job->add_special,
                                        &text, &len, err);

        if (rc)
            return rc;
        json_text(&j, text, len);
        free(text);
    }
    json_close(&j, ']');
    return finish(body, err);
}
