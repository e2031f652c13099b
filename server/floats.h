/* floats.h - many floats as text or base64, straight into a buffer. */
#ifndef SERVER_FLOATS_H
#define SERVER_FLOATS_H

#include "server/buf.h"

/* The number in nine digits, which is enough to read it back exactly ("null"
 * if it is none), at p; its bytes, at most FLOAT_CHARS. */
enum { FLOAT_CHARS = 18 };
size_t float_text(char *p, float v);

/* "[1,2,3]" */
void floats_json(struct buf *out, const float *v, size_t n);

/* Base64 of little-endian floats, without quotes. */
void floats_base64(struct buf *out, const float *v, size_t n);

#endif
