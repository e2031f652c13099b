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
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct header {
    char magic[8];
    uint64_t n_values, n_state, n_ema;
    uint64_t optim_steps, ema_updates;
    struct train_progress progress;
};

static const char magic[8] = "inferck2";

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

/* The arrays of a file, in order. */
struct parts {
    float *at[3]; /* [n] parameters, optimizer state, averages; NULL: none */
    size_t n[3];
};

static struct parts parts_of(const struct train_state *s)
{
    struct parts p = {{net_params(s->net)}, {net_n_values(s->net)}};

    if (s->optim)
        p.at[1] = optim_state(s->optim, &p.n[1]);
    if (s->ema) {
        p.at[2] = ema_values(s->ema);
        p.n[2] = p.n[0];
    }
    return p;
}

uint64_t train_checkpoint_hash(const struct train_state *s)
{
    const struct parts parts = parts_of(s);
    uint64_t sum = 0;

    for (int i = 0; i < 3; i++)
        if (parts.at[i])
            sum = hash(sum, parts.at[i], parts.n[i] * sizeof(float));
    return sum;
}

static bool all_finite(const float *x, size_t n)
{
    size_t bad = 0;

    for (size_t i = 0; i < n; i++)
        bad += isfinite(x[i]) ? 0 : 1;
    return bad == 0;
}

static struct header header_of(const struct train_state *s,
                               const struct parts *parts,
                               const struct train_progress *p)
{
    struct header h;

    memset(&h, 0, sizeof(h)); /* the gaps are hashed too */
    memcpy(h.magic, magic, sizeof(magic));
    h.n_values = parts->n[0];
    h.n_state = parts->n[1];
    h.n_ema = parts->n[2];
    h.optim_steps = s->optim ? optim_n_steps(s->optim) : 0;
    h.ema_updates = s->ema ? ema_n_updates(s->ema) : 0;
    memcpy(&h.progress, p, sizeof(*p));
    return h;
}

int train_checkpoint_write(const char *path, const struct train_state *s,
                           const struct train_progress *p,
                           struct infer_error *err)
{
    const struct parts parts = parts_of(s);
    const struct header h = header_of(s, &parts, p);
    struct infer_replace file;
    uint64_t sum = hash(0, &h, sizeof(h));
    int status;

    if (!all_finite(parts.at[0], parts.n[0]))
        return infer_fail(err, INFER_EFORMAT,
                          "a parameter is not finite at step %llu; nothing of "
                          "it was saved. Try a lower --lr or a longer --warmup",
                          (unsigned long long)p->step);
    status = infer_replace_begin(&file, path, err);
    if (status != 0)
        return status;
    status = infer_replace_write(&file, &h, sizeof(h), err);
    for (int i = 0; i < 3 && status == 0; i++) {
        if (!parts.at[i])
            continue;
        sum = hash(sum, parts.at[i], parts.n[i] * sizeof(float));
        status = infer_replace_write(&file, parts.at[i],
                                     parts.n[i] * sizeof(float), err);
    }
    if (status == 0)
        status = infer_replace_write(&file, &sum, sizeof(sum), err);
    if (status == 0)
        status = infer_replace_commit(&file, err);
    infer_replace_abort(&file);
    return status;
}

/* Does the file hold what s takes, and is it whole? */
static int check(const char *path, const struct train_map *map,
                 const struct header *h, const struct parts *parts,
                 struct infer_error *err)
{
    const uint64_t counts[3] = {h->n_values, h->n_state, h->n_ema};
    uint64_t room = (map->size - sizeof(*h)) / sizeof(float);
    uint64_t sum, want = hash(0, h, sizeof(*h));
    const char *at = map->data + sizeof(*h);

    if (map->size < sizeof(*h) + sizeof(sum) ||
        memcmp(h->magic, magic, sizeof(magic)) != 0)
        return infer_fail(err, INFER_EFORMAT, "'%.150s' is damaged", path);
    for (int i = 0; i < 3; i++) {
        const size_t bytes = (size_t)counts[i] * sizeof(float);

        if (counts[i] > room)
            return infer_fail(err, INFER_EFORMAT, "'%.150s' is cut short",
                              path);
        room -= counts[i];
        if (bytes)
            want = hash(want, at, bytes);
        at += bytes;
    }
    if ((size_t)(map->data + map->size - at) == sizeof(sum))
        memcpy(&sum, at, sizeof(sum));
    else
        sum = ~want;
    if (sum != want)
        return infer_fail(err, INFER_EFORMAT, "'%.150s' is damaged", path);
    for (int i = 0; i < 3; i++)
        if (parts->at[i] && parts->n[i] != counts[i])
            return infer_fail(err, INFER_EFORMAT,
                              "'%.120s' is of another shape, optimizer or "
                              "average",
                              path);
    return 0;
}

int train_checkpoint_read(const char *path, const struct train_state *s,
                          struct train_progress *p, struct infer_error *err)
{
    const struct parts parts = parts_of(s);
    struct train_map map = {"", 0};
    struct header h = {0};
    const char *at;
    int status = train_map_open(&map, path, err);

    if (status != 0)
        return status;
    if (map.size >= sizeof(h))
        memcpy(&h, map.data, sizeof(h));
    status = check(path, &map, &h, &parts, err);
    if (status != 0)
        goto out;
    at = map.data + sizeof(h);
    memcpy(parts.at[0], at, parts.n[0] * sizeof(float));
    at += h.n_values * sizeof(float);
    if (s->optim) {
        memcpy(parts.at[1], at, parts.n[1] * sizeof(float));
        optim_set_n_steps(s->optim, h.optim_steps);
    }
    at += h.n_state * sizeof(float);
    if (s->ema) {
        memcpy(parts.at[2], at, parts.n[2] * sizeof(float));
        ema_set_n_updates(s->ema, h.ema_updates);
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

int train_checkpoint_save(const char *folder, unsigned keep,
                          const struct train_state *s,
                          const struct train_progress *p,
                          struct infer_error *err)
{
    struct dirent **names = NULL;
    char path[4096];
    int n, status;

    snprintf(path, sizeof(path), "%s/step-%012llu.ckpt", folder,
             (unsigned long long)p->step);
    status = train_checkpoint_write(path, s, p, err);
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

int train_checkpoint_latest(const char *folder, const struct train_state *s,
                            struct train_progress *p, unsigned *n_damaged,
                            struct infer_error *err)
{
    struct dirent **names = NULL;
    const int n = list(folder, &names, err);
    int status = n < 0 ? INFER_EIO : 1;

    *n_damaged = 0;
    for (int i = n - 1; i >= 0; i--) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
        status = train_checkpoint_read(path, s, p, err);
        if (status == 0)
            break;
        ++*n_damaged;
    }
    free_list(names, n);
    if (status < 0 && n > 0) {
        char why[120];

        snprintf(why, sizeof(why), "%.110s", err ? err->text : "");
        return infer_fail(err, status,
                          "no checkpoint in '%.90s' can be used (%s)", folder,
                          why);
    }
    return status;
}
