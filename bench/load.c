/*
 * load.c - see load.h. The generator's loop and its clients.
 *
 * A client's life: idle → asking → (reply read) → idle; after anything but a
 * 200 it waits a little, as a client that honours Retry-After would, so that
 * refusals are not counted by the million. The health probe is due at fixed
 * times and its latency counts from when it was due: a server that stalls
 * cannot hide behind a probe that waits for it.
 */
#include "bench/load.h"

#include "infer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const uint64_t retry_ns = 50000000;
static const size_t max_reply = (size_t)16 << 20;

struct load;

struct client {
    struct bench_http http;
    struct load *load;
    char *request;
    uint64_t started_ns;    /* 0: not asking */
    uint64_t not_before_ns; /* earliest next request */
    uint64_t last_token_ns; /* 0: none yet */
    uint64_t n_tokens;      /* seen in this reply */
    uint64_t prompt_tokens;
    char *text; /* [text_len]: an incomplete line of a stream, or the body */
    size_t text_len, text_size;
    bool broken, done; /* malformed; "data: [DONE]" was seen */
};

struct load {
    const struct load_options *opt;
    struct load_stats *stats;
    struct bench_rng rng;
    struct client *clients; /* [concurrency] */
    struct pollfd *fds;     /* [concurrency + 1], the probe last */
    struct bench_http probe;
    char probe_request[1024];
    uint64_t start_ns, now_ns;
    uint64_t probe_due_ns;
    uint64_t busy_until_ns; /* when the first client found nothing to do */
    bool closing;           /* no request starts any more */
};

/* ---- replies ------------------------------------------------------------ */

static void see_tokens(struct client *c, uint64_t n)
{
    struct load *load = c->load;
    const uint64_t now = infer_clock_ns();

    if (n == 0)
        return;
    if (load->opt->stream)
        bench_hist_add(
            c->last_token_ns == 0 ? &load->stats->ttft : &load->stats->gap,
            now - (c->last_token_ns == 0 ? c->started_ns : c->last_token_ns));
    c->last_token_ns = now;
    c->n_tokens += n;
    if (load->busy_until_ns == 0)
        load->stats->busy_tokens += n;
}

/* One event's data, or the whole body of an unstreamed reply. */
static void see_json(struct client *c, const char *text, size_t len)
{
    struct load_delta delta;

    if (load_read_json(text, len, &delta) != 0 || delta.error) {
        c->broken = true;
        return;
    }
    if (c->load->opt->stream)
        see_tokens(c, delta.n_tokens);
    else
        see_tokens(c,
                   delta.has_usage ? delta.completion_tokens : delta.n_tokens);
    if (delta.has_usage) {
        c->prompt_tokens = delta.prompt_tokens;
        c->n_tokens = delta.completion_tokens;
    }
}

static void see_line(struct client *c, const char *line, size_t len)
{
    static const char data[] = "data: ";
    const size_t skip = sizeof(data) - 1;

    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (len < skip || memcmp(line, data, skip) != 0)
        return; /* a comment, another field, or the end of an event */
    if (len - skip == 6 && memcmp(line + skip, "[DONE]", 6) == 0)
        c->done = true;
    else
        see_json(c, line + skip, len - skip);
}

static void keep_text(struct client *c, const char *data, size_t len)
{
    if (c->text_len + len > max_reply) {
        c->broken = true;
        return;
    }
    if (c->text_len + len > c->text_size) {
        const size_t size = 2 * (c->text_len + len);
        char *text = realloc(c->text, size);

        if (text == NULL) {
            c->broken = true;
            return;
        }
        c->text = text;
        c->text_size = size;
    }
    memcpy(c->text + c->text_len, data, len);
    c->text_len += len;
}

static void on_body(void *user, const char *data, size_t len)
{
    struct client *c = user;

    if (c->http.status != 200)
        return;
    while (c->load->opt->stream && len > 0) {
        const char *end = memchr(data, '\n', len);
        const size_t n = end != NULL ? (size_t)(end - data) : len;

        if (end == NULL) {
            break;
        } else if (c->text_len == 0) {
            see_line(c, data, n);
        } else {
            keep_text(c, data, n);
            see_line(c, c->text, c->text_len);
            c->text_len = 0;
        }
        data += n + 1;
        len -= n + 1;
    }
    if (len > 0)
        keep_text(c, data, len);
}

