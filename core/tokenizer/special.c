/*
 * special.c - find the texts of special tokens in a text.
 *
 * The reference searches the text for each special token in turn, longest
 * first, each search within the stretches that the earlier ones left. Some
 * vocabularies have hundreds of them, mostly of a few lengths: so here one
 * pass serves all tokens of one length, looking into the vocabulary only
 * where a byte may start one. Cost: distinct lengths times text.
 */
#include "core/tokenizer/vocab.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

struct fragments {
    struct infer_fragment *data;
    size_t n, cap;
};

/* Which tokens a stretch of text is searched for. */
enum search {
    SEARCH_ALL,     /* control tokens too */
    SEARCH_USER,    /* those that stand for themselves in any text */
    SEARCH_HARMLESS /* of these, the ones that no chat template could use */
};

/* <|im_end|>, [INST], or whatever ends an answer: some files list such tokens
 * as plain words, and what a stranger wrote must not become one. */
static bool steers(const struct infer_vocab *v, uint32_t id)
{
    const struct infer_gguf_str *t = &v->texts.data[id];

    return v->eog[id] ||
           (t->len > 2 && ((t->data[0] == '<' && t->data[t->len - 1] == '>') ||
                           (t->data[0] == '[' && t->data[t->len - 1] == ']')));
}

static bool wanted(const struct infer_vocab *v, uint32_t id, enum search what)
{
    const uint8_t type = v->types[id];

    if (type == INFER_TOKEN_USER)
        return what != SEARCH_HARMLESS || !steers(v, id);
    return what == SEARCH_ALL &&
           (type == INFER_TOKEN_CONTROL || type == INFER_TOKEN_UNKNOWN);
}

static int longer_first(const void *a, const void *b)
{
    const struct infer_special_class *x = a, *y = b;

    return (x->len < y->len) - (x->len > y->len);
}

static void add_first(struct infer_special_class *c, unsigned char byte)
{
    c->first[byte / 8] |= (uint8_t)(1u << byte % 8);
    if (c->only_first != byte)
        c->only_first = -1;
}

int infer_specials_init(struct infer_specials *s, const struct infer_vocab *v,
                        bool user_only)
{
    const enum search what = user_only ? SEARCH_USER : SEARCH_ALL;
    /* class of each length, + 1 */
    uint32_t *of_len = calloc(INFER_VOCAB_MAX_PIECE + 1, sizeof(*of_len));
    int status = INFER_ENOMEM;

    *s = (struct infer_specials){0};
    if (!of_len)
        goto out;
    for (uint32_t id = 0; id < v->n; id++)
        if (wanted(v, id, what) && !of_len[v->texts.data[id].len])
            of_len[v->texts.data[id].len] = (uint32_t)++s->n;
    s->classes = calloc(s->n ? s->n : 1, sizeof(*s->classes));
    if (!s->classes)
        goto out;
    for (uint32_t id = 0; id < v->n; id++) {
        const struct infer_gguf_str *text = &v->texts.data[id];
        struct infer_special_class *c;

        if (!wanted(v, id, what))
            continue;
        c = &s->classes[of_len[text->len] - 1];
        if (c->len == 0)
            c->only_first = (unsigned char)text->data[0];
        c->len = (uint32_t)text->len;
        add_first(c, (unsigned char)text->data[0]);
    }
    qsort(s->classes, s->n, sizeof(*s->classes), longer_first);
    status = 0;
out:
    free(of_len);
    return status;
}

void infer_specials_release(struct infer_specials *s)
{
    free(s->classes);
    *s = (struct infer_specials){0};
}

static int push(struct fragments *f, size_t start, size_t len, int32_t id)
{
    if (len == 0)
        return 0;
    if (f->n == f->cap) {
        const size_t cap = f->cap ? f->cap * 2 : 16;
        struct infer_fragment *data = realloc(f->data, cap * sizeof(*data));

        if (!data)
            return INFER_ENOMEM;
        f->data = data;
        f->cap = cap;
    }
    f->data[f->n++] = (struct infer_fragment){start, len, id};
    return 0;
}

