/*
 * http.h - a small HTTP/1.1 client for load tests: one keep-alive connection,
 * never blocking, one request at a time.
 *
 * The caller owns the poll loop: it waits for bench_http_events() on fd, calls
 * bench_http_step(), and gets the body piece by piece as it arrives, which is
 * what measuring a stream needs. The server under test is not trusted: headers
 * have a limit, lengths are checked, a malformed reply is a failure.
 */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Where requests go. */
struct bench_url {
    char host[256]; /* "127.0.0.1:8080": for the Host header */
    char path[512]; /* "/v1/generate"; "" when the URL has none */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool loopback;
};

/* "http://HOST:PORT[/PATH]"; resolves HOST. Prints why and returns -1. */
int bench_url_parse(const char *text, struct bench_url *url);

enum bench_http_phase {
    BENCH_HTTP_CLOSED,
    BENCH_HTTP_IDLE, /* connected, nothing asked */
    BENCH_HTTP_CONNECTING,
    BENCH_HTTP_SENDING,
    BENCH_HTTP_HEAD,
    BENCH_HTTP_LENGTH, /* body of known length */
    BENCH_HTTP_CHUNK_SIZE,
    BENCH_HTTP_CHUNK_DATA,
    BENCH_HTTP_TRAILER,
    BENCH_HTTP_UNTIL_CLOSE
};

enum bench_http_result { BENCH_HTTP_AGAIN, BENCH_HTTP_DONE, BENCH_HTTP_FAILED };

typedef void bench_http_body_fn(void *user, const char *data, size_t len);

enum { BENCH_HTTP_HEAD_MAX = 16384 };

struct bench_http { /* zeroed, fd -1: closed */
    int fd;
    enum bench_http_phase phase;
    bool reused;         /* this request is not the connection's first */
    bool keep_alive;     /* the reply allows another request */
    int status;          /* of the reply; 0: none yet */
    const char *request; /* [request_len], borrowed until the result */
    size_t request_len, sent;
    uint64_t body_left;             /* of the body or chunk */
    char head[BENCH_HTTP_HEAD_MAX]; /* headers, or a line between chunks */
    size_t head_len;
    bench_http_body_fn *on_body;
    void *user; /* of on_body */
};

/* Begin a request, on a new connection if there is none; -1: cannot connect. */
int bench_http_start(struct bench_http *h, const struct bench_url *url,
                     const char *request, size_t len);

/* What poll() should wait for; 0 when there is nothing to wait for. */
short bench_http_events(const struct bench_http *h);

/* Go on after poll() returned something for fd. A keep-alive connection that
 * the server closed meanwhile is opened again, once. */
enum bench_http_result bench_http_step(struct bench_http *h,
                                       const struct bench_url *url);
void bench_http_close(struct bench_http *h);

#endif
