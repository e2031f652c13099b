/*
 * tokenjob.c - /v1/tokenize and /v1/detokenize, on the worker's thread.
 *
 * A megabyte of text makes a reply of twenty; the loop has no time to write
 * it, so the worker does.
 *
 * Where a token begins and ends in the text is found by walking along it: the
 * bytes a token stands for are either next in the text, or next after the
 * space that SentencePiece puts before a text. A normalizer may have changed
 * the text; such a token takes as many bytes as it has, as far as there are.
 */
#include "server/tokenjob.h"
#include "server/jsonout.h"

#include <stdlib.h>
#include <string.h>

static size_t bytes_taken(const char *token, size_t n, const char *text,
                          size_t left)
{
    if (n <= left && memcmp(token, text, n) == 0)
        return n;
    if (n > 0 && token[0] == ' ' && n - 1 <= left &&
        memcmp(token + 1, text, n - 1) == 0)
        return n - 1;
    return n < left ? n : left;
}

static void write_token(struct json *j, const struct infer_model *m, int32_t id,
                        const char *text, size_t len, size_t *at)
{
    size_t n, shown_len;
    const char *bytes = infer_token_bytes(m, id, false, &n);
    const char *shown = infer_token_bytes(m, id, true, &shown_len);
    size_t end = *at;

    if (bytes)
        end += bytes_taken(bytes, n, text + *at, len - *at);
    json_open(j, '{');
    json_key(j, "id");
    json_int(j, id);
    json_key(j, "text");
    json_text(j, shown ? shown : "", shown ? shown_len : 0);
    json_key_uint(j, "start", *at);
    json_key_uint(j, "end", end);
    json_close(j, '}');
    *at = end;
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
    size_t at = 0;
    int rc = infer_tokenize(m, p->text, p->len, job->add_special, true,
                            &p->tokens, err);

    if (rc)
        return rc;
    json_open(&j, '{');
    json_key(&j, "tokens");
    json_open(&j, '[');
    for (size_t i = 0; i < p->tokens.n && !body->failed; i++)
        write_token(&j, m, p->tokens.ids[i], p->text, p->len, &at);
    json_close(&j, ']');
    json_close(&j, '}');
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
