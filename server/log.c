/*
 * log.c - one key=value line per event, on stderr.
 *
 * stderr may be a pipe whose reader stalls, and a write to a full pipe would
 * stop the event loop. So lines are collected and written in pieces no larger
 * than PIPE_BUF, each only when poll() says that so much fits: such a write
 * cannot block. What exceeds the buffer meanwhile is counted and dropped.
 */
#include "server/log.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PENDING_BYTES = 256 * 1024, LINE_BYTES = 2048 };

static struct {
    enum log_level level;
    char pending[PENDING_BYTES];
    size_t len;
    uint64_t dropped;
} state = {.level = LEVEL_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    state.level = level;
}

uint64_t log_dropped(void)
{
    return state.dropped;
}

const char *log_quote(char *out, size_t size, const char *text)
{
    bool plain = *text != '\0';
    size_t n = 0;

    for (const char *s = text; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || strchr("\"\\=", *s))
            plain = false;
    if (plain) {
        snprintf(out, size, "%s", text);
        return out;
    }
    out[n++] = '"';
    for (const char *s = text; *s && n + 6 < size; s++) {
        const unsigned char c = (unsigned char)*s;

        if (c < 0x20 || c >= 0x7f) {
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            out[n++] = '\\';
        out[n++] = (char)c;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}

const char *log_time(char out[LOG_TIME_BYTES])
{
    struct timespec now;
    struct tm tm;
    char date[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, LOG_TIME_BYTES, "%s.%03ldZ", date, now.tv_nsec / 1000000);
    return out;
}

static size_t line_head(char *line, size_t size, enum log_level level,
                        const char *event)
{
    char time[LOG_TIME_BYTES];

    return (size_t)snprintf(line, size, "ts=%s level=%s event=%s ",
                            log_time(time), level_names[level], event);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list ap;
    size_t n;
    int more;

    if (level < state.level)
        return;
    n = line_head(line, sizeof(line), level, event);
    va_start(ap, fmt);
    more = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
    va_end(ap);
    n += more < 0 ? 0 : (size_t)more;
    if (n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    if (state.len + n > PENDING_BYTES)
        log_flush();
    if (state.len + n > PENDING_BYTES) {
        state.dropped++;
        return;
    }
    memcpy(state.pending + state.len, line, n);
    state.len += n;
}

void log_flush(void)
{
    size_t done = 0;

    while (done < state.len) {
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
        size_t n = state.len - done;
        ssize_t written;

        if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
            break;
        if (n > PIPE_BUF)
            n = PIPE_BUF;
        written = write(STDERR_FILENO, state.pending + done, n);
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    memmove(state.pending, state.pending + done, state.len - done);
    state.len -= done;
}