/* The next place at or after s that may start a token of the class; NULL. */
static const char *candidate(const struct infer_special_class *c, const char *s,
                             const char *end)
{
    if ((size_t)(end - s) < c->len)
        return NULL;
    end -= c->len - 1;
    if (c->only_first >= 0)
        return memchr(s, c->only_first, (size_t)(end - s));
    for (; s < end; s++)
        if (c->first[(unsigned char)*s / 8] >> (unsigned char)*s % 8 & 1)
            return s;
    return NULL;
}

/* Cut one stretch of text at the tokens of one class. */
static int split_one(const struct infer_vocab *v,
                     const struct infer_special_class *c, const char *text,
                     struct infer_fragment in, enum search what,
                     struct fragments *out)
{
    const char *end = text + in.start + in.len;
    const char *from = text + in.start, *s = from;
    int status = 0;

    while (status == 0 && (s = candidate(c, s, end)) != NULL) {
        const int32_t id = infer_strs_find(&v->texts, s, c->len);

        if (id < 0 || !wanted(v, (uint32_t)id, what)) {
            s++;
            continue;
        }
        status = push(out, (size_t)(from - text), (size_t)(s - from), -1);
        if (status == 0)
            status = push(out, (size_t)(s - text), c->len, id);
        s += c->len;
        from = s;
    }
    if (status == 0)
        status = push(out, (size_t)(from - text), (size_t)(end - from), -1);
    return status;
}

/* Cut text[start .. start + len) at all tokens searched for. */
static int split_stretch(const struct infer_vocab *v, const char *text,
                         size_t start, size_t len, enum search what,
                         struct fragments *out)
{
    const struct infer_specials *s =
        what == SEARCH_ALL ? &v->specials : &v->user;
    struct fragments now = {0}, next = {0};
    int status = push(&now, start, len, -1);

    for (size_t c = 0; c < s->n && status == 0; c++) {
        struct fragments swap;

        next.n = 0;
        for (size_t i = 0; i < now.n && status == 0; i++) {
            const struct infer_fragment f = now.data[i];

            status = f.id >= 0
                         ? push(&next, f.start, f.len, f.id)
                         : split_one(v, &s->classes[c], text, f, what, &next);
        }
        swap = now;
        now = next;
        next = swap;
    }
    free(next.data);
    if (status == 0)
        *out = now;
    else
        free(now.data);
    return status;
}

int infer_special_split(const struct infer_vocab *v, const char *text,
                        size_t len, bool parse_special,
                        struct infer_fragment **frags, size_t *n,
                        struct infer_error *err)
{
    struct fragments all = {0};
    const int status = split_stretch(
        v, text, 0, len, parse_special ? SEARCH_ALL : SEARCH_USER, &all);

    if (status != 0)
        return infer_fail(err, status, "out of memory cutting %zu bytes", len);
    *frags = all.data;
    *n = all.n;
    return 0;
}

int infer_special_split_parts(const struct infer_vocab *v, const char *text,
                              const struct infer_part *parts, size_t n_parts,
                              struct infer_fragment **frags, size_t *n,
                              struct infer_error *err)
{
    struct fragments all = {0}, part = {0};
    size_t start = 0;
    int status = 0;

    for (size_t p = 0; p < n_parts && status == 0; p++) {
        part = (struct fragments){0};
        status = split_stretch(v, text, start, parts[p].len,
                               parts[p].trusted ? SEARCH_ALL : SEARCH_HARMLESS,
                               &part);
        for (size_t i = 0; i < part.n && status == 0; i++) {
            const struct infer_fragment f = part.data[i];

            /* text goes on across the border of two parts */
            if (f.id < 0 && all.n > 0 && all.data[all.n - 1].id < 0)
                all.data[all.n - 1].len += f.len;
            else
                status = push(&all, f.start, f.len, f.id);
        }
        free(part.data);
        start += parts[p].len;
    }
    if (status != 0) {
        free(all.data);
        return infer_fail(err, status, "out of memory cutting a prompt");
    }
    *frags = all.data;
    *n = all.n;
    return 0;
}
