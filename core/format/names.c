/*
 * names.c - an open-addressing hash table from names to small numbers.
 *
 * A model has some hundred tensors and some dozen keys, looked up once each at
 * load, and a hostile file has as many as it likes: both need more than a
 * linear search and no more than this. Probing is linear, the table at most
 * half full, the hash FNV-1a, kept beside the name so that growing and most
 * misses compare no bytes.
 */
#include "core/format/names.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 64 };

struct infer_name {
    const char *name; /* borrowed; NULL: free slot */
    size_t len;
    uint32_t hash;
    uint32_t id;
};

static uint32_t hash_of(const char *name, size_t len)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)name[i]) * 16777619u;
    return h;
}

/* Where the name is, or the free slot where it belongs. */
static struct infer_name *slot_of(struct infer_name *slots, size_t cap,
                                  const char *name, size_t len, uint32_t hash)
{
    size_t i = hash & (cap - 1);

    for (;; i = (i + 1) & (cap - 1)) {
        struct infer_name *s = &slots[i];

        if (!s->name)
            return s;
        if (s->hash == hash && s->len == len && !memcmp(s->name, name, len))
            return s;
    }
}

static int grow(struct infer_names *names)
{
    const size_t cap = names->cap ? names->cap * 2 : FIRST_CAP;
    struct infer_name *slots = calloc(cap, sizeof(*slots));

    if (!slots)
        return INFER_ENOMEM;
    for (size_t i = 0; i < names->cap; i++) {
        const struct infer_name *s = &names->slots[i];

        if (s->name)
            *slot_of(slots, cap, s->name, s->len, s->hash) = *s;
    }
    free(names->slots);
    names->slots = slots;
    names->cap = cap;
    return 0;
}

int infer_names_add(struct infer_names *names, const char *name, size_t len,
                    uint32_t id)
{
    const uint32_t hash = hash_of(name, len);
    struct infer_name *s;

    if (2 * (names->n + 1) > names->cap && grow(names))
        return INFER_ENOMEM;
    s = slot_of(names->slots, names->cap, name, len, hash);
    if (s->name)
        return 1;
    *s = (struct infer_name){name, len, hash, id};
    names->n++;
    return 0;
}

int64_t infer_names_find(const struct infer_names *names, const char *name,
                         size_t len)
{
    const struct infer_name *s;

    if (!names->cap)
        return -1;
    s = slot_of(names->slots, names->cap, name, len, hash_of(name, len));
    return s->name ? (int64_t)s->id : -1;
}

void infer_names_release(struct infer_names *names)
{
    free(names->slots);
    *names = (struct infer_names){0};
}
