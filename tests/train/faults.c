/*
 * faults.c - loaded before the C library: the FAULT_AT-th of the calls that
 * make files durable fails with FAULT_ERRNO, and all after it, as on a disk
 * that is full or has died.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static long calls;

static int fails(int fd)
{
    const char *at = getenv("FAULT_AT"), *code = getenv("FAULT_ERRNO");
    struct stat st;

    if (!at || !code)
        return 0;
    /* pipes to the test and the like go on working */
    if (fd >= 0 && (fstat(fd, &st) != 0 || S_ISFIFO(st.st_mode)))
        return 0;
    if (++calls < atol(at))
        return 0;
    errno = atoi(code);
    return 1;
}

ssize_t write(int fd, const void *data, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);

    if (!real)
        real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return fails(fd) ? -1 : real(fd, data, n);
}

int fsync(int fd)
{
    static int (*real)(int);

    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails(fd) ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    static int (*real)(const char *, const char *);

    if (!real)
        real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    return fails(-1) ? -1 : real(from, to);
}
