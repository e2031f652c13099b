/*
 * config.c - options from flags, variables, a file and defaults.
 *
 * One table (options.def) describes them all, so the four ways in cannot drift
 * apart. Sources are applied from the weakest to the strongest; a stronger
 * one replaces a list instead of adding to it. Whatever is unknown or out of
 * range is an error that names it: a service that starts with a misspelt
 * limit runs without it.
 */
#include "server/config.h"
#include "server/listen.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(x) #x
static const struct option table[] = {
#define INT(n, m, d, lo, hi, h)                                                \
    {TEXT(n), OPTION_INT, offsetof(struct config, m), TEXT(d), lo, hi, NULL, h},
#define BOOL(n, m, d, h)                                                       \
    {TEXT(n), OPTION_BOOL, offsetof(struct config, m), #d, 0, 1, NULL, h},
#define WORD(n, m, d, w, h)                                                    \
    {TEXT(n), OPTION_WORD, offsetof(struct config, m), d, 0, 0, w, h},
#define STR(n, m, d, h)                                                        \
    {TEXT(n), OPTION_STR, offsetof(struct config, m), d, 0, 0, NULL, h},
#define LIST(n, m, k, h)                                                       \
    {TEXT(n), OPTION_##k, offsetof(struct config, m), NULL, 0, 0, NULL, h},
#include "server/options.def"
#undef INT
#undef BOOL
#undef WORD
#undef STR
#undef LIST
};

enum { N_OPTIONS = sizeof(table) / sizeof(table[0]) };
_Static_assert((int)N_OPTIONS <= (int)CONFIG_MAX_OPTIONS,
               "config.source is too short");

int config_fail(struct infer_error *err, int status, const char *fmt, ...)
{
    va_list ap;

    if (err) {
        err->status = status;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return status;
}

size_t config_n_options(void)
{
    return N_OPTIONS;
}

const struct option *config_option(size_t i)
{
    return &table[i];
}

/* '-' of a flag equals '_' of a key. */
static bool same_name(const char *name, const char *text, size_t len)
{
    if (strlen(name) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] != (text[i] == '-' ? '_' : text[i]))
            return false;
    return true;
}

const struct option *config_find(const char *name, size_t len)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (same_name(table[i].name, name, len))
            return &table[i];
    return NULL;
}

/* ---- values -------------------------------------------------------------- */

static int word_number(const struct option *o, const char *text)
{
    const size_t len = strlen(text);
    const char *w = o->words;

    for (int i = 0;; i++) {
        const size_t n = strcspn(w, "|");

        if (n == len && memcmp(w, text, n) == 0)
            return i;
        if (!w[n])
            return -1;
        w += n + 1;
    }
}

int config_number(const struct option *o, const char *what, const char *text,
                  int64_t *out, struct infer_error *err)
{
    char *end;
    long long v;

    if (o->kind == OPTION_WORD) {
        v = word_number(o, text);
        if (v < 0)
            return config_fail(err, INFER_EINVAL,
                               "%s: '%s' is none of the words %s", what, text,
                               o->words);
    } else if (o->kind == OPTION_BOOL) {
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return config_fail(err, INFER_EINVAL,
                               "%s: '%s' is neither true nor false", what,
                               text);
        v = text[0] == 't';
    } else {
        errno = 0;
        v = strtoll(text, &end, 10);
        if (end == text || *end || errno || isspace((unsigned char)*text) ||
            v < o->lowest || v > o->highest)
            return config_fail(err, INFER_EINVAL,
                               "%s: '%s' is not a whole number from %lld to "
                               "%lld",
                               what, text, (long long)o->lowest,
                               (long long)o->highest);
    }
    *out = v;
    return 0;
}

static char *copy(const char *text, size_t n, struct infer_error *err)
{
    char *s = strndup(text, n);

    if (!s)
        config_fail(err, INFER_ENOMEM, "out of memory");
    return s;
}

int config_add_string(struct strings *list, const char *text,
                      struct infer_error *err)
{
    char **items = realloc(list->items, (list->n + 1) * sizeof(*items));

    if (!items)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    list->items = items;
    items[list->n] = copy(text, strlen(text), err);
    if (!items[list->n])
        return INFER_ENOMEM;
    list->n++;
    return 0;
}

struct model_config *config_add_model(struct config *c)
{
    struct model_config *m = realloc(c->models, (c->n_models + 1) * sizeof(*m));

    if (!m)
        return NULL;
    c->models = m;
    m += c->n_models++;
    memset(m, 0, sizeof(*m));
    return m;
}

struct key_config *config_add_key(struct config *c)
{
    struct key_config *k =
        realloc(c->api_keys, (c->n_api_keys + 1) * sizeof(*k));

    if (!k)
        return NULL;
    c->api_keys = k;
    k += c->n_api_keys++;
    memset(k, 0, sizeof(*k));
    return k;
}

/* "NAME=PATH", or a path: its base name without ".gguf" is the name. */
static int model_from_text(struct config *c, const char *what, const char *text,
                           struct infer_error *err)
{
    const char *eq = strchr(text, '=');
    const char *path = eq ? eq + 1 : text;
    const char *base = strrchr(path, '/');
    size_t name_len;
    struct model_config *m;

    base = base ? base + 1 : path;
    name_len = eq ? (size_t)(eq - text) : strlen(base);
    if (!eq && name_len > 5 && strcmp(base + name_len - 5, ".gguf") == 0)
        name_len -= 5;
    if (name_len == 0 || !*path)
        return config_fail(err, INFER_EINVAL, "%s: '%s' is not [NAME=]PATH",
                           what, text);
    m = config_add_model(c);
    if (!m)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    m->name = copy(eq ? text : base, name_len, err);
    m->path = copy(path, strlen(path), err);
    return m->name && m->path ? 0 : INFER_ENOMEM;
}

static int key_from_text(struct config *c, const char *text,
                         struct infer_error *err)
{
    struct key_config *k = config_add_key(c);
    char name[32];

    if (!k)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    snprintf(name, sizeof(name), "key%zu", c->n_api_keys);
    k->key = copy(text, strlen(text), err);
    k->name = copy(name, strlen(name), err);
    return k->key && k->name ? 0 : INFER_ENOMEM;
}

/* ---- lists and their release --------------------------------------------- */

static void strings_release(struct strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    memset(list, 0, sizeof(*list));
}

static void models_release(struct config *c)
{
    for (size_t i = 0; i < c->n_models; i++) {
        free(c->models[i].name);
        free(c->models[i].path);
        strings_release(&c->models[i].more);
    }
    free(c->models);
    c->models = NULL;
    c->n_models = 0;
}

static void keys_release(struct config *c)
{
    for (size_t i = 0; i < c->n_api_keys; i++) {
        struct key_config *k = &c->api_keys[i];

        free(k->name);
        if (k->key)
            explicit_bzero(k->key, strlen(k->key));
        free(k->key);
        strings_release(&k->models);
        strings_release(&k->routes);
    }
    free(c->api_keys);
    c->api_keys = NULL;
    c->n_api_keys = 0;
}

void config_release(struct config *c)
{
    models_release(c);
    keys_release(c);
    strings_release(&c->cors_origins);
    free(c->listen);
    free(c->cpu);
    free(c->api_keys_file);
    free(c->access_log_file);
    memset(c, 0, sizeof(*c));
}

static void clear_list(struct config *c, const struct option *o)
{
    if (o->kind == OPTION_MODELS)
        models_release(c);
    else if (o->kind == OPTION_KEYS)
        keys_release(c);
    else if (o->kind == OPTION_STRINGS)
        strings_release((struct strings *)((char *)c + o->member));
}

int config_set(struct config *c, const struct option *o,
               enum option_source from, const char *what, const char *text,
               struct infer_error *err)
{
    void *member = (char *)c + o->member;
    char **str = member;
    char *s;

    if (c->source[o - table] != from)
        clear_list(c, o);
    c->source[o - table] = from;
    switch (o->kind) {
    case OPTION_INT:
    case OPTION_BOOL:
    case OPTION_WORD:
        return config_number(o, what, text, member, err);
    case OPTION_STR:
        s = copy(text, strlen(text), err);
        if (!s)
            return INFER_ENOMEM;
        free(*str);
        *str = s;
        return 0;
    case OPTION_STRINGS:
        return config_add_string(member, text, err);
    case OPTION_MODELS:
        return model_from_text(c, what, text, err);
    case OPTION_KEYS:
        return key_from_text(c, text, err);
    }
    return 0;
}

int config_init(struct config *c, struct infer_error *err)
{
    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *o = &table[i];
        int rc = 0;

        if (o->preset)
            rc = config_set(c, o, FROM_DEFAULT, o->name, o->preset, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- environment --------------------------------------------------------- */

/* Kubernetes puts these into every pod beside a Service named inferd. */
static bool service_link(const char *name, size_t len)
{
    return (len >= 12 && memcmp(name, "SERVICE_HOST", 12) == 0) ||
           (len >= 12 && memcmp(name, "SERVICE_PORT", 12) == 0) ||
           (len == 4 && memcmp(name, "PORT", 4) == 0) ||
           (len > 5 && memcmp(name, "PORT_", 5) == 0);
}

/* One or, for lists, several values between commas. */
static int set_from_variable(struct config *c, const struct option *o,
                             const char *what, const char *text,
                             struct infer_error *err)
{
    const bool list = o->kind >= OPTION_STRINGS;
    int rc = 0;

    while (rc == 0) {
        const size_t n = list ? strcspn(text, ",") : strlen(text);
        char *item = copy(text, n, err);

        if (!item)
            return INFER_ENOMEM;
        rc = config_set(c, o, FROM_ENV, what, item, err);
        free(item);
        if (!text[n])
            break;
        text += n + 1;
    }
    return rc;
}

static int read_variable(struct config *c, const char *entry,
                         struct infer_error *err)
{
    const char *eq = strchr(entry, '=');
    char name[64], what[80];
    size_t len;
    const struct option *o;

    if (!eq || strncmp(entry, "INFERD_", 7) != 0)
        return 0;
    len = (size_t)(eq - entry - 7);
    for (size_t i = 0; i < len && i < sizeof(name); i++)
        name[i] = (char)tolower((unsigned char)entry[7 + i]);
    o = len < sizeof(name) ? config_find(name, len) : NULL;
    snprintf(what, sizeof(what), "INFERD_%.*s", (int)len, entry + 7);
    if (o)
        return set_from_variable(c, o, what, eq + 1, err);
    if (service_link(entry + 7, len) ||
        (len == 6 && memcmp(name, "config", 6) == 0))
        return 0;
    return config_fail(err, INFER_EINVAL, "unknown variable %s", what);
}

static const char *variable(const char *const *env, const char *name)
{
    const size_t len = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* ---- flags --------------------------------------------------------------- */

/* A flag of the command line, taken apart. */
struct flag {
    const char *text; /* "--max-running=4" */
    const char *name; /* without "--" */
    size_t name_len;
    const char *value;           /* NULL: none */
    const struct option *option; /* NULL: one that is no option */
    bool negated;                /* --no-access-log */
};

static bool is_flag(const struct flag *f, const char *name)
{
    return same_name(name, f->name, f->name_len);
}

/* Take the flag at *argv, and its value, and advance past both. */
static int next_flag(const char *const **argv, struct flag *f,
                     struct infer_error *err)
{
    const char *text = *(*argv)++;
    bool special, needs_value;

    memset(f, 0, sizeof(*f));
    f->text = text;
    if (strcmp(text, "-h") == 0)
        text = "--help";
    if (strncmp(text, "--", 2) != 0)
        return config_fail(err, INFER_EINVAL, "unexpected argument '%s'", text);
    f->name = text + 2;
    f->name_len = strcspn(f->name, "=");
    if (f->name[f->name_len] == '=')
        f->value = f->name + f->name_len + 1;
    f->option = config_find(f->name, f->name_len);
    if (!f->option && strncmp(f->name, "no-", 3) == 0 && !f->value) {
        f->option = config_find(f->name + 3, f->name_len - 3);
        f->negated = f->option && f->option->kind == OPTION_BOOL;
        if (!f->negated)
            f->option = NULL;
    }
    special = is_flag(f, "config") || is_flag(f, "help") ||
              is_flag(f, "version") || is_flag(f, "healthcheck");
    if (!f->option && !special)
        return config_fail(err, INFER_EINVAL, "unknown flag '%s'", f->text);
    needs_value =
        f->option ? f->option->kind != OPTION_BOOL : is_flag(f, "config");
    if (needs_value && !f->value)
        f->value = **argv ? *(*argv)++ : NULL;
    if (needs_value && !f->value)
        return config_fail(err, INFER_EINVAL, "%s needs a value", f->text);
    if (f->option && !f->value && !f->negated && **argv &&
        (strcmp(**argv, "true") == 0 || strcmp(**argv, "false") == 0))
        f->value = *(*argv)++;
    if (f->option && !f->value)
        f->value = f->negated ? "false" : "true";
    return 0;
}

/* First pass: is every flag known, and which file is to be read? */
static int scan_flags(struct config *c, const char *const *argv,
                      const char **path, enum config_action *action,
                      struct infer_error *err)
{
    while (*argv) {
        struct flag f;
        const int rc = next_flag(&argv, &f, err);

        if (rc)
            return rc;
        if (f.option)
            continue;
        if (is_flag(&f, "help"))
            *action = CONFIG_HELP;
        else if (is_flag(&f, "version"))
            *action = CONFIG_VERSION;
        else if (is_flag(&f, "healthcheck"))
            *action = CONFIG_HEALTHCHECK, c->probe = f.value;
        else
            *path = f.value;
    }
    return 0;
}

static int apply_flags(struct config *c, const char *const *argv,
                       struct infer_error *err)
{
    while (*argv) {
        struct flag f;
        char what[80];
        int rc = next_flag(&argv, &f, err);

        if (rc == 0 && f.option) {
            snprintf(what, sizeof(what), "--%.*s", (int)f.name_len, f.name);
            rc = config_set(c, f.option, FROM_FLAG, what, f.value, err);
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- the whole ----------------------------------------------------------- */

/* A model's own value of the file yields to a variable or a flag. */
static void settle_models(struct config *c)
{
    const size_t base = offsetof(struct config, engine);

    for (size_t m = 0; m < c->n_models; m++) {
        struct model_config *mc = &c->models[m];
        const struct engine_config own = mc->engine;

        mc->engine = c->engine;
        for (size_t i = 0; i < N_OPTIONS; i++)
            if ((mc->own >> i & 1) && c->source[i] <= FROM_FILE)
                memcpy((char *)&mc->engine + (table[i].member - base),
                       (const char *)&own + (table[i].member - base),
                       sizeof(int64_t));
    }
}

static int check_listen(const struct config *c, struct infer_error *err)
{
    if (listen_valid(c->listen))
        return 0;
    return config_fail(err, INFER_EINVAL, "listen: '%s' is not HOST:PORT",
                       c->listen);
}

static int check(const struct config *c, struct infer_error *err)
{
    if (c->n_models == 0)
        return config_fail(err, INFER_EINVAL,
                           "no model: give --model [NAME=]PATH");
    for (size_t i = 0; i < c->n_models; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->models[i].name, c->models[k].name) == 0)
                return config_fail(err, INFER_EINVAL,
                                   "two models are named '%s'",
                                   c->models[i].name);
    for (size_t i = 0; i < c->n_api_keys; i++) {
        const size_t len = strlen(c->api_keys[i].key);

        if (len == 0 || len > 255)
            return config_fail(err, INFER_EINVAL,
                               "api_keys: key '%s' must have 1 to 255 bytes",
                               c->api_keys[i].name);
    }
    return 0;
}

int config_load(struct config *c, const char *const *argv,
                const char *const *env, enum config_action *action,
                struct infer_error *err)
{
    const char *path = variable(env, "INFERD_CONFIG"), *probe;
    int rc;

    memset(c, 0, sizeof(*c));
    *action = CONFIG_RUN;
    rc = scan_flags(c, argv + 1, &path, action, err);
    if (rc || *action == CONFIG_HELP || *action == CONFIG_VERSION)
        return rc;
    probe = c->probe;
    rc = config_init(c, err);
    c->probe = probe ? probe : "/healthz";
    if (rc == 0 && path && *path)
        rc = config_read_file(c, path, err);
    for (const char *const *e = env; rc == 0 && e && *e; e++)
        rc = read_variable(c, *e, err);
    if (rc == 0)
        rc = apply_flags(c, argv + 1, err);
    if (rc == 0)
        rc = check_listen(c, err);
    if (rc == 0 && *action == CONFIG_RUN && *c->api_keys_file)
        rc = config_read_keys(c, c->api_keys_file, err);
    if (rc == 0 && *action == CONFIG_RUN)
        rc = check(c, err);
    if (rc)
        config_release(c);
    else
        settle_models(c);
    return rc;
}
