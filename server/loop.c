/*
 * loop.c - the event loop: start, serve, drain, stop.
 *
 * libuv owns the thread. libmicrohttpd runs in external mode: its epoll set is
 * one descriptor that libuv polls, its timeout one timer; MHD_run() does what
 * is due. Everything that changes a connection from outside (a chunk from a
 * worker, a hang-up) resumes it and runs MHD again.
 *
 *   LOADING   sockets answer: alive, not ready
 *   READY     the first line is on stdout
 *   DRAINING  after SIGTERM: new work is refused, accepted work ends. After
 *             nine tenths of drain_ms what is left is cancelled; a second
 *             signal does that at once
 *   STOPPING  workers end their threads; then everything is closed
 *
 * MHD_stop_daemon() aborts when connections are suspended, so all of them are
 * resumed and let fail before.
 */
#include "server/loop.h"
#include "server/admit.h"
#include "server/conn.h"
#include "server/dispatch.h"
#include "server/http.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/server.h"
#include "server/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 250, SPARE_FDS = 64, STOP_GRACE_MS = 5000, MAX_AGAIN = 64 };

static void stop(struct server *s);

void server_new_id(struct server *s, char out[17])
{
    /* splitmix64 of a counter: no two are equal, none can be guessed */
    uint64_t z = s->id_seed[0] + ++s->next_id * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= (z >> 31) ^ s->id_seed[1];
    snprintf(out, 17, "%016llx", (unsigned long long)(z ? z : 1));
}

/* ---- MHD on the loop ----------------------------------------------------- */

static void on_mhd_timer(uv_timer_t *t);
static void on_mhd_again(uv_idle_t *h);

/*
 * MHD wants to run again at once. Not by a timer of 0 ms: libuv 1.44 runs such
 * timers until none is left and never comes to the descriptors. MHD 0.9.75 may
 * want it for ever, for a connection whose buffer is full of half a chunk
 * header; then once a millisecond has to do, until that one's time is up.
 */
static void run_soon(struct server *s)
{
    if (++s->n_again > MAX_AGAIN)
        uv_timer_start(&s->mhd_timer, on_mhd_timer, 1, 0);
    else
        uv_idle_start(&s->mhd_again, on_mhd_again);
}

static void run_mhd(struct server *s)
{
    unsigned long long ms = 0;

    if (!s->mhd)
        return;
    for (int i = 0; i < 8; i++) {
        s->rerun = false;
        MHD_run(s->mhd);
        if (!s->rerun)
            break;
    }
    uv_timer_stop(&s->mhd_timer);
    if (s->rerun || (MHD_get_timeout(s->mhd, &ms) == MHD_YES && ms == 0))
        run_soon(s);
    else if (ms)
        uv_timer_start(&s->mhd_timer, on_mhd_timer, ms, 0);
    if (s->n_conns && !uv_is_active((uv_handle_t *)&s->tick))
        uv_timer_again(&s->tick);
    if (s->state == STATE_DRAINING && s->n_requests == 0 && s->n_jobs == 0)
        stop(s);
}

static void on_mhd_timer(uv_timer_t *t)
{
    run_mhd(t->data);
}

static void on_mhd_again(uv_idle_t *h)
{
    uv_idle_stop(h);
    run_mhd(h->data);
}

static void on_mhd_poll(uv_poll_t *p, int status, int events)
{
    struct server *s = p->data;

    (void)status;
    (void)events;
    s->n_again = 0;
    run_mhd(s);
}

static void on_hangup(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    conn_hangups(p->data);
    run_mhd(p->data);
}

static void on_tick(uv_timer_t *t)
{
    struct server *s = t->data;

    conn_tick(s);
    run_mhd(s);
    if (s->n_conns == 0)
        uv_timer_stop(t);
}

static void on_check(uv_check_t *c)
{
    (void)c;
    log_flush();
}

static void mhd_log(void *cls, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[256], quoted[600];

    (void)cls;
    vsnprintf(text, sizeof(text), fmt, ap);
    log_line(LEVEL_DEBUG, "mhd", "message=%s",
             log_quote(quoted, sizeof(quoted), text));
}

