/*
 * table.c - see table.h: delimited files. table_text.c makes the bytes UTF-8,
 * table_json.c reads rows of JSON.
 *
 * The text is cut up in place: a field's quotes are taken out by moving its
 * bytes to the front, and its end becomes a NUL, so cells are pointers.
 */
#include "trainer/data/table.h"

#include "core/base/error.h"
#include "trainer/data/files.h"
#include "trainer/data/table_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FIELDS = 4096, NAMES = 100 };

int train_table_fail(const struct train_table *t, uint64_t line,
                     const char *what, struct infer_error *err)
{
    return infer_fail(err, INFER_EFORMAT, "'%.100s' line %llu: %s", t->path,
                      (unsigned long long)line, what);
}

struct train_cell *train_table_add(struct train_table *t, uint64_t line,
                                   struct infer_error *err)
{
    if (t->n_rows == t->rows_cap) {
        const size_t cap = t->rows_cap ? t->rows_cap * 2 : 256;
        struct train_cell *cells =
            realloc(t->cells, cap * t->n_columns * sizeof(*cells));
        uint64_t *lines = realloc(t->lines, cap * sizeof(*lines));

        t->cells = cells ? cells : t->cells;
        t->lines = lines ? lines : t->lines;
        if (!cells || !lines) {
            infer_fail(err, INFER_ENOMEM, "out of memory for '%.100s'",
                       t->path);
            return NULL;
        }
        t->rows_cap = cap;
    }
    t->lines[t->n_rows] = line;
    return t->cells + t->n_rows++ * t->n_columns;
}

/* ---- records ----------------------------------------------------------------
 */

struct csv {
    char *at, *end;
    uint64_t line;
    char delimiter;
    bool quotes;
    char *fields[MAX_FIELDS]; /* of the record read last */
    size_t n_fields;
    uint64_t record_line; /* where it began */
    const char *wrong;    /* what is wrong with it, or NULL */
};

/* A field in quotes at c->at, with the quotes taken out. */
static void quoted_field(struct csv *c)
{
    char *from = c->at + 1, *to = from;

    c->fields[c->n_fields++] = from;
    for (; from < c->end; from++) {
        if (*from == '"') {
            if (from + 1 == c->end || from[1] != '"')
                break;
            from++;
        }
        c->line += *from == '\n';
        *to++ = *from;
    }
    if (from >= c->end) {
        c->wrong = "a quote begins here and never ends";
        c->at = c->end;
        return;
    }
    c->at = from + 1;
    if (c->at < c->end && *c->at != c->delimiter && *c->at != '\n' &&
        *c->at != '\r')
        c->wrong = "text behind a closing quote; double the quotes inside a "
                   "quoted field";
    if (to < c->at)
        *to = '\0';
}

static void plain_field(struct csv *c)
{
    c->fields[c->n_fields++] = c->at;
    while (c->at < c->end && *c->at != c->delimiter && *c->at != '\n')
        c->at++;
}

/* The next record; false: there is none. Blank lines are passed over. */
static bool next_record(struct csv *c)
{
    c->n_fields = 0;
    while (c->at < c->end && (*c->at == '\n' || *c->at == '\r')) {
        c->line += *c->at == '\n';
        c->at++;
    }
    c->record_line = c->line;
    if (c->at >= c->end)
        return false;
    for (;;) {
        char *stop;

        if (c->n_fields == MAX_FIELDS) {
            c->wrong = "more than 4096 fields";
            return true;
        }
        if (c->quotes && c->at < c->end && *c->at == '"')
            quoted_field(c);
        else
            plain_field(c);
        if (c->wrong)
            return true;
        if (c->at + 1 < c->end && *c->at == '\r' && c->at[1] == '\n')
            *c->at++ = '\0';
        stop = c->at;
        if (stop > c->fields[c->n_fields - 1] && stop[-1] == '\r')
            stop[-1] = '\0';
        const bool more = stop < c->end && *stop == c->delimiter;

        if (stop < c->end) {
            c->line += *stop == '\n';
            *stop = '\0';
            c->at++;
        }
        if (!more)
            return true;
    }
}

/* ---- columns ----------------------------------------------------------------
 */

/* Fields that the first record would have with this delimiter, cut roughly. */
static size_t count(const char *text, size_t len, char delimiter)
{
    size_t n = 0;
    bool quoted = false;

    for (size_t i = 0; i < len && (quoted || text[i] != '\n'); i++) {
        quoted ^= text[i] == '"';
        n += !quoted && text[i] == delimiter;
    }
    return n;
}

static int find_delimiter(const struct train_table_options *o, const char *path,
                          const char *text, size_t len, char *out,
                          struct infer_error *err)
{
    static const char candidates[] = {'\t', ',', ';', '|'};
    const char *given = o->delimiter, *dot = strrchr(path, '.');
    size_t best = 0;

