/* checkpoint.c - see checkpoint.h. */
#include "trainer/hf/checkpoint.h"

#include "core/base/error.h"
#include "trainer/hf/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_LEN = 4096, MAX_FILES = 4096 };

static const char single[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

bool hf_checkpoint_is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool hf_checkpoint_is(const char *path)
{
    static const char end[] = ".safetensors";
    const size_t n = strlen(path), k = strlen(end);

    return hf_checkpoint_is_folder(path) ||
           (n > k && strcmp(path + n - k, end) == 0);
}

static int open_file(struct hf_checkpoint *c, const char *path,
                     struct infer_error *err)
{
    struct infer_safetensors **p = realloc(
        c->files, (c->n_files + 1) * sizeof(struct infer_safetensors *));
    int status;

    if (!p)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    c->files = p;
    status = infer_safetensors_open(&c->files[c->n_files], path, err);
    c->n_files += status == 0;
    return status;
}

/* ---- several files ------------------------------------------------------- */

/* Names of files, each once; borrowed from the index. */
struct names {
    const char **items;
    size_t n;
};

static int add_name(struct names *names, const char *name,
                    struct infer_error *err)
{
    const char **p;

    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->items[i], name) == 0)
            return (int)i;
    /* a file of the folder, not one somewhere else */
    if (strchr(name, '/') || *name == '.' || names->n == MAX_FILES)
        return infer_fail(err, INFER_EFORMAT,
                          "%s: '%.80s' is no file of the folder, or one too "
                          "many",
                          index_name, name);
    p = realloc(names->items, (names->n + 1) * sizeof(*p));
    if (!p)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    names->items = p;
    names->items[names->n++] = name;
    return (int)names->n - 1;
}

static int open_shard(struct hf_checkpoint *c, const char *name,
                      struct infer_error *err)
{
    char path[PATH_LEN];

    if (snprintf(path, sizeof(path), "%s/%s", c->folder, name) >= PATH_LEN)
        return infer_fail(err, INFER_EINVAL, "'%.150s': the path is too long",
                          c->folder);
    return open_file(c, path, err);
}

static int read_map(struct hf_checkpoint *c, const cJSON *map,
                    struct names *names, struct infer_error *err)
{
    const cJSON *v;
    size_t n = 0;

    cJSON_ArrayForEach (v, map) {
        int file;

        if (!cJSON_IsString(v))
            return infer_fail(err, INFER_EFORMAT,
                              "%s: '%.80s' is not the name of a file",
                              index_name, v->string);
        file = add_name(names, v->valuestring, err);
        if (file < 0)
            return file;
        if ((size_t)file == c->n_files) {
            const int status = open_shard(c, v->valuestring, err);

            if (status != 0)
                return status;
        }
        if (!infer_safetensors_find(c->files[file], v->string))
            return infer_fail(err, INFER_EFORMAT,
                              "tensor '%.80s' is not in '%.80s', where the "
                              "index says",
                              v->string, v->valuestring);
        n++;
    }
    if (n != hf_checkpoint_n(c))
        return infer_fail(err, INFER_EFORMAT,
                          "%s names %zu tensors, its files hold %zu",
                          index_name, n, hf_checkpoint_n(c));
    return 0;
}

static int open_index(struct hf_checkpoint *c, struct infer_error *err)
{
    struct names names = {NULL, 0};
    struct hf_reader r = {.file = index_name, .err = err};
    const cJSON *map;
    cJSON *root = NULL;

    r.status = hf_json_open_in(&root, c->folder, index_name, err);
    if (r.status)
        return r.status;
    r.object = root;
    map = hf_object(&r, "weight_map");
    if (!map)
        hf_refuse(&r, INFER_EFORMAT, "weight_map", "is missing");
    if (r.status == 0)
        r.status = read_map(c, map, &names, err);
    free(names.items);
    cJSON_Delete(root);
    return r.status;
}

/* ---- opening ------------------------------------------------------------- */

static int open_folder(struct hf_checkpoint *c, struct infer_error *err)
{
    if (hf_json_exists(c->folder, index_name))
        return open_index(c, err);
    if (hf_json_exists(c->folder, single))
        return open_shard(c, single, err);
    return infer_fail(err, INFER_EIO, "'%.150s' has neither %s nor %s%s",
                      c->folder, single, index_name,
                      hf_json_exists(c->folder, "pytorch_model.bin")
                          ? " (pytorch_model.bin is not read: save it as "
                            "safetensors)"
                          : "");
}

int hf_checkpoint_open(struct hf_checkpoint *c, const char *path,
                       struct infer_error *err)
{
    const char *slash = strrchr(path, '/');
    int status;

    *c = (struct hf_checkpoint){0};
    if (hf_checkpoint_is_folder(path))
        c->folder = strdup(path);
    else
        c->folder =
            slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!c->folder)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = hf_checkpoint_is_folder(path) ? open_folder(c, err)
                                           : open_file(c, path, err);
    if (status != 0)
        hf_checkpoint_close(c);
    return status;
}

void hf_checkpoint_close(struct hf_checkpoint *c)
{
    for (size_t i = 0; i < c->n_files; i++)
        infer_safetensors_close(c->files[i]);
    free(c->files);
    free(c->folder);
    *c = (struct hf_checkpoint){0};
}

const struct infer_st_tensor *hf_checkpoint_find(const struct hf_checkpoint *c,
                                                 const char *name)
{
    const struct infer_st_tensor *t = NULL;

    for (size_t i = 0; i < c->n_files && !t; i++)
        t = infer_safetensors_find(c->files[i], name);
    return t;
}

size_t hf_checkpoint_n(const struct hf_checkpoint *c)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_files; i++)
        n += infer_safetensors_n(c->files[i]);
    return n;
}

const struct infer_st_tensor *
hf_checkpoint_tensor(const struct hf_checkpoint *c, size_t i)
{
    size_t file = 0;

    while (i >= infer_safetensors_n(c->files[file]))
        i -= infer_safetensors_n(c->files[file++]);
    return infer_safetensors_tensor(c->files[file], i);
}
