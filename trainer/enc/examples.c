/* examples.c - see examples.h. */
#include "trainer/enc/examples.h"

#include "core/base/error.h"
#include "trainer/data/shuffle.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHERE = 140 };

/* ---- rows -------------------------------------------------------------------
 */

static bool blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n", s[i]))
            return false;
    return true;
}

static int add_rows(struct enc_rows *r, const struct train_table *t,
                    const struct enc_columns *c, struct infer_error *err)
{
    struct enc_row *rows = realloc(r->rows, (r->n + t->n_rows) * sizeof(*rows));
    char where[WHERE];

    if (!rows)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    r->rows = rows;
    for (size_t i = 0; i < t->n_rows; i++) {
        const struct train_cell *a = train_table_cell(t, i, 0);
        const struct train_cell *b = c->pair ? train_table_cell(t, i, 2) : NULL;

        if (blank(a->text, a->len) || (b && blank(b->text, b->len))) {
            train_table_where(t, i, where, sizeof(where));
            return infer_fail(err, INFER_EFORMAT, "%s: the text is empty",
                              where);
        }
        rows[r->n++] = (struct enc_row){.a = a->text,
                                        .a_len = a->len,
                                        .b = b ? b->text : NULL,
                                        .b_len = b ? b->len : 0,
                                        .label = train_table_cell(t, i, 1),
                                        .table = t,
                                        .row = i};
    }
    return 0;
}

int enc_rows_read(struct enc_rows *r, const struct train_list *paths,
                  const struct enc_columns *c, struct infer_error *err)
{
    const char *const columns[] = {c->text, c->label, c->pair};
    int status = 0;

    r->tables = calloc(paths->n + 1, sizeof(*r->tables));
    if (!r->tables)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < paths->n && status == 0; i++) {
        struct train_table *t = &r->tables[r->n_tables++];

        status = train_table_read(t, paths->items[i], &c->table, columns,
                                  c->pair ? 3 : 2, err);
        if (status == 0)
            status = add_rows(r, t, c, err);
    }
    return status;
}

void enc_rows_release(struct enc_rows *r)
{
    for (size_t i = 0; i < r->n_tables; i++)
        train_table_release(&r->tables[i]);
    free(r->tables);
    free(r->rows);
    *r = (struct enc_rows){0};
}

bool enc_row_held_out(const struct enc_row *row, double share, uint64_t seed)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < row->a_len; i++)
        h = (h ^ (unsigned char)row->a[i]) * 0x100000001b3u;
    return (double)(train_mix(seed, h) >> 11) / 9007199254740992.0 < share;
}

/* ---- labels -----------------------------------------------------------------
 */

/* The next label of a cell at *at; false: no more. Spaces around are cut. */
static bool next_label(const struct train_cell *cell, const char *separator,
                       size_t *at, const char **label, size_t *len)
{
    const char *s = cell->text + *at, *end;

    if (cell->n == 0 || *at > cell->len)
        return false;
    end = separator && *separator ? strpbrk(s, separator) : NULL;
    if (!end)
        end = s + strlen(s);
    *at = (size_t)(end - cell->text) + 1;
    while (s < end && (*s == ' ' || *s == '\t'))
        s++;
    while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *label = s;
    *len = (size_t)(end - s);
    return true;
}

static bool is_oos(const struct enc_columns *c, const char *label, size_t len)
{
    return c->oos && strlen(c->oos) == len && memcmp(c->oos, label, len) == 0;
}

static int add_label(struct enc_labels *l, const char *label, size_t len)
{
    if (infer_names_find(&l->index, label, len) >= 0)
        return 0;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 64;
        char **p = realloc(l->names, cap * sizeof(*p));

        if (!p)
            return INFER_ENOMEM;
        l->names = p;
        l->cap = cap;
    }
    l->names[l->n] = strndup(label, len);
    if (!l->names[l->n])
        return INFER_ENOMEM;
    return infer_names_add(&l->index, l->names[l->n], len, (uint32_t)l->n) < 0
               ? INFER_ENOMEM
               : (l->n++, 0);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int number(struct enc_labels *l)
{
    int status = 0;

    qsort(l->names, l->n, sizeof(*l->names), by_name);
    infer_names_release(&l->index);
    l->index = (struct infer_names){0};
    for (size_t i = 0; i < l->n && status == 0; i++)
        status = infer_names_add(&l->index, l->names[i], strlen(l->names[i]),
                                 (uint32_t)i);
    return status;
}

