/*
 * utf8.h - one character of UTF-8 at a time.
 *
 * Strict (RFC 3629): overlong forms, surrogates and anything above U+10FFFF
 * are invalid. The reference is laxer in places; who wants that says so.
 */
#ifndef INFER_TOKENIZER_UTF8_H
#define INFER_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the valid character at s[0..len), 1 to 4; 0: there is none.
 * *cp is its code point, untouched on 0. len > 0. */
size_t infer_utf8_next(const char *s, size_t len, uint32_t *cp);

/*
 * One character as the reference reads it, which is laxer: surrogates and
 * overlong forms pass; whatever else is no character is one byte of U+FFFD.
 * Returns the bytes taken, at least 1. len > 0.
 */
size_t infer_utf8_next_lax(const char *s, size_t len, uint32_t *cp);

/* Write a code point below 0x110000 (surrogates too) to s[0..4); bytes. */
size_t infer_utf8_put(char *s, uint32_t cp);

#ifdef __cplusplus
}
#endif
#endif