/* ---- workers ------------------------------------------------------------- */

/* A model file is mapped while it is loaded, and only then: if somebody cuts it
 * short meanwhile, the next touch is this signal. That start has failed. */
static void on_bus_error(int number)
{
    static const char text[] =
        "inferd: cannot load a model: its file was cut short while it was "
        "read\n";

    (void)number;
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(1);
}

static void all_loaded(struct server *s)
{
    signal(SIGBUS, SIG_DFL);
    s->state = STATE_READY;
    sink_release_hold(&s->access);
    printf("inferd: listening on %s\n", s->url);
    fflush(stdout);
    log_line(LEVEL_INFO, "ready", "url=%s models=%zu threads=%d", s->url,
             s->n_workers, infer_team_size(s->team));
}

static void worker_loaded(struct server *s, struct worker *w)
{
    char name[160];

    w->ready = true;
    w->created = (int64_t)time(NULL);
    log_line(LEVEL_INFO, "model_loaded",
             "model=%s arch=%s type=%s kernels=%s ctx=%u params=%llu "
             "bytes=%llu load_ms=%.1f",
             log_quote(name, sizeof(name), w->config->name), w->info->arch,
             w->info->type, w->info->kernels, w->n_ctx,
             (unsigned long long)w->info->n_params,
             (unsigned long long)(w->info->weight_bytes + w->engine_bytes),
             w->info->load_seconds * 1e3);
    if (++s->n_ready == s->n_workers && s->state == STATE_LOADING)
        all_loaded(s);
}

static void worker_failed(struct server *s, const struct chunk *c)
{
    if (!s->failed && s->state == STATE_LOADING)
        fprintf(stderr, "inferd: cannot load the model '%s': %s\n",
                c->worker->config->name, c->error.text);
    s->failed = true;
    stop(s);
}

static bool workers_finished(const struct server *s)
{
    for (size_t i = 0; i < s->n_workers; i++)
        if (s->workers[i].started && !atomic_load(&s->workers[i].finished))
            return false;
    return true;
}

static void on_wake(uv_async_t *a)
{
    struct server *s = a->data;
    struct chunk *c = inbox_take(&s->outbox);

    s->n_again = 0;
    while (c) {
        struct chunk *next = c->next;

        if (c->kind == CHUNK_LOADED) {
            worker_loaded(s, c->worker);
            chunk_free(c);
        } else if (c->kind == CHUNK_FAILED) {
            worker_failed(s, c);
            chunk_free(c);
        } else {
            dispatch_chunk(s, c);
        }
        c = next;
    }
    run_mhd(s);
    if (s->state == STATE_STOPPING && workers_finished(s))
        uv_stop(&s->loop);
}

static int start_workers(struct server *s, struct infer_error *err)
{
    const struct config *c = s->config;
    unsigned cpu;
    int rc = infer_cpu_parse(c->cpu, &cpu, err);

    if (rc == 0)
        rc = infer_team_create(&s->team, (int)c->threads, (int)c->nice, err);
    if (rc)
        return rc;
    s->workers = calloc(c->n_models, sizeof(*s->workers));
    if (!s->workers)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    s->n_workers = c->n_models;
    for (size_t i = 0; rc == 0 && i < s->n_workers; i++) {
        struct worker *w = &s->workers[i];

        w->config = &c->models[i];
        w->n_members = 1 + w->config->more.n;
        w->team = s->team;
        w->cpu = cpu;
        w->wake = &s->wake;
        w->outbox = &s->outbox;
        w->loading = &s->loading;
        rc = worker_start(w, err);
    }
    return rc;
}

/* ---- signals, drain, stop ------------------------------------------------ */

/* Whatever works now ends with "cancelled" after its current step. */
static void cancel_all(struct server *s)
{
    for (struct conn *c = s->conns; c; c = c->next)
        if (c->request && c->request->job)
            job_cancel(c->request->job);
}

static void on_forced(uv_timer_t *t)
{
    (void)t;
    log_line(LEVEL_ERROR, "stop_forced", "reason=%s", "worker_hangs");
    log_flush();
    _exit(1);
}

