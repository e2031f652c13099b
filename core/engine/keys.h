/*
 * keys.h - ranking without sorting: a value and an index in one 64-bit key,
 * of which the smallest are brought to the front.
 */
#ifndef INFER_ENGINE_KEYS_H
#define INFER_ENGINE_KEYS_H

#include "core/base/half.h"

/* Key that ranks by a value >= 0 ascending, then by index ascending. */
static inline uint64_t infer_key_of(float value, uint32_t index)
{
    return (uint64_t)infer_f32_bits(value + 0.0f) << 32 | index;
}

static inline uint32_t infer_key_index(uint64_t key)
{
    return (uint32_t)key;
}

/* Split keys[lo..hi), hi - lo >= 2: returns mid, lo < mid < hi, no key before
 * it larger than one after it. */
uint32_t infer_keys_split(uint64_t *keys, uint32_t lo, uint32_t hi);

/* Bring the k smallest keys to the front, in any order. */
void infer_keys_select(uint64_t *keys, uint32_t n, uint32_t k);

/* For some tens of keys. */
void infer_keys_sort(uint64_t *keys, uint32_t n);

#endif
