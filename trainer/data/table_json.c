/* table_json.c - rows of JSON as cells. cJSON takes some things for JSON that
 * are not (trailing text, \u0000): they are refused here. */
#include "trainer/data/table_parts.h"

#include "core/base/error.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER = 40 };

/* Text of one value; NULL: it has none. buffer holds that of a number. */
static const char *value_text(const cJSON *v, char buffer[NUMBER])
{
    if (cJSON_IsString(v))
        return v->valuestring;
    if (cJSON_IsBool(v))
        return cJSON_IsTrue(v) ? "true" : "false";
    if (!cJSON_IsNumber(v))
        return NULL;
    snprintf(buffer, NUMBER, "%.17g", v->valuedouble);
    return buffer;
}

/* Memory that lives as long as the table; NULL: out of it. */
static char *keep(struct train_table *t, size_t n)
{
    if (t->n_extra == t->extra_cap) {
        const size_t cap = t->extra_cap ? t->extra_cap * 2 : 256;
        char **p = realloc(t->extra, cap * sizeof(*p));

        if (!p)
            return NULL;
        t->extra = p;
        t->extra_cap = cap;
    }
    t->extra[t->n_extra] = malloc(n);
    return t->extra[t->n_extra] ? t->extra[t->n_extra++] : NULL;
}

static int fill_cell(struct train_table *t, const cJSON *v,
                     struct train_cell *cell)
{
    const bool list = cJSON_IsArray(v);
    const cJSON *first = list ? v->child : v;
    char buffer[NUMBER], *to;
    size_t size = 1;

    *cell = (struct train_cell){.text = ""};
    for (const cJSON *i = first; i; i = list ? i->next : NULL) {
        const char *text = value_text(i, buffer);

        if (!text)
            return INFER_EFORMAT;
        size += strlen(text) + 1;
    }
    to = keep(t, size);
    if (!to)
        return INFER_ENOMEM;
    cell->text = to;
    for (const cJSON *i = first; i; i = list ? i->next : NULL) {
        const char *text = value_text(i, buffer);
        const size_t n = strlen(text);

        memcpy(to, text, n + 1);
        to += n + 1;
        cell->n++;
    }
    *to = '\0';
    cell->len = cell->n ? (size_t)(to - cell->text) - 1 : 0;
    return 0;
}

static void list_fields(const cJSON *row, char *out, size_t room)
{
    size_t used = 0;

    *out = '\0';
    for (const cJSON *i = row->child; i && used + 4 < room; i = i->next) {
        const int n = snprintf(out + used, room - used, "%s%.30s",
                               used ? ", " : "", i->string);

        used += n > 0 ? (size_t)n : 0;
    }
}

static int fill_row(struct train_table *t, const cJSON *row, uint64_t line,
                    const char *const *columns, struct infer_error *err)
{
    struct train_cell *cells = train_table_add(t, line, err);
    char what[200], names[100];
    int status = cells ? 0 : INFER_ENOMEM;

    for (size_t i = 0; i < t->n_columns && status == 0; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(row, columns[i]);

        if (!v) {
            list_fields(row, names, sizeof(names));
            snprintf(what, sizeof(what), "no field '%.40s'; it has: %s",
                     columns[i], names);
            return train_table_fail(t, line, what, err);
        }
        status = fill_cell(t, v, &cells[i]);
        if (status == INFER_EFORMAT) {
            snprintf(what, sizeof(what),
                     "field '%.40s' is not a string, a number or a list of "
                     "them",
                     columns[i]);
            return train_table_fail(t, line, what, err);
        }
    }
    return status ? infer_fail(err, status, "out of memory") : 0;
}

static bool blank(const char *s)
{
    return s[strspn(s, " \t\r")] == '\0';
}

int train_table_read_json(struct train_table *t, size_t len,
                          const char *const *columns, struct infer_error *err)
{
    char *at = t->text, *const end = t->text + len;
    uint64_t line = 1;
    int status = 0;

    for (char *next; at < end && status == 0; at = next, line++) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *rest = NULL;
        cJSON *row;

        next = stop ? stop + 1 : end;
        if (stop)
            *stop = '\0';
        if (blank(at))
            continue;
        row = cJSON_ParseWithOpts(at, &rest, 0);
        if (!cJSON_IsObject(row) || !rest || !blank(rest))
            status = train_table_fail(t, line,
                                      "not one JSON object, like {\"text\": "
                                      "\"...\", \"label\": \"...\"}",
                                      err);
        else if (strstr(at, "\\u0000"))
            status = train_table_fail(t, line, "\\u0000 in a string", err);
        else
            status = fill_row(t, row, line, columns, err);
        cJSON_Delete(row);
    }
    return status;
}
