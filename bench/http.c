/* http.c - see http.h. */
#include "bench/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- addresses ---------------------------------------------------------- */

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, a, sizeof(in));
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    if (a->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, a, sizeof(in6));
        return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
    }
    return false;
}

/* url->host is "name:port" or "[v6]:port" */
static int resolve(struct bench_url *url)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char name[256];
    char *colon, *from = name;
    int rc;

    snprintf(name, sizeof(name), "%s", url->host);
    colon = strrchr(name, ':');
    if (colon == NULL || colon == name)
        return -1;
    *colon = '\0';
    if (name[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        from++;
    }
    rc = getaddrinfo(from, colon + 1, &hints, &list);
    if (rc != 0)
        return -1;
    memcpy(&url->addr, list->ai_addr, list->ai_addrlen);
    url->addr_len = list->ai_addrlen;
    url->loopback = is_loopback(&url->addr);
    freeaddrinfo(list);
    return 0;
}

int bench_url_parse(const char *text, struct bench_url *url)
{
    static const char scheme[] = "http://";
    const char *p = text + sizeof(scheme) - 1;
    size_t n;

    *url = (struct bench_url){0};
    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0) {
        fprintf(stderr, "'%s' does not begin with http://\n", text);
        return -1;
    }
    n = strcspn(p, "/");
    if (n >= sizeof(url->host) || strlen(p + n) >= sizeof(url->path) ||
        strcspn(p, " \t\r\n") != strlen(p)) {
        fprintf(stderr, "'%s' is no usable address\n", text);
        return -1;
    }
    memcpy(url->host, p, n);
    memcpy(url->path, p + n, strlen(p + n) + 1);
    if (resolve(url) == 0)
        return 0;
    fprintf(stderr, "'%s': cannot find host and port\n", text);
    return -1;
}

/* ---- sending ------------------------------------------------------------ */

void bench_http_close(struct bench_http *h)
{
    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
    h->phase = BENCH_HTTP_CLOSED;
}

