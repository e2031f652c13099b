/* clean.h - the reference's tidying of spaces in decoded text. */
#ifndef INFER_TOKENIZER_CLEAN_H
#define INFER_TOKENIZER_CLEAN_H

#include <stddef.h>

/* In place; the new length. */
size_t infer_clean_spaces(char *s, size_t n);

#endif
