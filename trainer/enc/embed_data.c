/* embed_data.c - files of texts that mean the same, as groups of ids. */
#include "trainer/enc/embed_parts.h"

#include "core/base/error.h"
#include "trainer/enc/vocab.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct enc_embed_run *r)
{
    return infer_fail(r->err, INFER_ENOMEM, "out of memory");
}

int enc_embed_read(struct enc_embed_run *r)
{
    const struct enc_embed *o = r->o;
    const char *columns[3] = {o->texts};
    size_t n = 1;
    int status = 0;

    if (o->pair)
        columns[n++] = o->pair;
    if (o->negatives)
        columns[n++] = o->negatives;
    r->tables = calloc(o->groups.n, sizeof(*r->tables));
    if (!r->tables)
        return no_memory(r);
    for (size_t i = 0; i < o->groups.n && status == 0; i++)
        status = train_table_read(&r->tables[i], o->groups.items[i], &o->table,
                                  columns, n, r->err);
    return status;
}

typedef int item_fn(struct enc_embed_run *r, const char *text, size_t len,
                    void *to);

static int each_item(struct enc_embed_run *r, const struct train_cell *c,
                     item_fn *fn, void *to)
{
    const char *s = c->text;
    int status = 0;

    for (size_t i = 0; i < c->n && status == 0; i++, s += strlen(s) + 1)
        status = fn(r, s, strlen(s), to);
    return status;
}

struct refs {
    struct enc_text_ref *refs;
    size_t n, cap;
};

static int add_ref(struct enc_embed_run *r, const char *text, size_t len,
                   void *to)
{
    struct refs *all = to;

    if (all->n == all->cap) {
        const size_t cap = all->cap ? all->cap * 2 : 1024;
        struct enc_text_ref *p = realloc(all->refs, cap * sizeof(*p));

        if (!p)
            return no_memory(r);
        all->refs = p;
        all->cap = cap;
    }
    all->refs[all->n++] = (struct enc_text_ref){text, len};
    return 0;
}

int enc_embed_vocab(struct enc_embed_run *r)
{
    const struct enc_recipe *p = &r->o->recipe;
    struct refs all = {0};
    int status = 0;

    for (size_t i = 0; i < r->o->groups.n; i++)
        for (size_t k = 0; k < r->tables[i].n_rows && status == 0; k++)
            status = each_item(r, train_table_cell(&r->tables[i], k, 0),
                               add_ref, &all);
    if (status == 0)
        status = enc_vocab_make(
            r->o->out, p->tokenizer ? p->tokenizer : p->init, all.refs, all.n,
            p->vocab, infer_team_size(r->team), r->err);
    free(all.refs);
    return status;
}

static int add_text(struct enc_embed_run *r, const char *text, size_t len,
                    void *to)
{
    uint32_t *count = to;

    ++*count;
    return enc_texts_add(&r->texts, &r->model, text, len, NULL, 0, r->err);
}

/* Where to cut near a place: behind a space, or else between characters. */
static size_t cut_at(const char *text, size_t len, size_t near)
{
    size_t at = near;

    while (at < len && text[at] != ' ')
        at++;
    if (at >= len - len / 8)
        for (at = near; at < len && ((unsigned char)text[at] & 0xc0) == 0x80;)
            at++;
    return at;
}

/* Halves and middle of a text; texts too short for that are no group. */
static int add_cuts(struct enc_embed_run *r, const char *text, size_t len,
                    void *to)
{
    const size_t q = cut_at(text, len, len / 4), h = cut_at(text, len, len / 2);
    const size_t e = cut_at(text, len, len - len / 4);
    int status;

    if (q == 0 || q >= h || h >= e || e >= len)
        return 0;
    status = add_text(r, text, h, to);
    if (status == 0)
        status = add_text(r, text + h, len - h, to);
    return status == 0 ? add_text(r, text + q, e - q, to) : status;
}

static int add_group(struct enc_embed_run *r, const struct train_table *t,
                     size_t row)
{
    struct enc_group *g = &r->groups[r->n];
    char where[140];
    size_t column = 1;
    int status;

    *g = (struct enc_group){.first = (uint32_t)r->texts.n};
    status = each_item(r, train_table_cell(t, row, 0),
                       r->o->cut ? add_cuts : add_text, &g->n);
    if (r->o->cut && g->n == 0)
        return status;
    if (status == 0 && r->o->pair)
        status =
            each_item(r, train_table_cell(t, row, column++), add_text, &g->n);
    if (status == 0 && r->o->negatives)
        status = each_item(r, train_table_cell(t, row, column), add_text,
                           &g->n_negatives);
    if (status == 0 && g->n < 2) {
        train_table_where(t, row, where, sizeof(where));
        return infer_fail(r->err, INFER_EFORMAT,
                          "%s: %u text, where a group needs two that mean the "
                          "same",
                          where, g->n);
    }
    r->n++;
    return status;
}

int enc_embed_encode(struct enc_embed_run *r)
{
    const struct enc_embed *o = r->o;
    const char *const columns[3] = {o->a, o->b, o->score};
    size_t n = 0;
    int status = 0;

    for (size_t i = 0; i < o->groups.n; i++)
        n += r->tables[i].n_rows;
    r->groups = calloc(n + 1, sizeof(*r->groups));
    if (!r->groups)
        return no_memory(r);
    for (size_t i = 0; i < o->groups.n; i++)
        for (size_t k = 0; k < r->tables[i].n_rows && status == 0; k++)
            status = add_group(r, &r->tables[i], k);
    if (status == 0)
        status = enc_pairs_read(&r->scored, &r->model, &o->scored, &o->table,
                                columns, r->err);
    if (status == 0)
        status = enc_pairs_read(&r->val, &r->model, &o->val, &o->table, columns,
                                r->err);
    if (status == 0)
        status = enc_pairs_read(&r->test, &r->model, &o->test, &o->table,
                                columns, r->err);
    return status;
}