int enc_labels_collect(struct enc_labels *l, const struct enc_rows *r,
                       const struct enc_columns *c, struct infer_error *err)
{
    const char *separator = c->kind == ENC_MULTI ? c->separator : NULL;
    int status = 0;

    for (size_t i = 0; i < r->n && status == 0; i++) {
        const char *label;
        size_t at = 0, len;

        while (status == 0 &&
               next_label(r->rows[i].label, separator, &at, &label, &len))
            if (len && !is_oos(c, label, len))
                status = add_label(l, label, len);
    }
    if (status == 0)
        status = number(l);
    if (status != 0)
        return infer_fail(err, status, "out of memory");
    if (l->n < (c->kind == ENC_MULTI ? 1u : 2u))
        return infer_fail(err, INFER_EINVAL,
                          l->n ? "all examples have the label '%.80s': there "
                                 "is nothing to tell apart"
                               : "no example has a label%.0s",
                          l->n ? l->names[0] : "");
    return 0;
}

void enc_labels_release(struct enc_labels *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    infer_names_release(&l->index);
    *l = (struct enc_labels){0};
}

/* ---- examples ---------------------------------------------------------------
 */

static int reserve(struct enc_set *s)
{
    const size_t cap = s->cap ? s->cap * 2 : 1024;
    const struct enc_row **rows;
    int32_t *targets;
    float *values;

    if (s->n < s->cap)
        return 0;
    rows = realloc(s->rows, cap * sizeof(*rows));
    if (rows)
        s->rows = rows;
    targets = realloc(s->targets, cap * sizeof(*targets));
    if (targets)
        s->targets = targets;
    values = realloc(s->values, cap * s->n_classes * sizeof(*values));
    if (values)
        s->values = values;
    if (!rows || !targets || !values)
        return INFER_ENOMEM;
    s->cap = cap;
    return 0;
}

static int bad_row(const struct enc_row *row, const char *what,
                   struct infer_error *err)
{
    char where[WHERE];

    train_table_where(row->table, row->row, where, sizeof(where));
    return infer_fail(err, INFER_EFORMAT, "%s: %s", where, what);
}

static int set_number(struct enc_set *s, const struct enc_row *row,
                      struct infer_error *err)
{
    char *end, what[100];
    const double v = strtod(row->label->text, &end);

    if (end == row->label->text || end[strspn(end, " \t")] || !isfinite(v) ||
        row->label->n != 1) {
        snprintf(what, sizeof(what), "'%.40s' is not a number",
                 row->label->text);
        return bad_row(row, what, err);
    }
    s->values[s->n] = (float)v;
    s->targets[s->n] = -1;
    return 0;
}

static int set_labels(struct enc_set *s, const struct enc_row *row,
                      const struct enc_labels *l, const struct enc_columns *c,
                      struct infer_error *err)
{
    const bool multi = c->kind == ENC_MULTI;
    const char *label = "";
    char what[160];
    size_t at = 0, len = 0, n = 0;

    s->targets[s->n] = -1;
    memset(s->values + s->n * l->n, 0, l->n * sizeof(*s->values));
    while (next_label(row->label, multi ? c->separator : NULL, &at, &label,
                      &len)) {
        const int64_t class = infer_names_find(&l->index, label, len);

        if ((multi && len == 0) || is_oos(c, label, len)) {
            n++;
            continue;
        }
        if (class < 0) {
            snprintf(what, sizeof(what),
                     "the label '%.*s' is not among those of the training "
                     "examples",
                     (int)(len < 60 ? len : 60), label);
            return bad_row(row, what, err);
        }
        s->targets[s->n] = (int32_t) class;
        s->values[s->n * l->n + (size_t) class] = 1.0f;
        n++;
    }
    if (!multi && n != 1)
        return bad_row(row,
                       "not one label; pass --kind multi if texts may have "
                       "none or several",
                       err);
    return 0;
}

int enc_set_add(struct enc_set *s, struct enc_model *m,
                const struct enc_row *row, const struct enc_labels *l,
                const struct enc_columns *c, struct infer_error *err)
{
    int status;

    s->n_classes = c->kind == ENC_REGRESSION ? 1 : l->n;
    if (reserve(s))
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = c->kind == ENC_REGRESSION ? set_number(s, row, err)
                                       : set_labels(s, row, l, c, err);
    if (status == 0)
        status = enc_texts_add(&s->texts, m, row->a, row->a_len, row->b,
                               row->b_len, err);
    if (status == 0)
        s->rows[s->n++] = row;
    return status;
}

void enc_set_release(struct enc_set *s)
{
    enc_texts_release(&s->texts);
    free(s->rows);
    free(s->targets);
    free(s->values);
    *s = (struct enc_set){0};
}
