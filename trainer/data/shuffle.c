/*
 * shuffle.c - see shuffle.h. The permutation is a Feistel network over the
 * next even number of bits; results beyond n are sent through it again, at
 * most four times on average.
 */
#include "trainer/data/shuffle.h"

uint64_t train_mix(uint64_t a, uint64_t b)
{
    uint64_t h = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;

    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

uint64_t train_permute(uint64_t i, uint64_t n, uint64_t key)
{
    unsigned half = 1;

    while (half < 31 && n > (uint64_t)1 << 2 * half)
        half++;
    do {
        const uint64_t mask = ((uint64_t)1 << half) - 1;
        uint64_t left = i >> half, right = i & mask;

        for (uint64_t round = 0; round < 4; round++) {
            const uint64_t swap = right;

            right = left ^ (train_mix(key + round, right) & mask);
            left = swap;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

static uint64_t offset(const struct train_shuffle *s)
{
    const uint64_t spare = s->total - s->n_tokens; /* at least 1 */
    const uint64_t most = spare < s->n_tokens ? spare : s->n_tokens;

    return train_mix(s->seed ^ 0x5eed, s->epoch) % most;
}

uint64_t train_shuffle_next(struct train_shuffle *s)
{
    uint64_t n = (s->total - 1 - offset(s)) / s->n_tokens;

    if (s->next >= n) {
        s->epoch++;
        s->next = 0;
        n = (s->total - 1 - offset(s)) / s->n_tokens;
    }
    return offset(s) +
           s->n_tokens *
               train_permute(s->next++, n, train_mix(s->seed, s->epoch));
}

void train_shuffle_resize(struct train_shuffle *s, uint64_t n_tokens)
{
    if (n_tokens == s->n_tokens)
        return;
    s->n_tokens = n_tokens;
    s->epoch++;
    s->next = 0;
}
