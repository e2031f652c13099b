/*
 * fuzz_safetensors.c - the reader of .safetensors files on any bytes. What it
 * accepts must be readable to the last byte and found under its name.
 */
#include "core/format/safetensors.h"

#include <stdlib.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"a.w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}}"
    "..........................";

enum { GOOD_DATA = 26 };

/* Mutations keep the length right most of the time, or all would end there. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed)
{
    size_t header;

    if (size < 40 && max_size >= sizeof(good) + 8) {
        memcpy(data + 8, good, sizeof(good) - 1);
        size = sizeof(good) + 7;
    }
    if (size > 8)
        size = 8 + LLVMFuzzerMutate(data + 8, size - 8, max_size - 8);
    else
        return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 16 == 0 || size < 8 + GOOD_DATA)
        return size;
    header = size - 8 - (seed % 3 ? GOOD_DATA : 0);
    for (unsigned i = 0; i < 8; i++)
        data[i] = (uint8_t)((uint64_t)header >> 8 * i);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct infer_safetensors *s = NULL;
    struct infer_error err = {0};
    volatile uint8_t sum = 0;

    if (infer_safetensors_open_memory(&s, data, size, &err)) {
        if (err.status == 0 || err.text[0] == '\0')
            abort(); /* a refusal without a reason */
        return 0;
    }
    for (size_t i = 0; i < infer_safetensors_n(s); i++) {
        const struct infer_st_tensor *t = infer_safetensors_tensor(s, i);
        const uint8_t *p = t->data;

        for (uint64_t k = 0; k < t->bytes; k++)
            sum = (uint8_t)(sum + p[k]);
        if (infer_safetensors_find(s, t->name) != t)
            abort();
    }
    infer_safetensors_close(s);
    return 0;
}
