/*
 * generation_json.c - replies and events of the generating routes, as JSON.
 *
 * The shapes share nearly everything: OpenAI's have `logprobs: null` where the
 * native one leaves it out, and no timings.
 */
#include "server/generation.h"
#include "server/jsonout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *generation_finish_name(enum infer_finish f)
{
    switch (f) {
    case INFER_FINISH_STOP:
        return "stop";
    case INFER_FINISH_LENGTH:
        return "length";
    case INFER_FINISH_CANCELLED:
        return "cancelled";
    case INFER_FINISH_DEADLINE:
        return "deadline";
    case INFER_FINISH_ERROR:
    case INFER_FINISH_NONE:
        break;
    }
    return NULL;
}

static void write_head(struct json *j, const struct generation *g, bool delta)
{
    static const char *const objects[][2] = {
        [SHAPE_NATIVE] = {"generation", "generation.chunk"},
        [SHAPE_COMPLETION] = {"text_completion", "text_completion"},
        [SHAPE_CHAT] = {"chat.completion", "chat.completion.chunk"},
    };

    json_open(j, '{');
    json_key_str(j, "id", g->id);
    json_key_str(j, "object", objects[g->shape][delta]);
    json_key(j, "created");
    json_int(j, g->created);
    json_key_str(j, "model", g->worker->config->name);
}

/* ---- tokens -------------------------------------------------------------- */

static bool is_utf8(const char *s, size_t n)
{
    while (n) {
        const size_t len = utf8_char(s, n);

        if (len == 0)
            return false;
        s += len;
        n -= len;
    }
    return true;
}

/* OpenAI writes what is no text as bytes:\xe2\x96. */
static void token_text(struct buf *out, const struct infer_model *m, int32_t id)
{
    size_t n = 0;
    const char *bytes = infer_token_bytes(m, id, true, &n);

    if (!bytes)
        return;
    if (is_utf8(bytes, n)) {
        buf_add(out, bytes, n);
        return;
    }
    buf_str(out, "bytes:");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "\\x%02x", (unsigned char)bytes[i]);
}

void generation_write_token(struct json *j, const struct infer_model *m,
                            int32_t id)
{
    struct buf text = {0};

    token_text(&text, m, id);
    json_text(j, text.data, text.len);
    if (text.failed)
        j->out->failed = true;
    buf_release(&text);
}

/* Two tokens may have the same text; as keys of one object the likelier of
 * them stands for both. */
static bool text_is_earlier(const struct infer_model *m,
                            const struct infer_logprob *top, uint32_t i)
{
    size_t n, other_n;
    const char *text = infer_token_bytes(m, top[i].id, true, &n);

    for (uint32_t k = 0; k < i; k++) {
        const char *other = infer_token_bytes(m, top[k].id, true, &other_n);

        if (text && other && n == other_n && memcmp(text, other, n) == 0)
            return true;
    }
    return false;
}

static void write_top(struct json *j, const struct infer_model *m,
                      const struct infer_logprob *top, uint32_t n)
{
    if (n == 0) {
        json_null(j);
        return;
    }
    json_open(j, '{');
    for (uint32_t i = 0; i < n; i++) {
        if (text_is_earlier(m, top, i))
            continue;
        generation_write_token(j, m, top[i].id);
        buf_char(j->out, ':');
        j->comma = false;
        json_float(j, top[i].logprob);
    }
    json_close(j, '}');
}

const struct chunk_token *generation_tokens(const struct chunk *c, size_t *n)
{
    *n = c->tokens.len / sizeof(struct chunk_token);
    return (const void *)c->tokens.data;
}

static void write_logprobs(struct json *j, const struct generation *g,
                           const struct chunk *c)
{
    const struct infer_model *m = g->worker->model;
    const struct infer_logprob *tops = (const void *)c->tops.data;
    size_t n;
    const struct chunk_token *t = generation_tokens(c, &n);

    json_open(j, '{');
    json_key(j, "tokens");
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        generation_write_token(j, m, t[i].id);
    json_close(j, ']');
    json_key(j, "token_logprobs");
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        json_float(j, t[i].logprob);
    json_close(j, ']');
    json_key(j, "top_logprobs");
    if (g->logprobs == 0) {
        json_null(j);
    } else {
        json_open(j, '[');
        for (size_t i = 0; i < n; i++)
            write_top(j, m, tops ? tops + t[i].first_top : NULL, t[i].n_top);
        json_close(j, ']');
    }
    json_key(j, "text_offset");
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        json_uint(j, t[i].text_offset);
    json_close(j, ']');
    json_close(j, '}');
}

