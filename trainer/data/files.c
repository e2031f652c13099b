/*
 * files.c - see files.h. Folders are walked in sorted order: the order of the
 * data decides every later number, so it may not depend on the file system.
 */
#include "trainer/data/files.h"

#include "core/base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 32 };

static bool has_ending(const char *path, const char *const *endings)
{
    const char *dot = strrchr(path, '.');

    for (; dot && *endings; endings++)
        if (strcmp(dot, *endings) == 0)
            return true;
    return false;
}

bool train_file_is_jsonl(const char *path)
{
    static const char *const endings[] = {".jsonl", ".ndjson", NULL};

    return has_ending(path, endings);
}

static bool is_text(const char *path)
{
    static const char *const endings[] = {".txt", ".text", ".md", NULL};

    return has_ending(path, endings) || train_file_is_jsonl(path);
}

static int add(struct train_list *files, const char *path,
               struct infer_error *err)
{
    char *copy = strdup(path);

    if (copy && train_list_add(files, copy) == 0)
        return 0;
    free(copy);
    return infer_fail(err, INFER_ENOMEM, "out of memory for the file list");
}

static int visible(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int expand(const char *path, int depth, struct train_list *files,
                  struct infer_error *err);

static int expand_folder(const char *path, int depth, struct train_list *files,
                         struct infer_error *err)
{
    struct dirent **entries = NULL;
    const int n =
        depth < MAX_DEPTH ? scandir(path, &entries, visible, by_name) : 0;
    int status = 0;

    if (n < 0)
        return infer_fail(err, INFER_EIO, "cannot read folder '%.150s': %s",
                          path, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *name = NULL;

        if (status == 0 &&
            asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
            status = infer_fail(err, INFER_ENOMEM, "out of memory");
        if (status == 0)
            status = expand(name, depth + 1, files, err);
        free(name);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static int expand(const char *path, int depth, struct train_list *files,
                  struct infer_error *err)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return infer_fail(err, INFER_EIO, "cannot read '%.150s': %s", path,
                          strerror(errno));
    if (S_ISDIR(st.st_mode))
        return expand_folder(path, depth, files, err);
    if (depth > 0 && (!S_ISREG(st.st_mode) || !is_text(path)))
        return 0;
    return add(files, path, err);
}

int train_files_expand(const struct train_list *paths, struct train_list *files,
                       struct infer_error *err)
{
    int status = 0;

    if (paths->n == 0)
        return infer_fail(err, INFER_EINVAL,
                          "no data given: name text files, JSONL or folders");
    for (size_t i = 0; i < paths->n && status == 0; i++)
        status = expand(paths->items[i], 0, files, err);
    if (status == 0 && files->n == 0)
        status = infer_fail(err, INFER_EINVAL,
                            "no .txt, .md or .jsonl file in '%.150s'",
                            paths->items[0]);
    return status;
}

void train_files_release(struct train_list *files)
{
    for (size_t i = 0; i < files->n; i++) {
        char *path;

        memcpy(&path, &files->items[i], sizeof(path)); /* ours: see add() */
        free(path);
    }
    train_list_release(files);
}

int train_map_open(struct train_map *map, const char *path,
                   struct infer_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *data = NULL;
    int status = 0;

    if (fd < 0 || fstat(fd, &st) != 0) {
        status = infer_fail(err, INFER_EIO, "cannot read '%.150s': %s", path,
                            strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        status =
            infer_fail(err, INFER_EIO, "'%.150s' is not a regular file", path);
        goto out;
    }
    *map = (struct train_map){"", (size_t)st.st_size};
    if (map->size == 0)
        goto out;
    data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        status = infer_fail(err, INFER_EIO, "cannot map '%.150s': %s", path,
                            strerror(errno));
        goto out;
    }
    map->data = data;
out:
    if (fd >= 0)
        close(fd);
    return status;
}

void train_map_close(struct train_map *map)
{
    void *data;

    memcpy(&data, &map->data, sizeof(data)); /* mapped read-only, not const */
    if (map->size)
        munmap(data, map->size);
    *map = (struct train_map){"", 0};
}
