/*
 * jsonout.h - JSON written straight into a buffer.
 *
 * The writer places the commas: each json_* call that makes a value puts one
 * before itself when the enclosing array or object already has a member.
 */
#ifndef SERVER_JSONOUT_H
#define SERVER_JSONOUT_H

#include "server/buf.h"

#include <stdint.h>

struct json {
    struct buf *out;
    bool comma; /* the next value or key needs one first */
};

/* Start writing a value at the end of out. */
struct json json_into(struct buf *out);

void json_open(struct json *j, char bracket);   /* '{' or '[' */
void json_close(struct json *j, char bracket);  /* '}' or ']' */
void json_key(struct json *j, const char *key); /* plain ASCII, no escapes */

void json_key_text(struct json *j, const char *key); /* any text */

/* A string of any bytes: what is not UTF-8 becomes U+FFFD. */
void json_text(struct json *j, const char *text, size_t len);
void json_str(struct json *j, const char *text);
void json_int(struct json *j, int64_t v);
void json_uint(struct json *j, uint64_t v);
void json_float(struct json *j, float v); /* NaN and infinity: null */
void json_ms(struct json *j, double v);   /* three decimals */
void json_bool(struct json *j, bool v);
void json_null(struct json *j);
void json_raw(struct json *j, const char *text, size_t len); /* is JSON */
void json_begin(struct json *j); /* a value the caller writes into out */

/* key and value in one call */
void json_key_str(struct json *j, const char *key, const char *text);
void json_key_uint(struct json *j, const char *key, uint64_t v);

/* Length of the UTF-8 character at s[0..n), 0 if the bytes are not one. */
size_t utf8_char(const char *s, size_t n);

#endif