static void write_ids(struct json *j, const int32_t *ids, size_t n)
{
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        json_int(j, ids[i]);
    json_close(j, ']');
}

static void write_token_ids(struct json *j, const struct generation *g,
                            const struct job *job, const struct chunk *c,
                            bool first)
{
    const struct prompt *p = &job->gen.prompts[c->choice / g->n];
    size_t n;
    const struct chunk_token *t = generation_tokens(c, &n);

    if (first) {
        json_key(j, "prompt_token_ids");
        write_ids(j, p->tokens.ids, p->tokens.n);
    }
    json_key(j, "token_ids");
    json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        if (!t[i].given)
            json_int(j, t[i].id);
    json_close(j, ']');
}

/* ---- choices, usage, timings --------------------------------------------- */

static void write_choice(struct json *j, const struct generation *g,
                         const struct job *job, const struct chunk *c,
                         bool first, bool delta)
{
    const char *finish = generation_finish_name(c->finish);
    const bool chat = g->shape == SHAPE_CHAT;

    json_open(j, '{');
    json_key_uint(j, "index", c->choice);
    if (chat && delta) {
        generation_write_chat_delta(j, c, first);
    } else if (chat) {
        generation_write_message(j, c);
    } else {
        json_key(j, "text");
        json_text(j, c->text.data, c->text.len);
    }
    json_key(j, "finish_reason");
    if (finish)
        json_str(j, finish);
    else
        json_null(j);
    if (g->logprobs >= 0) {
        json_key(j, "logprobs");
        if (chat)
            generation_write_chat_logprobs(j, g, c);
        else
            write_logprobs(j, g, c);
    } else if (g->shape != SHAPE_NATIVE) {
        json_key(j, "logprobs");
        json_null(j);
    }
    if (g->return_token_ids)
        write_token_ids(j, g, job, c, first);
    json_close(j, '}');
}

static void write_counts(struct json *j, const struct generation *g)
{
    json_key(j, "usage");
    json_open(j, '{');
    json_key_uint(j, "prompt_tokens", g->n_prompt);
    json_key_uint(j, "completion_tokens", g->n_generated);
    json_key_uint(j, "total_tokens", (uint64_t)g->n_prompt + g->n_generated);
    json_key(j, "prompt_tokens_details");
    json_open(j, '{');
    json_key_uint(j, "cached_tokens", g->n_cached);
    json_close(j, '}');
    json_close(j, '}');
}

/* Milliseconds between two times; 0 if one is missing. */
static double span_ms(uint64_t from, uint64_t to)
{
    return from && to > from ? (double)(to - from) * 1e-6 : 0;
}

static void write_timings(struct json *j, const struct generation *g)
{
    const double generate = span_ms(g->first_token_ns, g->last_ns);

    json_key(j, "timings");
    json_open(j, '{');
    json_key(j, "queue_ms");
    json_ms(j, span_ms(g->arrived_ns, g->started_ns));
    json_key(j, "prompt_ms");
    json_ms(j, span_ms(g->started_ns,
                       g->first_token_ns ? g->first_token_ns : g->last_ns));
    json_key(j, "generate_ms");
    json_ms(j, generate);
    json_key(j, "tokens_per_second");
    json_ms(j, generate > 0 ? g->n_generated * 1e3 / generate : 0);
    json_close(j, '}');
}

/* What a reply and the last event of a stream end with. */
static void write_end(struct json *j, const struct generation *g)
{
    write_counts(j, g);
    if (g->shape == SHAPE_NATIVE)
        write_timings(j, g);
    json_close(j, '}');
}

void generation_write_reply(struct buf *out, const struct generation *g,
                            const struct job *job)
{
    struct json j = json_into(out);

    write_head(&j, g, false);
    json_key(&j, "choices");
    json_open(&j, '[');
    for (uint32_t i = 0; i < g->n_choices; i++)
        write_choice(&j, g, job, g->held[i], true, false);
    json_close(&j, ']');
    write_end(&j, g);
}

void generation_write_delta(struct buf *out, const struct generation *g,
                            const struct job *job, const struct chunk *c,
                            bool first)
{
    struct json j = json_into(out);

    write_head(&j, g, true);
    json_key(&j, "choices");
    json_open(&j, '[');
    write_choice(&j, g, job, c, first, true);
    json_close(&j, ']');
    if (g->include_usage) {
        json_key(&j, "usage");
        json_null(&j);
    }
    json_close(&j, '}');
}

void generation_write_usage(struct buf *out, const struct generation *g)
{
    struct json j = json_into(out);

    write_head(&j, g, true);
    json_key(&j, "choices");
    json_open(&j, '[');
    json_close(&j, ']');
    write_end(&j, g);
}
