/* folder.c - see folder.h. config.json is written when the data is ready, so
 * a folder without it is no run yet and may be begun again. */
#include "trainer/run/folder.h"

#include "core/base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_LEN = 4096 };

static const char *const parts[] = {"", "/data", "/checkpoints"};

bool train_folder_has_run(const char *path)
{
    char config[PATH_LEN];

    snprintf(config, sizeof(config), "%s/config.json", path);
    return access(config, F_OK) == 0;
}

static void clean(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *d;
    char name[PATH_LEN];

    while (dir && (d = readdir(dir)) != NULL) {
        const int n = snprintf(name, sizeof(name), "%s/%s", path, d->d_name);

        if (n < PATH_LEN && strstr(d->d_name, ".tmp-"))
            unlink(name);
    }
    if (dir)
        closedir(dir);
}

/* mkdir -p */
static int make_all(char *path)
{
    for (char *s = path + 1; *s; s++) {
        if (*s != '/')
            continue;
        *s = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return -1;
        *s = '/';
    }
    return mkdir(path, 0777) != 0 && errno != EEXIST ? -1 : 0;
}

static int make(const char *path, struct infer_error *err)
{
    char part[PATH_LEN];

    if (!*path || strlen(path) > 3000)
        return infer_fail(err, INFER_EINVAL,
                          "the path of --out is empty or too long");
    if (train_folder_has_run(path))
        return infer_fail(err, INFER_EINVAL,
                          "'%.150s' holds a run already; go on with --resume, "
                          "or name another --out",
                          path);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        snprintf(part, sizeof(part), "%s%s", path, parts[i]);
        if (make_all(part) != 0)
            return infer_fail(err, INFER_EIO, "cannot make folder '%.150s': %s",
                              part, strerror(errno));
    }
    if (rmdir(part) != 0 || mkdir(part, 0777) != 0) /* checkpoints of what? */
        return infer_fail(err, INFER_EINVAL,
                          "'%.150s' is not empty; name another --out", part);
    return 0;
}

static int lock(const char *path, int *fd, struct infer_error *err)
{
    const int f = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (f < 0)
        return infer_fail(err, INFER_EIO, "cannot open folder '%.150s': %s",
                          path, strerror(errno));
    if (flock(f, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(f);
        return infer_fail(err, INFER_EBUSY,
                          "another infer-train works in '%.150s'; wait for it "
                          "or stop it",
                          path);
    }
    *fd = f; /* a file system without locks does without */
    return 0;
}

int train_folder_open(const char *path, bool resume, int *fd,
                      struct infer_error *err)
{
    char part[PATH_LEN];
    int status = 0;

    if (!resume)
        status = make(path, err);
    if (status == 0)
        status = lock(path, fd, err);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && status == 0; i++) {
        snprintf(part, sizeof(part), "%s%s", path, parts[i]);
        clean(part);
    }
    return status;
}

void train_folder_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

const char *train_folder_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}
