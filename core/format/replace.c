/*
 * replace.c - atomic replacement of a file, durable when commit returns.
 *
 * The order is what makes it safe: the new bytes reach the disk before the
 * name does, and the name before success is reported. The temporary file lies
 * in the same folder, since rename() is atomic only within a file system.
 */
#include "core/format/replace.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ATTEMPTS = 100 }; /* temporary names that may be taken already */

static int io_fail(const struct infer_replace *r, const char *what,
                   struct infer_error *err)
{
    return infer_fail(err, INFER_EIO, "cannot %s '%.150s': %s", what, r->path,
                      strerror(errno));
}

int infer_replace_begin(struct infer_replace *r, const char *path,
                        struct infer_error *err)
{
    const size_t room = strlen(path) + 48;

    *r = (struct infer_replace){path, malloc(room), -1};
    if (!r->temp)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    for (int i = 0; i < ATTEMPTS && r->fd < 0; i++) {
        snprintf(r->temp, room, "%s.tmp-%ld-%d", path, (long)getpid(), i);
        r->fd = open(r->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (r->fd < 0 && errno != EEXIST)
            break;
    }
    if (r->fd >= 0)
        return 0;
    free(r->temp);
    r->temp = NULL;
    return io_fail(r, "create", err);
}

int infer_replace_write(struct infer_replace *r, const void *data, size_t n,
                        struct infer_error *err)
{
    const char *p = data;

    while (n > 0) {
        const ssize_t done = write(r->fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return io_fail(r, "write", err);
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static int sync_folder(const struct infer_replace *r, struct infer_error *err)
{
    const char *slash = strrchr(r->path, '/');
    char *folder =
        slash ? strndup(r->path, (size_t)(slash - r->path) + 1) : strdup(".");
    int fd, status = 0;

    if (!folder)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that has nothing to sync here */
    if (fd < 0 || (fsync(fd) && errno != EINVAL))
        status = io_fail(r, "sync the folder of", err);
    if (fd >= 0)
        close(fd);
    free(folder);
    return status;
}

int infer_replace_commit(struct infer_replace *r, struct infer_error *err)
{
    const int fd = r->fd;

    if (fsync(fd))
        return io_fail(r, "sync", err);
    r->fd = -1;
    if (close(fd))
        return io_fail(r, "close", err);
    if (rename(r->temp, r->path))
        return io_fail(r, "replace", err);
    free(r->temp);
    r->temp = NULL;
    return sync_folder(r, err);
}

void infer_replace_abort(struct infer_replace *r)
{
    if (r->fd >= 0)
        close(r->fd);
    if (r->temp)
        unlink(r->temp);
    free(r->temp);
    *r = (struct infer_replace){NULL, NULL, -1};
}

int infer_replace_file(const char *path, const void *data, size_t n,
                       struct infer_error *err)
{
    struct infer_replace r;
    int status = infer_replace_begin(&r, path, err);

    if (status != 0)
        return status;
    status = infer_replace_write(&r, data, n, err);
    if (status == 0)
        status = infer_replace_commit(&r, err);
    infer_replace_abort(&r);
    return status;
}
