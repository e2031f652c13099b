/*
 * log.h - one key=value line per event, on stderr.
 *
 * Loop thread only. Lines wait in memory until log_flush(), which never blocks:
 * a reader that does not keep up loses lines, not requests.
 */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include "server/buf.h"

#include <stdint.h>

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR, LEVEL_OFF };

void log_set_level(enum log_level level);

/* "ts=... level=... event=EVENT " and the rest, which the caller formats. */
void log_line(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Now, as "2026-01-31T23:59:59.123Z" (RFC 3339). Returns out. */
enum { LOG_TIME_BYTES = 48 };
const char *log_time(char out[LOG_TIME_BYTES]);

/* A value that came from outside: quoted and escaped when it needs to be. At
 * most size - 1 bytes; returns out. */
const char *log_quote(char *out, size_t size, const char *text);

void log_flush(void);
uint64_t log_dropped(void); /* lines lost so far */

#endif
