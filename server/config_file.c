/*
 * config_file.c - the configuration file: JSON with comments.
 *
 * Comments become spaces, so that the byte positions of error messages are
 * those of the file, and then the text has to be strict JSON. Keys are the
 * names of options.def; a model may carry the engine options as its own.
 */
#include "server/config.h"
#include "server/jsoncheck.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 4 << 20 };

/* Blank out comments outside strings. */
static int blank_comments(const char *path, char *s, size_t n,
                          struct infer_error *err)
{
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        const char next = i + 1 < n ? s[i + 1] : 0;

        if (in_string) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                in_string = false;
        } else if (s[i] == '"') {
            in_string = true;
        } else if (s[i] == '/' && next == '/') {
            while (i < n && s[i] != '\n')
                s[i++] = ' ';
        } else if (s[i] == '/' && next == '*') {
            const size_t start = i;

            s[i] = s[i + 1] = ' ';
            for (i += 2;
                 i < n && !(s[i] == '*' && i + 1 < n && s[i + 1] == '/'); i++)
                if (s[i] != '\n')
                    s[i] = ' ';
            if (i >= n)
                return config_fail(err, INFER_EINVAL,
                                   "%s: byte %zu: this comment never ends",
                                   path, start);
            s[i] = s[i + 1] = ' ';
            i++;
        }
    }
    return 0;
}

/* A scalar as the text that a flag would carry. */
static int scalar_text(const struct option *o, const char *what, const cJSON *v,
                       char *out, size_t size, struct infer_error *err)
{
    const char *wanted = "a string";

    if (o->kind == OPTION_INT) {
        wanted = "a whole number";
        if (cJSON_IsNumber(v) && snprintf(out, size, "%.17g", v->valuedouble))
            return 0;
    } else if (o->kind == OPTION_BOOL) {
        wanted = "true or false";
        if (cJSON_IsBool(v) &&
            snprintf(out, size, "%s", cJSON_IsTrue(v) ? "true" : "false"))
            return 0;
    } else if (cJSON_IsString(v) && strlen(v->valuestring) < size) {
        snprintf(out, size, "%s", v->valuestring);
        return 0;
    }
    return config_fail(err, INFER_EINVAL, "%s: must be %s", what, wanted);
}

static int string_list(struct strings *list, const char *what, const cJSON *v,
                       struct infer_error *err)
{
    const cJSON *item;
    int rc = 0;

    if (!cJSON_IsArray(v))
        return config_fail(err, INFER_EINVAL, "%s: must be a list of strings",
                           what);
    cJSON_ArrayForEach (item, v) {
        if (!cJSON_IsString(item))
            return config_fail(err, INFER_EINVAL,
                               "%s: must be a list of strings", what);
        rc = config_add_string(list, item->valuestring, err);
        if (rc)
            return rc;
    }
    return rc;
}

static int own_string(char **out, const char *what, const cJSON *v,
                      struct infer_error *err)
{
    if (!cJSON_IsString(v) || !*v->valuestring)
        return config_fail(err, INFER_EINVAL, "%s: must be a string, not empty",
                           what);
    free(*out);
    *out = strdup(v->valuestring);
    return *out ? 0 : config_fail(err, INFER_ENOMEM, "out of memory");
}

/* Several files behind one name: classifiers whose scores are averaged. */
static int model_paths(struct model_config *m, const char *what, const cJSON *v,
                       struct infer_error *err)
{
    const cJSON *item;
    int rc = 0;

