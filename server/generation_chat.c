/* generation_chat.c - what a choice of /v1/chat/completions has in place of a
 * text: a message, its deltas, and log-probabilities token by token. */
#include "server/generation.h"

void generation_write_message(struct json *j, const struct chunk *c)
{
    json_key(j, "message");
    json_open(j, '{');
    json_key_str(j, "role", "assistant");
    json_key(j, "content");
    json_text(j, c->text.data, c->text.len);
    json_key(j, "refusal");
    json_null(j);
    json_close(j, '}');
}

/* The role comes with the first delta; the last may be empty. */
void generation_write_chat_delta(struct json *j, const struct chunk *c,
                                 bool first)
{
    json_key(j, "delta");
    json_open(j, '{');
    if (first)
        json_key_str(j, "role", "assistant");
    if (first || c->text.len > 0) {
        json_key(j, "content");
        json_text(j, c->text.data, c->text.len);
    }
    json_close(j, '}');
}

/* token, logprob, bytes: the members of both a token and an alternative. */
static void write_scored(struct json *j, const struct infer_model *m,
                         int32_t id, float logprob)
{
    size_t n = 0;
    const char *bytes = infer_token_bytes(m, id, true, &n);

    json_key(j, "token");
    generation_write_token(j, m, id);
    json_key(j, "logprob");
    json_float(j, logprob);
    json_key(j, "bytes");
    json_open(j, '[');
    for (size_t i = 0; bytes && i < n; i++)
        json_uint(j, (unsigned char)bytes[i]);
    json_close(j, ']');
}

void generation_write_chat_logprobs(struct json *j, const struct generation *g,
                                    const struct chunk *c)
{
    const struct infer_model *m = g->worker->model;
    const struct infer_logprob *tops = (const void *)c->tops.data;
    size_t n;
    const struct chunk_token *t = generation_tokens(c, &n);

    json_open(j, '{');
    json_key(j, "content");
    json_open(j, '[');
    for (size_t i = 0; i < n; i++) {
        json_open(j, '{');
        write_scored(j, m, t[i].id, t[i].logprob);
        json_key(j, "top_logprobs");
        json_open(j, '[');
        for (uint32_t k = 0; k < t[i].n_top; k++) {
            json_open(j, '{');
            write_scored(j, m, tops[t[i].first_top + k].id,
                         tops[t[i].first_top + k].logprob);
            json_close(j, '}');
        }
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
    json_key(j, "refusal");
    json_null(j);
    json_close(j, '}');
}