/* What is left reads, writes or uploads too slowly to wait for. */
static void on_drain_over(uv_timer_t *t)
{
    stop(t->data);
}

static void on_drain_end(uv_timer_t *t)
{
    struct server *s = t->data;

    log_line(LEVEL_WARN, "drain_cancel", "jobs=%u requests=%u", s->n_jobs,
             s->n_requests);
    cancel_all(s);
    uv_timer_start(t, on_drain_over, (uint64_t)s->config->drain_ms / 10, 0);
}

static void stop(struct server *s)
{
    if (s->state == STATE_STOPPING)
        return;
    s->state = STATE_STOPPING;
    cancel_all(s);
    for (size_t i = 0; i < s->n_workers; i++)
        worker_stop(&s->workers[i]);
    uv_timer_start(&s->drain_timer, on_forced, STOP_GRACE_MS, 0);
    uv_async_send(&s->wake);
}

static void on_signal(uv_signal_t *h, int number)
{
    struct server *s = h->data;

    log_line(LEVEL_INFO, "signal", "number=%d jobs=%u connections=%u", number,
             s->n_jobs, s->n_conns);
    if (s->state == STATE_LOADING) {
        stop(s);
    } else if (s->state == STATE_READY) {
        s->state = STATE_DRAINING;
        uv_timer_start(&s->drain_timer, on_drain_end,
                       (uint64_t)s->config->drain_ms * 9 / 10, 0);
        run_mhd(s);
    } else {
        on_drain_end(&s->drain_timer);
    }
}

/* A file is opened anew, for logrotate. Without one the terminal has gone, and
 * what ran in it ends as well. */
static void on_hangup_signal(uv_signal_t *h, int number)
{
    struct server *s = h->data;

    if (sink_reopen(&s->access))
        log_line(LEVEL_INFO, "access_log_reopened", "path=%s",
                 s->config->access_log_file);
    else
        on_signal(h, number);
}

/* ---- start --------------------------------------------------------------- */

/* Descriptors: one per connection. Never run out: MHD would spin. */
static void limit_connections(struct server *s)
{
    struct rlimit limit;
    uint64_t room;

    s->max_conns = (uint32_t)s->config->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    room = limit.rlim_cur > 2 * SPARE_FDS ? limit.rlim_cur - SPARE_FDS
                                          : limit.rlim_cur / 2;
    if (s->max_conns > room) {
        s->max_conns = (uint32_t)room;
        log_line(LEVEL_WARN, "connections_limited",
                 "limit=%u reason=open_files", s->max_conns);
    }
}

static int start_mhd(struct server *s, struct infer_error *err)
{
    const struct config *c = s->config;
    const union MHD_DaemonInfo *info;

    s->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, http_handler, s, MHD_OPTION_EXTERNAL_LOGGER, mhd_log,
        NULL, MHD_OPTION_LISTEN_SOCKET, s->listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->max_conns,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)c->max_header_bytes, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_URI_LOG_CALLBACK,
        http_uri, s, MHD_OPTION_NOTIFY_COMPLETED, http_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, conn_notify, s, MHD_OPTION_END);
    if (!s->mhd)
        return config_fail(err, INFER_EIO, "cannot start the HTTP daemon");
    s->listen_fd = -1; /* MHD's now */
    info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(&s->loop, &s->mhd_poll, info->epoll_fd);
    uv_poll_start(&s->mhd_poll, UV_READABLE, on_mhd_poll);
    return 0;
}

static int open_loop(struct server *s, struct infer_error *err)
{
    s->hangup_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->hangup_fd >= 0 && uv_loop_init(&s->loop) == 0)
        return 0;
    if (s->hangup_fd >= 0)
        close(s->hangup_fd);
    return config_fail(err, INFER_EIO, "cannot make an event loop: %s",
                       strerror(errno));
}

