/*
 * options.c - see options.h. Values are checked against the row's range here,
 * so that a command starts with numbers it can use.
 */
#include "trainer/options.h"

#include "core/base/error.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 30, HELP_END = 79 };

int train_list_add(struct train_list *list, const char *item)
{
    if (list->n == list->cap) {
        const size_t cap = list->cap ? list->cap * 2 : 8;
        const char **items = realloc(list->items, cap * sizeof(*items));

        if (!items)
            return INFER_ENOMEM;
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = item;
    return 0;
}

void train_list_release(struct train_list *list)
{
    free(list->items);
    *list = (struct train_list){0};
}

/* A number with one letter of units behind it; false: not one. */
static bool parse_number(const char *text, const char *units,
                         const double *scale, double *out)
{
    char *end;
    double v;

    errno = 0;
    v = strtod(text, &end);
    if (end == text || errno == ERANGE || !isfinite(v))
        return false;
    if (*end) {
        const char *unit = strchr(units, *end);

        if (!unit || end[1])
            return false;
        v *= scale[unit - units];
    }
    *out = v;
    return true;
}

static bool parse_choice(const char *choices, const char *text, int *out)
{
    int i = 0;

    for (const char *s = choices; *text; i++) {
        const size_t n = strcspn(s, "|");

        if (n == strlen(text) && memcmp(s, text, n) == 0) {
            *out = i;
            return true;
        }
        if (!s[n])
            break;
        s += n + 1;
    }
    return false;
}

static int wrong(const struct train_option *o, const char *text,
                 struct infer_error *err)
{
    if (o->kind == TRAIN_OPT_CHOICE)
        return infer_fail(err, INFER_EINVAL,
                          "--%s takes one of %s, not '%.60s'", o->name, o->arg,
                          text);
    return infer_fail(err, INFER_EINVAL,
                      "--%s takes a %s from %.10g to %.10g, not '%.60s'",
                      o->name,
                      o->kind == TRAIN_OPT_TIME    ? "time (90s, 10m, 1h)"
                      : o->kind == TRAIN_OPT_COUNT ? "whole number"
                                                   : "number",
                      o->min, o->max, text);
}

static int set(const struct train_option *o, const char *text,
               struct infer_error *err)
{
    static const double thousands[] = {1e3, 1e6, 1e9};
    static const double seconds[] = {1, 60, 3600};
    double v = 0.0;

    switch (o->kind) {
    case TRAIN_OPT_FLAG:
        *(bool *)o->to = true;
        return 0;
    case TRAIN_OPT_TEXT:
        *(const char **)o->to = text;
        return 0;
    case TRAIN_OPT_LIST:
        return train_list_add(o->to, text)
                   ? infer_fail(err, INFER_ENOMEM, "out of memory")
                   : 0;
    case TRAIN_OPT_CHOICE:
        return parse_choice(o->arg, text, o->to) ? 0 : wrong(o, text, err);
    case TRAIN_OPT_TIME:
        if (!parse_number(text, "smh", seconds, &v) || v < o->min || v > o->max)
            return wrong(o, text, err);
        *(double *)o->to = v;
        return 0;
    case TRAIN_OPT_REAL:
        if (!parse_number(text, "", thousands, &v) || v < o->min || v > o->max)
            return wrong(o, text, err);
        *(double *)o->to = v;
        return 0;
    case TRAIN_OPT_COUNT:
        if (!parse_number(text, "kMG", thousands, &v) || v < o->min ||
            v > o->max || v != floor(v) || v > 9e15)
            return wrong(o, text, err);
        *(uint64_t *)o->to = (uint64_t)v;
        return 0;
    }
    return 0;
}

static const struct train_option *find(const struct train_option *options,
                                       size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(options[i].name) == len &&
            memcmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

/* One option at *argv; leaves *argv at its last word. */
static int parse_one(const struct train_option *options, size_t n,
                     const char *const **argv, struct infer_error *err)
{
    const char *name = **argv + 2;
    const size_t len = strcspn(name, "=");
    const struct train_option *o = len ? find(options, n, name, len) : NULL;
    const char *value = name[len] ? name + len + 1 : NULL;

    if (!o)
        return infer_fail(err, INFER_EINVAL,
                          "unknown option '--%.60s'; --help lists them", name);
    if (o->kind == TRAIN_OPT_FLAG && value)
        return infer_fail(err, INFER_EINVAL, "--%s takes no value", o->name);
    if (o->kind != TRAIN_OPT_FLAG && !value) {
        value = (*argv)[1];
        if (!value)
            return infer_fail(err, INFER_EINVAL, "--%s needs a value (%s)",
                              o->name, o->arg);
        ++*argv;
    }
    return set(o, value, err);
}

int train_options_parse(const struct train_option *options, size_t n,
                        const char *const *argv, bool *help,
                        struct infer_error *err)
{
    const struct train_option *rest = find(options, n, "", 0);
    bool only_rest = false;
    int status = 0;

    *help = false;
    for (const char *const *a = argv + 1; *a && status == 0; a++)
        *help = *help || !strcmp(*a, "--help") || !strcmp(*a, "-h");
    if (*help)
        return 0;
    for (const char *const *a = argv + 1; *a && status == 0; a++) {
        if (!only_rest && strcmp(*a, "--") == 0)
            only_rest = true;
        else if (!only_rest && strncmp(*a, "--", 2) == 0)
            status = parse_one(options, n, &a, err);
        else if (rest)
            status = set(rest, *a, err);
        else
            status =
                infer_fail(err, INFER_EINVAL,
                           "'%.60s' is not an option; --help lists them", *a);
    }
    return status;
}

/* Words from a column on, in as many lines as they need. */
static void print_words(const char *text)
{
    size_t at = HELP_COLUMN;

    while (*text) {
        const size_t n = strcspn(text, " ");

        if (at > HELP_COLUMN && at + 1 + n > HELP_END) {
            printf("\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        at += n + (at > HELP_COLUMN);
        printf("%s%.*s", at > HELP_COLUMN + n ? " " : "", (int)n, text);
        text += n + (text[n] == ' ');
    }
    putchar('\n');
}

void train_options_help(const char *usage, const struct train_option *options,
                        size_t n)
{
    printf("%s\n\n", usage);
    for (size_t i = 0; i < n; i++) {
        const struct train_option *o = &options[i];
        int used;

        if (!*o->name)
            used = printf("  %s", o->arg);
        else
            used = printf("  --%s %s", o->name,
                          o->kind == TRAIN_OPT_FLAG ? "" : o->arg);
        if (used >= HELP_COLUMN)
            used = printf("\n") - 1;
        printf("%*s", HELP_COLUMN - used, "");
        print_words(o->help);
    }
}
