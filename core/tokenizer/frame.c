/*
 * frame.c - a text, or a pair of texts, as an encoder is trained to read it.
 *
 *   [BOS or CLS] text [SEP, EOS]        [BOS or CLS] text SEP pair [SEP, EOS]
 *
 * What stands around is what the tokenizer says of the file; between the texts
 * of a pair stands its separator ([SEP], else EOS, else nothing). Control
 * tokens spelled out in a text are text. Trainer and engine both come here, so
 * that a model is asked as it was taught.
 */
#include "core/tokenizer/frame.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

/* Tokens of one text, without special ones, and what is kept of them. */
struct side {
    struct infer_tokens tokens;
    struct infer_span *spans;
    size_t from, n; /* kept */
};

/* Special tokens before, between and behind. */
struct frame {
    int32_t first, between, last[2]; /* -1: none */
};

static struct frame frame_of(const struct infer_tokenizer *t, bool pair)
{
    struct frame f = {.first = -1, .between = -1, .last = {-1, -1}};
    int32_t around[3];

    infer_tokenizer_around(t, around);
    f.first = around[0];
    f.last[0] = around[1];
    f.last[1] = around[2];
    if (pair)
        f.between = infer_tokenizer_sep(t);
    return f;
}

static uint32_t frame_tokens(const struct frame *f)
{
    return (uint32_t)((f->first >= 0) + (f->between >= 0) + (f->last[0] >= 0) +
                      (f->last[1] >= 0));
}

static int tokenize(const struct infer_tokenizer *t,
                    const struct infer_text_piece *text, struct side *s,
                    struct infer_error *err)
{
    const int status = infer_tokenizer_encode_spans(
        t, text->text, text->len, false, false, &s->tokens, &s->spans, err);

    s->n = s->tokens.n;
    return status;
}

/* Leave room tokens; of two sides the longer is cut first, until they are as
 * long as each other. */
static void cut(struct side sides[2], size_t room, bool left)
{
    const size_t a = sides[0].n, b = sides[1].n;
    size_t keep[2] = {a, b};

    if (a + b <= room)
        return;
    if (a <= room / 2)
        keep[1] = room - a;
    else if (b <= room / 2)
        keep[0] = room - b;
    else {
        keep[0] = room - room / 2;
        keep[1] = room / 2;
    }
    for (int i = 0; i < 2; i++) {
        sides[i].from = left ? sides[i].n - keep[i] : 0;
        sides[i].n = keep[i];
    }
}

static void put(struct infer_encoded *out, int32_t id)
{
    if (id < 0)
        return;
    out->ids[out->n] = id;
    out->spans[out->n] = (struct infer_span){0, 0};
    out->text[out->n++] = INFER_TEXT_NONE;
}

static void put_side(struct infer_encoded *out, const struct side *s,
                     uint8_t text)
{
    for (size_t i = s->from; i < s->from + s->n; i++) {
        out->ids[out->n] = s->tokens.ids[i];
        out->spans[out->n] = s->spans[i];
        out->text[out->n++] = text;
    }
}

static int join(struct infer_encoded *out, const struct side sides[2],
                const struct frame *f, struct infer_error *err)
{
    const size_t n = sides[0].n + sides[1].n + frame_tokens(f);

    out->ids = calloc(n + 1, sizeof(*out->ids));
    out->spans = calloc(n + 1, sizeof(*out->spans));
    out->text = calloc(n + 1, sizeof(*out->text));
    if (!out->ids || !out->spans || !out->text)
        return infer_fail(err, INFER_ENOMEM, "out of memory for %zu tokens", n);
    put(out, f->first);
    put_side(out, &sides[0], 0);
    put(out, f->between);
    put_side(out, &sides[1], 1);
    put(out, f->last[0]);
    put(out, f->last[1]);
    return INFER_OK;
}

static int fit(struct side sides[2], const struct frame *f, uint32_t limit,
               enum infer_truncate truncate, struct infer_encoded *out,
               struct infer_error *err)
{
    const uint32_t frame = frame_tokens(f);
    const size_t n = sides[0].n + sides[1].n + frame;

    out->n_full = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
    if (n <= limit)
        return INFER_OK;
    if (truncate == INFER_TRUNCATE_NO || limit < frame)
        return infer_fail(err, INFER_ETOOLONG,
                          "%zu tokens, the model takes at most %u", n, limit);
    cut(sides, limit - frame, truncate == INFER_TRUNCATE_LEFT);
    return INFER_OK;
}

int infer_frame_encode(const struct infer_tokenizer *t,
                       const struct infer_text_piece *text,
                       const struct infer_text_piece *pair, uint32_t limit,
                       enum infer_truncate truncate, struct infer_encoded *out,
                       struct infer_error *err)
{
    const struct frame f = frame_of(t, pair != NULL);
    struct infer_encoded e = {0};
    struct side sides[2] = {0};
    int status = tokenize(t, text, &sides[0], err);

    if (!status && pair)
        status = tokenize(t, pair, &sides[1], err);
    if (!status)
        status = fit(sides, &f, limit, truncate, &e, err);
    if (!status)
        status = join(&e, sides, &f, err);
    for (int i = 0; i < 2; i++) {
        infer_tokens_release(&sides[i].tokens);
        free(sides[i].spans);
    }
    if (status)
        infer_encoded_release(&e);
    else
        *out = e;
    return status;
}

void infer_encoded_release(struct infer_encoded *e)
{
    free(e->ids);
    free(e->spans);
    free(e->text);
    free(e->ngrams);
    *e = (struct infer_encoded){0};
}
