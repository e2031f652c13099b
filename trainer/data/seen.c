/*
 * seen.c - see seen.h. Two independent multiply-xor hashes of 8 bytes a step;
 * data that is built to collide would only drop a document of its own.
 */
#include "trainer/data/seen.h"

#include "core/base/error.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static void hash(const char *text, size_t len, uint64_t out[2])
{
    uint64_t a = 0x9e3779b97f4a7c15u ^ len, b = 0xc2b2ae3d27d4eb4fu + len;

    for (size_t i = 0; i < len; i += 8) {
        uint64_t w = 0;

        memcpy(&w, text + i, len - i < 8 ? len - i : 8);
        a = mix(a ^ w);
        b = mix(b + w * 0xff51afd7ed558ccdu);
    }
    out[0] = a | 1; /* never a free slot */
    out[1] = b;
}

static uint64_t *slot(uint64_t (*slots)[2], size_t cap, const uint64_t h[2])
{
    size_t i = (size_t)h[1] & (cap - 1);

    while (slots[i][0] && (slots[i][0] != h[0] || slots[i][1] != h[1]))
        i = (i + 1) & (cap - 1);
    return slots[i];
}

static int grow(struct train_seen *s)
{
    const size_t cap = s->cap ? s->cap * 2 : 1024;
    uint64_t(*slots)[2] = calloc(cap, sizeof(*slots));

    if (!slots)
        return INFER_ENOMEM;
    for (size_t i = 0; i < s->cap; i++)
        if (s->slots[i][0])
            memcpy(slot(slots, cap, s->slots[i]), s->slots[i], sizeof(*slots));
    free(s->slots);
    s->slots = slots;
    s->cap = cap;
    return 0;
}

int train_seen_add(struct train_seen *s, const char *text, size_t len,
                   struct infer_error *err)
{
    uint64_t h[2], *at;

    if (s->n * 2 >= s->cap && grow(s) != 0)
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory remembering %zu documents", s->n);
    hash(text, len, h);
    at = slot(s->slots, s->cap, h);
    if (at[0])
        return 1;
    memcpy(at, h, sizeof(h));
    s->n++;
    return 0;
}

void train_seen_release(struct train_seen *s)
{
    free(s->slots);
    *s = (struct train_seen){0};
}