    if (!v->child || cJSON_GetArraySize(v) > ENSEMBLE_MAX)
        return config_fail(err, INFER_EINVAL, "%s: must name 1 to %d files",
                           what, ENSEMBLE_MAX);
    cJSON_ArrayForEach (item, v) {
        if (item == v->child)
            rc = own_string(&m->path, what, item, err);
        else if (!cJSON_IsString(item) || !*item->valuestring)
            rc = config_fail(err, INFER_EINVAL,
                             "%s: each must be a string, not empty", what);
        else
            rc = config_add_string(&m->more, item->valuestring, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int model_member(struct model_config *m, const char *what,
                        const cJSON *v, struct infer_error *err)
{
    const size_t base = offsetof(struct config, engine);
    const struct option *o;
    char text[64];
    int rc;

    if (strcmp(v->string, "path") == 0 && cJSON_IsArray(v))
        return model_paths(m, what, v, err);
    if (strcmp(v->string, "path") == 0)
        return own_string(&m->path, what, v, err);
    if (strcmp(v->string, "name") == 0)
        return own_string(&m->name, what, v, err);
    o = config_find(v->string, strlen(v->string));
    if (!o || o->kind > OPTION_WORD || o->member < base ||
        o->member >= base + sizeof(m->engine))
        return config_fail(err, INFER_EINVAL, "%s: unknown key", what);
    rc = scalar_text(o, what, v, text, sizeof(text), err);
    if (rc)
        return rc;
    m->own |= UINT64_C(1) << (o - config_option(0));
    return config_number(
        o, what, text,
        (int64_t *)(void *)((char *)&m->engine + (o->member - base)), err);
}

static int model_object(struct config *c, const char *path, const char *name,
                        const cJSON *v, struct infer_error *err)
{
    struct model_config *m = config_add_model(c);
    const cJSON *item;
    char what[256];
    int rc;

    if (!m || (name && !(m->name = strdup(name))))
        return config_fail(err, INFER_ENOMEM, "out of memory");
    cJSON_ArrayForEach (item, v) {
        snprintf(what, sizeof(what), "%s: model.%s%s%s", path,
                 m->name ? m->name : "", m->name ? "." : "", item->string);
        rc = model_member(m, what, item, err);
        if (rc)
            return rc;
    }
    if (!m->path || !m->name)
        return config_fail(err, INFER_EINVAL, "%s: model%s%s: needs a %s", path,
                           m->name ? " " : "", m->name ? m->name : "",
                           m->name ? "path" : "name");
    return 0;
}

/* "model": [ "NAME=PATH" | {name, path, ...} ] or { NAME: PATH | {...} } */
static int models(struct config *c, const struct option *o, const char *path,
                  const cJSON *v, struct infer_error *err)
{
    const cJSON *item;
    char what[256];
    int rc = 0;

    snprintf(what, sizeof(what), "%s: model", path);
    if (!cJSON_IsArray(v) && !cJSON_IsObject(v))
        return config_fail(err, INFER_EINVAL, "%s: must be a list or object",
                           what);
    cJSON_ArrayForEach (item, v) {
        if (cJSON_IsObject(item)) {
            rc = model_object(c, path, item->string, item, err);
        } else if (cJSON_IsString(item) && !item->string) {
            rc = config_set(c, o, FROM_FILE, what, item->valuestring, err);
        } else if (cJSON_IsString(item)) {
            struct model_config *m = config_add_model(c);

            if (!m || !(m->name = strdup(item->string)) ||
                !(m->path = strdup(item->valuestring)))
                rc = config_fail(err, INFER_ENOMEM, "out of memory");
        } else {
            rc = config_fail(err, INFER_EINVAL,
                             "%s: each must be a path or an object", what);
        }
        if (rc)
            return rc;
    }
    return 0;
}

static int key_member(struct key_config *k, const char *what, const cJSON *v,
                      struct infer_error *err)
{
    static const struct option count = {.kind = OPTION_INT,
                                        .highest = INT64_C(1) << 40};
    int64_t *number = NULL;
    char text[64];
    int rc;

    if (strcmp(v->string, "name") == 0)
        return own_string(&k->name, what, v, err);
    if (strcmp(v->string, "key") == 0)
        return own_string(&k->key, what, v, err);
    if (strcmp(v->string, "models") == 0)
        return string_list(&k->models, what, v, err);
    if (strcmp(v->string, "routes") == 0)
        return string_list(&k->routes, what, v, err);
    if (strcmp(v->string, "concurrency") == 0)
        number = &k->concurrency;
    else if (strcmp(v->string, "rate") == 0)
        number = &k->rate;
    else if (strcmp(v->string, "tokens") == 0)
        number = &k->tokens;
    else
        return config_fail(err, INFER_EINVAL, "%s: unknown key", what);
    rc = scalar_text(&count, what, v, text, sizeof(text), err);
    return rc ? rc : config_number(&count, what, text, number, err);
}

/* "api_keys": [ "KEY" | {name, key, concurrency, rate, tokens, ...} ] */
static int keys(struct config *c, const char *path, const cJSON *v,
                struct infer_error *err)
{
    const cJSON *item, *member;
    char what[256], name[32];
    int rc = 0;

    if (!cJSON_IsArray(v))
        return config_fail(err, INFER_EINVAL, "%s: api_keys: must be a list",
                           path);
    cJSON_ArrayForEach (item, v) {
        struct key_config *k = config_add_key(c);

        snprintf(name, sizeof(name), "key%zu", c->n_api_keys);
        if (!k || !(k->name = strdup(name)))
            return config_fail(err, INFER_ENOMEM, "out of memory");
        snprintf(what, sizeof(what), "%s: api_keys[%zu]", path,
                 c->n_api_keys - 1);
        if (!cJSON_IsObject(item))
            rc = own_string(&k->key, what, item, err);
        else
            cJSON_ArrayForEach (member, item) {
                snprintf(what, sizeof(what), "%s: api_keys[%zu].%s", path,
                         c->n_api_keys - 1, member->string);
                rc = key_member(k, what, member, err);
                if (rc)
                    return rc;
            }
        if (rc)
            return rc;
        if (!k->key)
            return config_fail(err, INFER_EINVAL, "%s: needs a key", what);
    }
    return 0;
}

static int option_value(struct config *c, const char *path, const cJSON *v,
                        struct infer_error *err)
{
    const struct option *o = config_find(v->string, strlen(v->string));
    char what[256], text[4096];
    int rc;

    if (!o || strchr(v->string, '-'))
        return config_fail(err, INFER_EINVAL, "%s: unknown key '%s'", path,
                           v->string);
    snprintf(what, sizeof(what), "%s: %s", path, v->string);
    if (o->kind >= OPTION_STRINGS)
        c->source[o - config_option(0)] = FROM_FILE;
    if (o->kind == OPTION_MODELS)
        return models(c, o, path, v, err);
    if (o->kind == OPTION_KEYS)
        return keys(c, path, v, err);
    if (o->kind == OPTION_STRINGS)
        return string_list((struct strings *)((char *)c + o->member), what, v,
                           err);
    rc = scalar_text(o, what, v, text, sizeof(text), err);
    return rc ? rc : config_set(c, o, FROM_FILE, what, text, err);
}

static int parse(const char *path, char *text, size_t len, cJSON **root,
                 struct infer_error *err)
{
    struct infer_error why;
    int rc = blank_comments(path, text, len, err);

    if (rc)
        return rc;
    rc = json_check(text, len, &why);
    if (rc)
        return config_fail(err, rc, "%s: %.200s", path, why.text);
    *root = cJSON_ParseWithLength(text, len);
    return *root ? 0 : config_fail(err, INFER_ENOMEM, "out of memory");
}

int config_read_text(struct config *c, const char *path, char *text, size_t len,
                     struct infer_error *err)
{
    cJSON *root = NULL, *item;
    int rc = parse(path, text, len, &root, err);

    if (rc == 0 && !cJSON_IsObject(root))
        rc = config_fail(err, INFER_EINVAL, "%s: must hold one object", path);
    if (rc == 0)
        cJSON_ArrayForEach (item, root) {
            rc = option_value(c, path, item, err);
            if (rc)
                break;
        }
    cJSON_Delete(root);
    return rc;
}

static int read_whole(const char *path, char **text, size_t *len,
                      struct infer_error *err)
{
    FILE *f = fopen(path, "rbe");
    char *s = malloc(MAX_FILE_BYTES + 1);
    int rc = 0;

    if (!f)
        rc = config_fail(err, INFER_EIO, "cannot open '%s': %s", path,
                         strerror(errno));
    else if (!s)
        rc = config_fail(err, INFER_ENOMEM, "out of memory");
    if (rc == 0) {
        *len = fread(s, 1, MAX_FILE_BYTES + 1, f);
        if (ferror(f))
            rc = config_fail(err, INFER_EIO, "cannot read '%s'", path);
        else if (*len > MAX_FILE_BYTES)
            rc = config_fail(err, INFER_EINVAL, "'%s' is larger than %d bytes",
                             path, MAX_FILE_BYTES);
    }
    if (f)
        fclose(f);
    if (rc == 0)
        *text = s;
    else
        free(s);
    return rc;
}

int config_read_file(struct config *c, const char *path,
                     struct infer_error *err)
{
    char *text = NULL;
    size_t len = 0;
    int rc = read_whole(path, &text, &len, err);

    if (rc == 0)
        rc = config_read_text(c, path, text, len, err);
    free(text);
    return rc;
}

int config_read_keys(struct config *c, const char *path,
                     struct infer_error *err)
{
    cJSON *root = NULL;
    char *text = NULL;
    size_t len = 0;
    int rc = read_whole(path, &text, &len, err);

    if (rc == 0)
        rc = parse(path, text, len, &root, err);
    if (rc == 0)
        rc = keys(c, path, root, err);
    cJSON_Delete(root);
    if (text)
        explicit_bzero(text, len);
    free(text);
    return rc;
}