/* ---- requests ----------------------------------------------------------- */

static void count_status(struct load_stats *stats, int status)
{
    struct load_status *s = stats->statuses;
    size_t i = 0;

    while (i + 1 < LOAD_MAX_STATUSES && s[i].n > 0 && s[i].status != status)
        i++;
    s[i].status = status;
    s[i].n++;
}

static void end_request(struct client *c, int status)
{
    struct load_stats *stats = c->load->stats;
    const uint64_t now = infer_clock_ns();

    if (status == 200 && !c->load->opt->stream)
        see_json(c, c->text, c->text_len);
    if (status == 200 && c->load->opt->stream && !c->done)
        c->broken = true;
    count_status(stats, status);
    stats->n_ok += status == 200 && !c->broken;
    stats->n_broken += status == 200 && c->broken;
    stats->n_failed += status != 200;
    if (status == 200) {
        stats->tokens += c->n_tokens;
        stats->prompt_tokens += c->prompt_tokens;
        bench_hist_add(&stats->total, now - c->started_ns);
    } else {
        c->not_before_ns = now + retry_ns;
    }
    free(c->request);
    c->request = NULL;
    c->started_ns = 0;
}

static int begin_request(struct client *c)
{
    struct load *load = c->load;
    size_t len;

    c->request = load_request(load->opt, &load->rng, &len);
    if (c->request == NULL) {
        fprintf(stderr, "infer-load: out of memory\n");
        return -1;
    }
    load->stats->n_started++;
    c->started_ns = infer_clock_ns();
    c->last_token_ns = 0;
    c->n_tokens = 0;
    c->prompt_tokens = 0;
    c->text_len = 0;
    c->broken = c->done = false;
    if (bench_http_start(&c->http, &load->opt->url, c->request, len) != 0)
        end_request(c, 0);
    return 0;
}

static void step_client(struct client *c, short revents)
{
    enum bench_http_result result = BENCH_HTTP_AGAIN;

    if (revents != 0)
        result = bench_http_step(&c->http, &c->load->opt->url);
    if (result == BENCH_HTTP_AGAIN &&
        c->load->now_ns - c->started_ns > c->load->opt->timeout_ns) {
        bench_http_close(&c->http);
        result = BENCH_HTTP_FAILED;
    }
    if (result == BENCH_HTTP_DONE)
        end_request(c, c->http.status);
    else if (result == BENCH_HTTP_FAILED)
        end_request(c, 0);
}

/* ---- health probe ------------------------------------------------------- */

static void probe_done(struct load *load, bool ok)
{
    bench_hist_add(&load->stats->health, infer_clock_ns() - load->probe_due_ns);
    load->stats->health_failed += !ok;
    load->probe_due_ns += load->opt->health_ns;
}