static int open_connection(struct bench_http *h, const struct bench_url *url)
{
    const int one = 1;

    h->fd = socket(url->addr.ss_family,
                   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (h->fd < 0)
        return -1;
    setsockopt(h->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(h->fd, (const struct sockaddr *)&url->addr, url->addr_len) ==
        0) {
        h->phase = BENCH_HTTP_SENDING;
    } else if (errno == EINPROGRESS) {
        h->phase = BENCH_HTTP_CONNECTING;
    } else {
        bench_http_close(h);
        return -1;
    }
    return 0;
}

int bench_http_start(struct bench_http *h, const struct bench_url *url,
                     const char *request, size_t len)
{
    h->request = request;
    h->request_len = len;
    h->sent = 0;
    h->status = 0;
    h->head_len = 0;
    h->reused = h->phase == BENCH_HTTP_IDLE;
    if (!h->reused)
        return open_connection(h, url);
    h->phase = BENCH_HTTP_SENDING;
    return 0;
}

short bench_http_events(const struct bench_http *h)
{
    switch (h->phase) {
    case BENCH_HTTP_CLOSED:
    case BENCH_HTTP_IDLE:
        return 0;
    case BENCH_HTTP_CONNECTING:
    case BENCH_HTTP_SENDING:
        return POLLOUT;
    default:
        return POLLIN;
    }
}

static enum bench_http_result send_more(struct bench_http *h)
{
    while (h->sent < h->request_len) {
        const ssize_t n = send(h->fd, h->request + h->sent,
                               h->request_len - h->sent, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return BENCH_HTTP_AGAIN;
        if (n < 0)
            return BENCH_HTTP_FAILED;
        h->sent += (size_t)n;
    }
    h->phase = BENCH_HTTP_HEAD;
    return BENCH_HTTP_AGAIN;
}

/* ---- receiving ---------------------------------------------------------- */

static enum bench_http_result finish(struct bench_http *h)
{
    if (h->keep_alive)
        h->phase = BENCH_HTTP_IDLE;
    else
        bench_http_close(h);
    return BENCH_HTTP_DONE;
}

/* Value of a header, or NULL; h->head is NUL-terminated. */
static const char *find_header(const struct bench_http *h, const char *name)
{
    const size_t len = strlen(name);
    const char *line = strstr(h->head, "\r\n");

    for (; line != NULL; line = strstr(line + 2, "\r\n")) {
        const char *p = line + 2;

        if (strncasecmp(p, name, len) == 0 && p[len] == ':')
            return p + len + 1 + strspn(p + len + 1, " \t");
    }
    return NULL;
}

static bool header_is(const struct bench_http *h, const char *name,
                      const char *value)
{
    const char *v = find_header(h, name);

    return v != NULL && strncasecmp(v, value, strlen(value)) == 0;
}

/* The head is complete: decide how the body ends. */
static enum bench_http_result read_head(struct bench_http *h)
{
    const char *length = find_header(h, "Content-Length");
    char *end;

    if (strncmp(h->head, "HTTP/1.", 7) != 0 || strlen(h->head) < 12)
        return BENCH_HTTP_FAILED;
    h->status = atoi(h->head + 9);
    if (h->status < 200 || h->status > 599)
        return BENCH_HTTP_FAILED;
    h->keep_alive = h->head[7] == '1' && !header_is(h, "Connection", "close");
    h->head_len = 0;
    if (header_is(h, "Transfer-Encoding", "chunked")) {
        h->phase = BENCH_HTTP_CHUNK_SIZE;
    } else if (length != NULL) {
        errno = 0;
        h->body_left = strtoull(length, &end, 10);
        if (end == length || errno != 0)
            return BENCH_HTTP_FAILED;
        h->phase = BENCH_HTTP_LENGTH;
        if (h->body_left == 0)
            return finish(h);
    } else {
        h->keep_alive = false;
        h->phase = BENCH_HTTP_UNTIL_CLOSE;
    }
    return BENCH_HTTP_AGAIN;
}

/* Collect bytes up to and with `end`; returns how many were taken, and sets
 * *complete. The collected text is NUL-terminated. */
static size_t collect(struct bench_http *h, const char *data, size_t len,
                      const char *end, bool *complete)
{
    const size_t end_len = strlen(end);
    size_t i = 0;

    *complete = false;
    while (i < len && h->head_len + 1 < sizeof(h->head) && !*complete) {
        h->head[h->head_len++] = data[i++];
        *complete = h->head_len >= end_len &&
                    memcmp(h->head + h->head_len - end_len, end, end_len) == 0;
    }
    h->head[h->head_len] = '\0';
    return i;
}

/* A line between chunks is complete. */
static enum bench_http_result read_line(struct bench_http *h)
{
    char *end;

    if (h->phase == BENCH_HTTP_TRAILER) {
        const bool empty = h->head_len == 2;

        h->head_len = 0;
        return empty ? finish(h) : BENCH_HTTP_AGAIN;
    }
    h->head_len = 0;
    errno = 0;
    h->body_left = strtoull(h->head, &end, 16);
    if (end == h->head || errno != 0 || h->body_left > UINT32_MAX)
        return BENCH_HTTP_FAILED;
    if (h->body_left == 0) {
        h->phase = BENCH_HTTP_TRAILER;
    } else {
        h->body_left += 2; /* its line end */
        h->phase = BENCH_HTTP_CHUNK_DATA;
    }
    return BENCH_HTTP_AGAIN;
}

/* Hand body bytes on; returns how many were taken. */
static size_t take_body(struct bench_http *h, const char *data, size_t len)
{
    const uint64_t line_end = h->phase == BENCH_HTTP_CHUNK_DATA ? 2 : 0;
    size_t n = len;
    size_t text;

    if (h->phase == BENCH_HTTP_UNTIL_CLOSE) {
        h->on_body(h->user, data, n);
        return n;
    }
    if (n > h->body_left)
        n = (size_t)h->body_left;
    text = h->body_left > line_end ? (size_t)(h->body_left - line_end) : 0;
    if (text > n)
        text = n;
    if (text > 0)
        h->on_body(h->user, data, text);
    h->body_left -= n;
    return n;
}

/* Some bytes of a reply. Bytes after its end are a failure: nothing was asked
 * for that they could answer. */
static enum bench_http_result take(struct bench_http *h, const char *data,
                                   size_t len)
{
    enum bench_http_result result = BENCH_HTTP_AGAIN;

    while (len > 0 && result == BENCH_HTTP_AGAIN) {
        bool complete = false;
        size_t n;

        if (h->phase == BENCH_HTTP_HEAD) {
            n = collect(h, data, len, "\r\n\r\n", &complete);
            if (complete)
                result = read_head(h);
        } else if (h->phase == BENCH_HTTP_CHUNK_SIZE ||
                   h->phase == BENCH_HTTP_TRAILER) {
            n = collect(h, data, len, "\r\n", &complete);
            if (complete)
                result = read_line(h);
        } else {
            n = take_body(h, data, len);
            if (h->phase == BENCH_HTTP_CHUNK_DATA && h->body_left == 0)
                h->phase = BENCH_HTTP_CHUNK_SIZE;
            else if (h->phase == BENCH_HTTP_LENGTH && h->body_left == 0)
                result = finish(h);
        }
        if (n == 0)
            return BENCH_HTTP_FAILED; /* a head or line over the limit */
        data += n;
        len -= n;
    }
    return len > 0 ? BENCH_HTTP_FAILED : result;
}

static enum bench_http_result receive(struct bench_http *h)
{
    static char buffer[65536]; /* single-threaded; nothing outlives the call */
    enum bench_http_result result = BENCH_HTTP_AGAIN;

    while (result == BENCH_HTTP_AGAIN) {
        const ssize_t n = recv(h->fd, buffer, sizeof(buffer), 0);

        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? BENCH_HTTP_AGAIN
                                                     : BENCH_HTTP_FAILED;
        if (n == 0)
            return h->phase == BENCH_HTTP_UNTIL_CLOSE ? finish(h)
                                                      : BENCH_HTTP_FAILED;
        result = take(h, buffer, (size_t)n);
        if (result == BENCH_HTTP_AGAIN && (size_t)n < sizeof(buffer))
            return BENCH_HTTP_AGAIN; /* spare a call that would find nothing */
    }
    return result;
}

static int finish_connect(struct bench_http *h)
{
    int error = 0;
    socklen_t len = sizeof(error);

    if (getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ||
        error != 0)
        return -1;
    h->phase = BENCH_HTTP_SENDING;
    return 0;
}

enum bench_http_result bench_http_step(struct bench_http *h,
                                       const struct bench_url *url)
{
    enum bench_http_result result = BENCH_HTTP_AGAIN;

    if (h->phase == BENCH_HTTP_CONNECTING && finish_connect(h) != 0)
        result = BENCH_HTTP_FAILED;
    else if (h->phase == BENCH_HTTP_SENDING)
        result = send_more(h);
    else if (h->phase > BENCH_HTTP_SENDING)
        result = receive(h);

    if (result == BENCH_HTTP_FAILED) {
        const bool retry = h->reused && h->status == 0 && h->head_len == 0;

        bench_http_close(h);
        if (retry && bench_http_start(h, url, h->request, h->request_len) == 0)
            result = BENCH_HTTP_AGAIN;
    }
    return result;
}
