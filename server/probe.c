/*
 * probe.c - inferd --healthcheck: ask a running server how it is.
 *
 * An image that has nothing but inferd has no curl and no shell to check it
 * with, so the program checks itself: from the same configuration it knows
 * where the other process listens.
 */
#include "server/probe.h"
#include "server/config.h"
#include "server/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TIMEOUT_S = 4 };

/* Without AI_PASSIVE no host is this host, and Linux takes a wildcard for it,
 * too. The timeout is that of each call. */
static int connect_to(const struct addrinfo *a)
{
    const struct timeval limit = {.tv_sec = TIMEOUT_S};
    const int fd =
        socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    int why;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int open_to(const char *listen, struct infer_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    const char *port;
    char host[256];
    int fd = -1, rc;

    if (!listen_split(listen, host, sizeof(host), &port))
        return config_fail(err, INFER_EINVAL, "listen: '%s' is not HOST:PORT",
                           listen);
    rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (rc)
        return config_fail(err, INFER_EIO, "'%s': %s", listen,
                           gai_strerror(rc));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = connect_to(a);
    rc = errno;
    freeaddrinfo(list);
    if (fd < 0)
        return config_fail(err, INFER_EIO, "cannot connect to '%s': %s", listen,
                           strerror(rc));
    return fd;
}

int probe_run(const char *listen, const char *path, struct infer_error *err)
{
    const int fd = open_to(listen, err);
    char text[512];
    ssize_t n = -1;
    unsigned status;
    int len;

    if (fd < 0)
        return fd;
    len = snprintf(text, sizeof(text),
                   "GET %.256s HTTP/1.1\r\nHost: localhost\r\n"
                   "Connection: close\r\n\r\n",
                   path);
    if (send(fd, text, (size_t)len, MSG_NOSIGNAL) == len)
        n = recv(fd, text, sizeof(text) - 1, 0);
    close(fd);
    if (n <= 0)
        return config_fail(err, INFER_EIO, "'%s' does not answer", listen);
    text[n] = '\0';
    if (sscanf(text, "HTTP/1.1 %3u ", &status) != 1)
        return config_fail(err, INFER_EIO, "'%s' is no HTTP server", listen);
    if (status != 200)
        return config_fail(err, INFER_EIO, "%s is %u", path, status);
    return 0;
}
