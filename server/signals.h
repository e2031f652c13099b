/*
 * signals.h - who takes SIGTERM, SIGINT and SIGHUP: the loop's thread alone,
 * until its last moment. Threads begin with them held; otherwise one that still
 * lives when libuv has put the default actions back would die of them, and the
 * process with it, in the middle of a clean stop.
 */
#ifndef SERVER_SIGNALS_H
#define SERVER_SIGNALS_H

#include <signal.h>

/* This thread, and those that it creates, do not take them. before: what
 * pthread_sigmask() puts back; or NULL. */
static inline void signals_hold(sigset_t *before)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, before);
}

#endif
