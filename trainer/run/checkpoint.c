/*
 * checkpoint.c - see checkpoint.h. The hash is there for disks and copies that
 * fail, not against attackers: a multiply and a rotation for 8 bytes.
 */
#include "trainer/run/checkpoint.h"

#include "core/base/error.h"
#include "core/format/replace.h"
#include "trainer/data/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct header {
    char magic[8];
    uint64_t n_values, n_state;
    uint64_t optim_steps;
    struct train_progress progress;
};

static const char magic[8] = "inferck1";

static uint64_t hash(uint64_t h, const void *data, size_t n)
{
    const char *p = data;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t w = 0;

        memcpy(&w, p + i, n - i < 8 ? n - i : 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h = h << 27 | h >> 37;
    }
    return h ^ n;
}

int train_checkpoint_write(const char *path, struct net *net,
                           struct optim *optim, const struct train_progress *p,
                           struct infer_error *err)
{
    struct header h;
    struct infer_replace file;
    size_t n_state;
    const float *state = optim_state(optim, &n_state);
    const size_t n = net_n_values(net);
    uint64_t sum;
    int status = infer_replace_begin(&file, path, err);

    if (status != 0)
        return status;
    memset(&h, 0, sizeof(h)); /* the gaps are hashed too */
    memcpy(h.magic, magic, sizeof(magic));
    h.n_values = n;
    h.n_state = n_state;
    h.optim_steps = optim_n_steps(optim);
    memcpy(&h.progress, p, sizeof(*p));
    sum = hash(0, &h, sizeof(h));
    sum = hash(sum, net_params(net), n * sizeof(float));
    sum = hash(sum, state, n_state * sizeof(float));
    status = infer_replace_write(&file, &h, sizeof(h), err);
    if (status == 0)
        status =
            infer_replace_write(&file, net_params(net), n * sizeof(float), err);
    if (status == 0)
        status =
            infer_replace_write(&file, state, n_state * sizeof(float), err);
    if (status == 0)
        status = infer_replace_write(&file, &sum, sizeof(sum), err);
    if (status == 0)
        status = infer_replace_commit(&file, err);
    infer_replace_abort(&file);
    return status;
}

int train_checkpoint_read(const char *path, struct net *net,
                          struct optim *optim, struct train_progress *p,
                          struct infer_error *err)
{
    const size_t values = net_n_values(net) * sizeof(float);
    struct train_map map = {"", 0};
    struct header h = {0};
    size_t n_state = 0, state;
    uint64_t sum = 0;
    int status = train_map_open(&map, path, err);

    if (status != 0)
        return status;
    if (map.size >= sizeof(h))
        memcpy(&h, map.data, sizeof(h));
    if (optim)
        optim_state(optim, &n_state);
    else
        n_state = (size_t)h.n_state;
    state = n_state * sizeof(float);
    if (memcmp(h.magic, magic, sizeof(magic)) != 0 ||
        h.n_values * sizeof(float) != values || h.n_state != n_state ||
        map.size != sizeof(h) + values + state + sizeof(sum)) {
        status = infer_fail(err, INFER_EFORMAT,
                            "'%.150s' is damaged or of another shape", path);
        goto out;
    }
    memcpy(&sum, map.data + map.size - sizeof(sum), sizeof(sum));
    if (sum != hash(hash(hash(0, &h, sizeof(h)), map.data + sizeof(h), values),
                    map.data + sizeof(h) + values, state)) {
        status = infer_fail(err, INFER_EFORMAT, "'%.150s' is damaged", path);
        goto out;
    }
    memcpy(net_params(net), map.data + sizeof(h), values);
    if (optim) {
        memcpy(optim_state(optim, &n_state), map.data + sizeof(h) + values,
               state);
        optim_set_n_steps(optim, h.optim_steps);
    }
    *p = h.progress;
out:
    train_map_close(&map);
    return status;
}

static int is_step(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');

    return strncmp(d->d_name, "step-", 5) == 0 && dot &&
           strcmp(dot, ".ckpt") == 0;
}

/* Names have as many digits as any: the last is the newest. */
static int list(const char *folder, struct dirent ***names,
                struct infer_error *err)
{
    const int n = scandir(folder, names, is_step, alphasort);

    if (n < 0)
        infer_fail(err, INFER_EIO, "cannot read folder '%.150s': %s", folder,
                   strerror(errno));
    return n;
}

static void free_list(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    if (n >= 0)
        free(names);
}

int train_checkpoint_save(const char *folder, unsigned keep, struct net *net,
                          struct optim *optim, const struct train_progress *p,
                          struct infer_error *err)
{
    struct dirent **names = NULL;
    char path[4096];
    int n, status;

    snprintf(path, sizeof(path), "%s/step-%012llu.ckpt", folder,
             (unsigned long long)p->step);
    status = train_checkpoint_write(path, net, optim, p, err);
    if (status != 0)
        return status;
    n = list(folder, &names, err);
    for (int i = 0; i < n - (int)keep; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
        unlink(path); /* one too many does no harm */
    }
    free_list(names, n);
    return n < 0 ? INFER_EIO : 0;
}

int train_checkpoint_latest(const char *folder, struct net *net,
                            struct optim *optim, struct train_progress *p,
                            unsigned *n_damaged, struct infer_error *err)
{
    struct dirent **names = NULL;
    const int n = list(folder, &names, err);
    int status = n < 0 ? INFER_EIO : 1;

    *n_damaged = 0;
    for (int i = n - 1; i >= 0; i--) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
        status = train_checkpoint_read(path, net, optim, p, err);
        if (status == 0)
            break;
        ++*n_damaged;
    }
    free_list(names, n);
    return status;
}
