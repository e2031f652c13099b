/*
 * strs.c - a set of strings with indices, and a growing list of ids.
 *
 * The table is sized once, at most half full, and never changes after the
 * vocabulary is built: look-ups need no lock. FNV-1a mixes short keys well
 * enough, and its cost is what the key comparison costs anyway.
 */
#include "core/tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash(const char *s, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

int infer_strs_init(struct infer_strs *m, uint32_t cap)
{
    uint32_t n_slots = 16;

    while (n_slots / 2 < cap)
        n_slots *= 2;
    *m = (struct infer_strs){.cap = cap, .mask = n_slots - 1};
    m->data = malloc((cap ? cap : 1) * sizeof(*m->data));
    m->slots = calloc(n_slots, sizeof(*m->slots));
    if (!m->data || !m->slots) {
        infer_strs_release(m);
        return INFER_ENOMEM;
    }
    return 0;
}

void infer_strs_release(struct infer_strs *m)
{
    free(m->data);
    free(m->slots);
    *m = (struct infer_strs){0};
}

/* The slot that holds the string, or the empty one where it belongs. */
static uint32_t *slot(const struct infer_strs *m, const char *s, size_t len)
{
    for (uint32_t i = hash(s, len);; i++) {
        uint32_t *p = &m->slots[i & m->mask];
        const struct infer_gguf_str *have;

        if (*p == 0)
            return p;
        have = &m->data[*p - 1];
        if (have->len == len && memcmp(have->data, s, len) == 0)
            return p;
    }
}

int32_t infer_strs_find(const struct infer_strs *m, const char *s, size_t len)
{
    return (int32_t)*slot(m, s, len) - 1;
}

uint32_t infer_strs_add(struct infer_strs *m, const char *s, size_t len)
{
    uint32_t *p = slot(m, s, len);

    if (*p == 0) {
        m->data[m->n] = (struct infer_gguf_str){s, len};
        *p = ++m->n;
    }
    return *p - 1;
}

int infer_ids_push(struct infer_ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap ? ids->cap * 2 : 64;
        int32_t *data = realloc(ids->data, cap * sizeof(*data));

        if (!data)
            return INFER_ENOMEM;
        ids->data = data;
        ids->cap = cap;
    }
    ids->data[ids->n++] = id;
    return 0;
}
