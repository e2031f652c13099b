/*
 * listen.c - the listening socket.
 *
 * Opened by us, not by MHD, because only then the port that the system chose
 * for port 0 and the reason of a failure are known. Names are resolved here,
 * before the loop starts. Under systemd's socket activation it is opened
 * already and comes as descriptor 3 (sd_listen_fds(3)): then the address means
 * nothing.
 */
#include "server/listen.h"
#include "server/config.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, FIRST_PASSED_FD = 3 };

bool listen_split(const char *address, char *host, size_t size,
                  const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t n;

    if (!colon || !colon[1] ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    n = (size_t)(colon - address);
    *port = colon + 1;
    if (n >= 2 && address[0] == '[' && colon[-1] == ']') {
        address++;
        n -= 2;
    }
    if (n >= size)
        return false;
    memcpy(host, address, n);
    host[n] = '\0';
    return true;
}

bool listen_valid(const char *address)
{
    char host[256];
    const char *port;

    return listen_split(address, host, sizeof(host), &port) &&
           strlen(port) <= 5 && atoi(port) <= 65535;
}

static int bind_one(const struct addrinfo *a)
{
    const int on = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    a->ai_protocol);
    int why;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    why = errno;
    close(fd);
    errno = why;
    return -1;
}

static void make_url(int fd, const char *host, char *url, size_t size)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    unsigned port = 0;

    if (getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        port = ntohs(a.ss_family == AF_INET6
                         ? ((struct sockaddr_in6 *)&a)->sin6_port
                         : ((struct sockaddr_in *)&a)->sin_port);
    if (strchr(host, ':'))
        snprintf(url, size, "http://[%s]:%u", host, port);
    else
        snprintf(url, size, "http://%s:%u", *host ? host : "0.0.0.0", port);
}

static void make_passed_url(int fd, char *url, size_t size)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char host[NI_MAXHOST];

    if (getsockname(fd, (struct sockaddr *)&a, &len) ||
        getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST))
        host[0] = '\0';
    make_url(fd, host, url, size);
}

/* Was a socket passed to this very process? (Not to a parent that forked.) */
static bool passed(void)
{
    const char *pid = getenv("LISTEN_PID");

    return pid && getenv("LISTEN_FDS") && atol(pid) == (long)getpid();
}

static int take_passed(int *fd, char *url, size_t size, struct infer_error *err)
{
    const int n = atoi(getenv("LISTEN_FDS"));
    struct sockaddr_storage a = {0};
    socklen_t a_len = sizeof(a), len = sizeof(int);
    int listens = 0;

    if (n != 1)
        return config_fail(err, INFER_EINVAL,
                           "LISTEN_FDS: %d sockets were passed, expected 1", n);
    if (getsockopt(FIRST_PASSED_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens,
                   &len) ||
        !listens ||
        getsockname(FIRST_PASSED_FD, (struct sockaddr *)&a, &a_len) ||
        (a.ss_family != AF_INET && a.ss_family != AF_INET6))
        return config_fail(err, INFER_EINVAL,
                           "LISTEN_FDS: descriptor %d is no listening TCP "
                           "socket",
                           FIRST_PASSED_FD);
    fcntl(FIRST_PASSED_FD, F_SETFD, FD_CLOEXEC);
    fcntl(FIRST_PASSED_FD, F_SETFL,
          fcntl(FIRST_PASSED_FD, F_GETFL) | O_NONBLOCK);
    *fd = FIRST_PASSED_FD;
    make_passed_url(*fd, url, size);
    return 0;
}

int listen_open(const char *address, int *fd, char *url, size_t size,
                struct infer_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    const char *port;
    char host[256];
    int rc;

    if (passed())
        return take_passed(fd, url, size, err);
    if (!listen_split(address, host, sizeof(host), &port))
        return config_fail(err, INFER_EINVAL, "listen: '%s' is not HOST:PORT",
                           address);
    rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (rc)
        return config_fail(err, INFER_EINVAL, "listen: '%s': %s", address,
                           gai_strerror(rc));
    *fd = -1;
    for (const struct addrinfo *a = list; a && *fd < 0; a = a->ai_next)
        *fd = bind_one(a);
    rc = errno;
    freeaddrinfo(list);
    if (*fd < 0)
        return config_fail(err, INFER_EIO, "cannot listen on '%s': %s", address,
                           strerror(rc));
    make_url(*fd, host, url, size);
    return 0;
}
