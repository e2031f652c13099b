/* buf.h - bytes that grow; a failed allocation is remembered, not reported at
 * every step, so that a writer checks once at its end. */
#ifndef SERVER_BUF_H
#define SERVER_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; /* [len], not NUL-terminated; NULL while empty */
    size_t len;
    size_t cap;
    bool failed; /* out of memory: what follows was dropped */
};

bool buf_reserve(struct buf *b, size_t more); /* false: out of memory */
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_str(struct buf *b, const char *text);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
void buf_release(struct buf *b); /* free; b is empty again */

#endif
