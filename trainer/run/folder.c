/* folder.c - see folder.h. config.json is written when the data is ready, so
 * a folder without it is no run yet and may be begun again. */
#include "trainer/run/folder.h"

#include "core/base/error.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_LEN = 4096 };

static const char *const parts[] = {"", "/data", "/checkpoints"};

static bool has_run(const char *path)
{
    char config[PATH_LEN];

    snprintf(config, sizeof(config), "%s/config.json", path);
    return access(config, F_OK) == 0;
}

int train_folder_make(const char *path, struct infer_error *err)
{
    char part[PATH_LEN];

    if (strlen(path) > 3000)
        return infer_fail(err, INFER_EINVAL, "the path of --out is too long");
    if (has_run(path))
        return infer_fail(err, INFER_EINVAL,
                          "'%.150s' holds a run already; go on with --resume, "
                          "or name another --out",
                          path);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        snprintf(part, sizeof(part), "%s%s", path, parts[i]);
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return infer_fail(err, INFER_EIO, "cannot make folder '%.150s': %s",
                              part, strerror(errno));
    }
    return 0;
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

int train_folder_clean(const char *path, struct infer_error *err)
{
    char part[PATH_LEN];

    if (strlen(path) > 3000 || !has_run(path))
        return infer_fail(err, INFER_EINVAL,
                          "'%.150s' holds no run to resume (no config.json)",
                          path);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        snprintf(part, sizeof(part), "%s%s", path, parts[i]);
        clean(part);
    }
    return 0;
}

const char *train_folder_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}