static void ignore_body(void *user, const char *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

static bool probe_running(const struct load *load)
{
    return bench_http_events(&load->probe) != 0;
}

static void step_probe(struct load *load, short revents)
{
    const struct bench_url *url = &load->opt->url;

    if (probe_running(load)) {
        enum bench_http_result result = BENCH_HTTP_AGAIN;

        if (revents != 0)
            result = bench_http_step(&load->probe, url);
        if (result != BENCH_HTTP_AGAIN)
            probe_done(load,
                       result == BENCH_HTTP_DONE && load->probe.status == 200);
    }
    if (!probe_running(load) && load->now_ns >= load->probe_due_ns &&
        load->opt->health_path != NULL && !load->closing &&
        bench_http_start(&load->probe, url, load->probe_request,
                         strlen(load->probe_request)) != 0)
        probe_done(load, false);
}

/* ---- loop --------------------------------------------------------------- */

static bool limits_reached(const struct load *load)
{
    const struct load_options *opt = load->opt;

    return (opt->max_requests > 0 &&
            load->stats->n_started >= opt->max_requests) ||
           (opt->max_ns > 0 && load->now_ns - load->start_ns >= opt->max_ns);
}

/* Start what may start; returns how many clients are at work, -1: no memory. */
static int start_clients(struct load *load)
{
    int n_busy = 0;

    for (uint32_t i = 0; i < load->opt->concurrency; i++) {
        struct client *c = &load->clients[i];

        if (!load->closing && limits_reached(load)) {
            load->closing = true;
            load->busy_until_ns = load->now_ns;
        }
        if (c->started_ns == 0 && !load->closing &&
            load->now_ns >= c->not_before_ns && begin_request(c) != 0)
            return -1;
        n_busy += c->started_ns != 0;
    }
    return n_busy;
}

/* Milliseconds until something is due even if no socket stirs. */
static int wait_ms(const struct load *load)
{
    const uint64_t due = load->probe_due_ns;

    if (load->opt->health_path == NULL || load->closing || probe_running(load))
        return 20;
    if (due <= load->now_ns)
        return 0;
    return due - load->now_ns > 20000000
               ? 20
               : (int)((due - load->now_ns + 999999) / 1000000);
}

static void fill_fds(struct load *load)
{
    const uint32_t n = load->opt->concurrency;

    for (uint32_t i = 0; i < n; i++) {
        const struct bench_http *h = &load->clients[i].http;
        const short events = bench_http_events(h);

        load->fds[i] =
            (struct pollfd){.fd = events ? h->fd : -1, .events = events};
    }
    load->fds[n] =
        (struct pollfd){.fd = probe_running(load) ? load->probe.fd : -1,
                        .events = bench_http_events(&load->probe)};
}

static int run_loop(struct load *load, const volatile sig_atomic_t *stop)
{
    const uint32_t n = load->opt->concurrency;

    for (;;) {
        int n_busy;

        load->now_ns = infer_clock_ns();
        if (*stop && !load->closing) {
            load->closing = true;
            load->busy_until_ns = load->now_ns;
        }
        n_busy = start_clients(load);
        if (n_busy < 0)
            return -1;
        if (load->closing && (n_busy == 0 || *stop > 1))
            return 0;
        step_probe(load, 0);
        fill_fds(load);
        poll(load->fds, n + 1, wait_ms(load));
        load->now_ns = infer_clock_ns();
        step_probe(load, load->fds[n].revents);
        for (uint32_t i = 0; i < n; i++)
            if (load->clients[i].started_ns != 0)
                step_client(&load->clients[i], load->fds[i].revents);
    }
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void init_load(struct load *load, const struct load_options *opt)
{
    for (uint32_t i = 0; i < opt->concurrency; i++) {
        struct client *c = &load->clients[i];

        c->load = load;
        c->http.fd = -1;
        c->http.on_body = on_body;
        c->http.user = c;
    }
    load->probe.fd = -1;
    load->probe.on_body = ignore_body;
    snprintf(load->probe_request, sizeof(load->probe_request),
             "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
             opt->health_path != NULL ? opt->health_path : "", opt->url.host);
    load->start_ns = load->now_ns = load->probe_due_ns = infer_clock_ns();
}

int load_run(const struct load_options *opt, const volatile sig_atomic_t *stop,
             struct load_stats *stats)
{
    struct load load = {.opt = opt, .stats = stats, .rng = {2}};
    const double cpu = cpu_seconds();
    int rc = -1;

    load.clients = calloc(opt->concurrency, sizeof(load.clients[0]));
    load.fds = calloc(opt->concurrency + 1, sizeof(load.fds[0]));
    if (load.clients == NULL || load.fds == NULL) {
        fprintf(stderr, "infer-load: out of memory\n");
        goto out;
    }
    init_load(&load, opt);
    rc = run_loop(&load, stop);
    stats->seconds = (double)(infer_clock_ns() - load.start_ns) / 1e9;
    stats->busy_seconds = (double)(load.busy_until_ns - load.start_ns) / 1e9;
    stats->cpu_seconds = cpu_seconds() - cpu;
    for (uint32_t i = 0; i < opt->concurrency; i++) {
        bench_http_close(&load.clients[i].http);
        free(load.clients[i].request);
        free(load.clients[i].text);
    }
    bench_http_close(&load.probe);
out:
    free(load.clients);
    free(load.fds);
    return rc;
}