    *out = dot && strcmp(dot, ".tsv") == 0 ? '\t' : ',';
    if (given && strcmp(given, "tab") == 0) {
        *out = '\t';
    } else if (given && strcmp(given, "auto") != 0) {
        if (!*given || given[1] || *given == '"' || *given == '\n')
            return infer_fail(err, INFER_EINVAL,
                              "a delimiter is one character or 'tab', not "
                              "'%.20s'",
                              given);
        *out = *given;
    } else if (*out != '\t') {
        for (size_t i = 0; i < sizeof(candidates); i++) {
            const size_t n = count(text, len, candidates[i]);

            if (n > best) {
                best = n;
                *out = candidates[i];
            }
        }
    }
    return 0;
}

static void list_names(const struct csv *c, char *out, size_t room)
{
    size_t used = 0;

    *out = '\0';
    for (size_t i = 0; i < c->n_fields && used + 4 < room; i++) {
        const int n = snprintf(out + used, room - used, "%s%.30s",
                               used ? ", " : "", c->fields[i]);

        if (n > 0)
            used += (size_t)n;
    }
}

static int find_column(const struct train_table *t, const struct csv *c,
                       const char *name, bool header, size_t *at,
                       struct infer_error *err)
{
    char *end, names[NAMES];
    const unsigned long long number = strtoull(name, &end, 10);

    for (size_t i = 0; i < c->n_fields && header; i++)
        if (strcmp(c->fields[i], name) == 0) {
            *at = i;
            return 0;
        }
    if (*name && !*end && number >= 1 && number <= c->n_fields) {
        *at = (size_t)number - 1;
        return 0;
    }
    if (!header)
        return infer_fail(err, INFER_EINVAL,
                          "'%.80s' has %zu columns and no header: columns are "
                          "named by number, not '%.40s'",
                          t->path, c->n_fields, name);
    list_names(c, names, sizeof(names));
    return infer_fail(err, INFER_EINVAL,
                      "'%.80s' has no column '%.40s'; it has: %s", t->path,
                      name, names);
}

static int take_record(struct train_table *t, const struct csv *c,
                       const size_t *at, size_t n_fields,
                       struct infer_error *err)
{
    struct train_cell *cells;
    char what[120];

    if (c->wrong)
        return train_table_fail(t, c->record_line, c->wrong, err);
    if (c->n_fields != n_fields) {
        snprintf(what, sizeof(what), "%zu fields, where the first row has %zu",
                 c->n_fields, n_fields);
        return train_table_fail(t, c->record_line, what, err);
    }
    cells = train_table_add(t, c->record_line, err);
    if (!cells)
        return INFER_ENOMEM;
    for (size_t i = 0; i < t->n_columns; i++)
        cells[i] = (struct train_cell){
            .text = c->fields[at[i]], .len = strlen(c->fields[at[i]]), .n = 1};
    return 0;
}

static int read_delimited(struct train_table *t, size_t len,
                          const struct train_table_options *o,
                          const char *const *columns, struct infer_error *err)
{
    struct csv *c = calloc(1, sizeof(*c));
    size_t at[TRAIN_TABLE_COLUMNS], n_fields = 0;
    int status = 0;

    if (!c)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    c->at = t->text;
    c->end = t->text + len;
    c->line = 1;
    status = find_delimiter(o, t->path, t->text, len, &c->delimiter, err);
    c->quotes = c->delimiter != '\t';
    for (bool first = true; status == 0 && next_record(c); first = false) {
        if (first && c->wrong)
            status = train_table_fail(t, c->record_line, c->wrong, err);
        if (first)
            n_fields = c->n_fields;
        for (size_t i = 0; i < t->n_columns && first && status == 0; i++)
            status = find_column(t, c, columns[i], !o->no_header, &at[i], err);
        if (status == 0 && (!first || o->no_header))
            status = take_record(t, c, at, n_fields, err);
    }
    free(c);
    return status;
}

/* ---- the whole --------------------------------------------------------------
 */

int train_table_read(struct train_table *t, const char *path,
                     const struct train_table_options *o,
                     const char *const *columns, size_t n,
                     struct infer_error *err)
{
    size_t len = 0;
    int status;

    t->path = strdup(path);
    t->n_columns = n;
    if (!t->path)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = train_table_load(t, (enum train_encoding)o->encoding, &len, err);
    if (status == 0)
        status = train_file_is_jsonl(path)
                     ? train_table_read_json(t, len, columns, err)
                     : read_delimited(t, len, o, columns, err);
    if (status == 0 && t->n_rows == 0)
        status = infer_fail(err, INFER_EINVAL, "'%.150s' has no rows", path);
    return status;
}

void train_table_release(struct train_table *t)
{
    for (size_t i = 0; i < t->n_extra; i++)
        free(t->extra[i]);
    free(t->extra);
    free(t->path);
    free(t->text);
    free(t->cells);
    free(t->lines);
    *t = (struct train_table){0};
}

const struct train_cell *train_table_cell(const struct train_table *t,
                                          size_t row, size_t column)
{
    return &t->cells[row * t->n_columns + column];
}

void train_table_where(const struct train_table *t, size_t row, char *to,
                       size_t n)
{
    snprintf(to, n, "'%.100s' line %llu", t->path,
             (unsigned long long)t->lines[row]);
}
