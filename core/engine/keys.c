/* keys.c - quickselect: all keys differ, so every outcome is the only one. */
#include "core/engine/keys.h"

static void swap(uint64_t *a, uint64_t *b)
{
    const uint64_t t = *a;

    *a = *b;
    *b = t;
}

/* Hoare's scheme, median of three. */
uint32_t infer_keys_split(uint64_t *keys, uint32_t lo, uint32_t hi)
{
    uint64_t *a = &keys[lo], *b = &keys[lo + (hi - lo) / 2], *c = &keys[hi - 1];
    uint32_t i = lo, j = hi - 1;
    uint64_t pivot;

    if (*b < *a)
        swap(a, b);
    if (*c < *b)
        swap(b, c);
    if (*b < *a)
        swap(a, b);
    swap(a, b); /* the median first: it stops the right scan before hi - 1 */
    pivot = *a;
    for (;;) {
        while (keys[i] < pivot)
            i++;
        while (keys[j] > pivot)
            j--;
        if (i >= j)
            return j + 1;
        swap(&keys[i++], &keys[j--]);
    }
}

void infer_keys_select(uint64_t *keys, uint32_t n, uint32_t k)
{
    uint32_t lo = 0, hi = n;

    while (hi - lo > 1 && k > lo && k < hi) {
        const uint32_t mid = infer_keys_split(keys, lo, hi);

        if (k <= mid)
            hi = mid;
        else
            lo = mid;
    }
}

void infer_keys_sort(uint64_t *keys, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t j = i; j > 0 && keys[j] < keys[j - 1]; j--)
            swap(&keys[j], &keys[j - 1]);
}
