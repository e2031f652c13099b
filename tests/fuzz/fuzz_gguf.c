/*
 * fuzz_gguf.c - libFuzzer over the GGUF reader: whatever it accepts can be
 * walked to the last byte, dequantized, and written again.
 *
 * Random bytes never get past the magic, so the mutator starts from a valid
 * file of its own when it is given nothing better; no corpus is kept.
 */
#include "core/format/gguf.h"
#include "tests/gguf_walk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* Two keys, one array of strings, two tensors. */
static const char good[] =
    "GGUF\3\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0a\4\0\0\0\7\0\0\0"
    "\1\0\0\0\0\0\0\0b\x8\0\0\0\2\0\0\0\0\0\0\0hi"
    "\1\0\0\0\0\0\0\0c\x9\0\0\0\x8\0\0\0\2\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0x\0\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0t\1\0\0\0\x20\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0u\2\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0"
    "\x20\0\0\0\0\0\0\0"
    "................................................................"
    "................................................................";

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed)
{
    (void)seed;
    if ((size < 24 || memcmp(data, "GGUF", 4)) && max_size >= sizeof(good)) {
        memcpy(data, good, sizeof(good));
        size = sizeof(good);
    }
    return LLVMFuzzerMutate(data, size, max_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct infer_gguf_writer *w = NULL;
    struct infer_gguf *g = NULL;
    struct infer_error err = {0};

    if (infer_gguf_open_memory(&g, data, size, &err)) {
        if (err.status == 0 || err.text[0] == '\0')
            abort(); /* a refusal without a reason */
        return 0;
    }
    walk_gguf(g);
    if (infer_gguf_writer_create(&w, &err) == 0) {
        infer_gguf_set_all(w, g);
        infer_gguf_writer_free(w);
    }
    infer_gguf_close(g);
    return 0;
}