static void start_handles(struct server *s)
{
    uv_async_init(&s->loop, &s->wake, on_wake);
    uv_timer_init(&s->loop, &s->mhd_timer);
    uv_idle_init(&s->loop, &s->mhd_again);
    uv_timer_init(&s->loop, &s->drain_timer);
    uv_timer_init(&s->loop, &s->tick);
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    uv_poll_init(&s->loop, &s->hangup_poll, s->hangup_fd);
    uv_poll_start(&s->hangup_poll, UV_READABLE, on_hangup);
    uv_check_init(&s->loop, &s->flush_log);
    uv_check_start(&s->flush_log, on_check);
    uv_signal_init(&s->loop, &s->sigterm);
    uv_signal_start(&s->sigterm, on_signal, SIGTERM);
    uv_signal_init(&s->loop, &s->sigint);
    uv_signal_start(&s->sigint, on_signal, SIGINT);
    uv_signal_init(&s->loop, &s->sighup);
    uv_signal_start(&s->sighup, on_hangup_signal, SIGHUP);
    s->wake.data = s->mhd_timer.data = s->drain_timer.data = s;
    s->mhd_again.data = s;
    s->tick.data = s->hangup_poll.data = s->mhd_poll.data = s;
    s->sigterm.data = s->sigint.data = s->sighup.data = s;
}

/* ---- end ----------------------------------------------------------------- */

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

/* Let every suspended connection fail, then MHD may stop. */
static void stop_mhd(struct server *s)
{
    if (!s->mhd)
        return;
    for (struct conn *c = s->conns; c; c = c->next)
        if (c->request)
            request_gone(c->request);
    MHD_run(s->mhd);
    MHD_run(s->mhd);
    MHD_stop_daemon(s->mhd);
    s->mhd = NULL;
}

static void release(struct server *s)
{
    struct chunk *c;

    for (size_t i = 0; i < s->n_workers; i++)
        worker_stop(&s->workers[i]);
    for (size_t i = 0; i < s->n_workers; i++)
        worker_release(&s->workers[i]);
    for (c = inbox_take(&s->outbox); c;) {
        struct chunk *next = c->next;

        if (c->kind >= CHUNK_DELTA)
            dispatch_chunk(s, c);
        else
            chunk_free(c);
        c = next;
    }
    infer_team_free(s->team);
    stop_mhd(s);
    /* one more SIGTERM must not make a clean stop a death by signal */
    signals_hold(NULL);
    uv_walk(&s->loop, close_handle, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    sink_close(&s->access);
    uv_loop_close(&s->loop);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    close(s->hangup_fd);
    keys_release(&s->keys);
    free(s->workers);
    pthread_mutex_destroy(&s->loading);
}

int loop_serve(const struct config *c, struct infer_error *err)
{
    struct server *s = calloc(1, sizeof(*s));
    sigset_t before;
    int rc;

    if (!s)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    s->config = c;
    s->listen_fd = s->hangup_fd = -1;
    s->started = (int64_t)time(NULL);
    pthread_mutex_init(&s->loading, NULL);
    for (int i = 0; i < N_ROUTES; i++)
        histogram_init_seconds(&s->metrics.seconds[i]);
    if (getrandom(s->id_seed, sizeof(s->id_seed), GRND_NONBLOCK) < 0)
        s->id_seed[0] = infer_clock_ns();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log too large is an error of its write */
    signal(SIGBUS, on_bus_error);
    rc = listen_open(c->listen, &s->listen_fd, s->url, sizeof(s->url), err);
    if (rc == 0)
        rc = keys_init(&s->keys, c, err);
    if (rc == 0)
        rc = open_loop(s, err);
    if (rc) {
        keys_release(&s->keys);
        if (s->listen_fd >= 0)
            close(s->listen_fd);
        free(s);
        return rc;
    }
    limit_connections(s);
    start_handles(s);
    if (c->access_log)
        rc = sink_open(&s->access, &s->loop, c->access_log_file, err);
    signals_hold(&before);
    if (rc == 0)
        rc = start_workers(s, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        rc = start_mhd(s, err);
    if (rc == 0)
        uv_run(&s->loop, UV_RUN_DEFAULT);
    if (rc == 0 && s->failed) { /* the line was printed when it happened */
        rc = INFER_EFORMAT;
        err->text[0] = '\0';
    }
    release(s);
    log_line(LEVEL_INFO, "stopped", "status=%d", rc != 0);
    log_flush();
    free(s);
    return rc;
}
