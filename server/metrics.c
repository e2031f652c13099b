/*
 * metrics.c - the state of everything, in Prometheus' text format.
 *
 * Counters of the HTTP side belong to the loop; those of a model are atomics
 * that its worker writes. A scrape therefore waits for nobody.
 */
#include "server/metrics.h"
#include "server/log.h"
#include "server/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void family(struct buf *out, const char *name, const char *type,
                   const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type,
                   const char *help, double v)
{
    family(out, name, type, help);
    buf_printf(out, "%s %.15g\n", name, v);
}

/* ---- HTTP ---------------------------------------------------------------- */

static void print_requests(struct buf *out, const struct http_metrics *m)
{
    family(out, "inferd_requests_total", "counter",
           "Requests answered, by route and status code.");
    for (int r = 0; r < N_ROUTES; r++)
        for (size_t k = 0; k < N_STATUSES; k++)
            if (m->requests[r][k])
                buf_printf(out,
                           "inferd_requests_total{route=\"%s\",code=\"%u\"} "
                           "%" PRIu64 "\n",
                           routes[r].path, reply_row_status(k),
                           m->requests[r][k]);
    family(out, "inferd_request_duration_seconds", "histogram",
           "Time from the request line to the end of the answer.");
    for (int r = 0; r < N_ROUTES; r++) {
        char labels[64];

        snprintf(labels, sizeof(labels), "route=\"%s\"", routes[r].path);
        if (m->seconds[r].bounds)
            histogram_print(out, "inferd_request_duration_seconds", labels,
                            &m->seconds[r]);
    }
}

static void print_refusals(struct buf *out, const struct http_metrics *m)
{
    static const char *const reasons[N_REFUSALS] = {
        [REFUSED_QUEUE] = "queue_full",  [REFUSED_TOKENS] = "queue_tokens",
        [REFUSED_MEMORY] = "memory",     [REFUSED_LOADING] = "loading",
        [REFUSED_DRAINING] = "draining", [REFUSED_KEY] = "key",
        [REFUSED_RATE] = "key_limit",    [REFUSED_BODY] = "body_too_large",
        [REFUSED_TIMEOUT] = "timeout",
    };

    family(out, "inferd_refused_total", "counter",
           "Requests refused before any work, by reason.");
    for (int i = 0; i < N_REFUSALS; i++)
        buf_printf(out, "inferd_refused_total{reason=\"%s\"} %" PRIu64 "\n",
                   reasons[i], m->refused[i]);
}

static double resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;

    if (f && fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void print_process(struct buf *out, const struct server *s)
{
    const struct http_metrics *m = &s->metrics;

    single(out, "inferd_connections", "gauge", "Open connections.", s->n_conns);
    single(out, "inferd_connections_limit", "gauge",
           "Connections that may be open.", s->max_conns);
    single(out, "inferd_connections_accepted_total", "counter",
           "Connections accepted.", (double)m->connections);
    single(out, "inferd_cancelled_total", "counter",
           "Requests whose client left before the answer.",
           (double)m->cancelled);
    single(out, "inferd_slow_readers_total", "counter",
           "Connections dropped because they read too slowly.",
           (double)m->slow_readers);
    single(out, "inferd_log_dropped_total", "counter",
           "Log lines lost because stderr was full.", (double)log_dropped());
    single(out, "inferd_access_log_dropped_total", "counter",
           "Lines of the access log lost because its reader or disk was slow.",
           (double)s->access.dropped);
    single(out, "inferd_body_bytes", "gauge",
           "Bytes of request bodies held now.", (double)s->body_bytes);
    single(out, "inferd_ready", "gauge", "1 while new work is accepted.",
           s->state == STATE_READY);
    single(out, "inferd_resident_memory_bytes", "gauge",
           "Resident set size of the process.", resident_bytes());
    single(out, "inferd_start_time_seconds", "gauge",
           "When the process started, Unix time.", (double)s->started);
}

/* ---- models -------------------------------------------------------------- */

enum shape { GAUGE, COUNTER };

/* A number per model. */
struct figure {
    const char *name, *help;
    enum shape shape;
    double (*value)(const struct worker *w);
};

#define RELAXED(p) ((double)atomic_load_explicit(p, memory_order_relaxed))

static double queued(const struct worker *w)
{
    const double running = RELAXED(&w->stats.running);

    return w->n_sequences > running ? w->n_sequences - running : 0;
}

static double queued_tokens(const struct worker *w)
{
    const double n = RELAXED(&w->waiting_tokens);

    return n > 0 ? n : 0;
}

static double running(const struct worker *w)
{
    return RELAXED(&w->stats.running);
}

static double kv_used(const struct worker *w)
{
    return RELAXED(&w->stats.kv_used);
}

static double kv_total(const struct worker *w)
{
    return RELAXED(&w->stats.kv_total);
}

static double prompt_tokens(const struct worker *w)
{
    return RELAXED(&w->stats.prompt_tokens);
}

static double generated_tokens(const struct worker *w)
{
    return RELAXED(&w->stats.generated_tokens);
}

static double cached_tokens(const struct worker *w)
{
    return RELAXED(&w->stats.cached_tokens);
}

static double preempted(const struct worker *w)
{
    return RELAXED(&w->stats.preempted);
}

static double load_seconds(const struct worker *w)
{
    return w->ready ? w->info->load_seconds : 0;
}

static double memory_bytes(const struct worker *w)
{
    return w->ready ? (double)(w->info->weight_bytes + w->engine_bytes) : 0;
}

static const struct figure figures[] = {
    {"inferd_queue_requests", "Sequences accepted and not running.", GAUGE,
     queued},
    {"inferd_queue_tokens", "Prompt tokens waiting to be computed.", GAUGE,
     queued_tokens},
    {"inferd_requests_running", "Sequences being computed.", GAUGE, running},
    {"inferd_kv_blocks_used", "Blocks of the KV cache in use.", GAUGE, kv_used},
    {"inferd_kv_blocks", "Blocks of the KV cache.", GAUGE, kv_total},
    {"inferd_prompt_tokens_total", "Prompt tokens computed.", COUNTER,
     prompt_tokens},
    {"inferd_generated_tokens_total", "Tokens generated.", COUNTER,
     generated_tokens},
    {"inferd_cached_tokens_total", "Prompt tokens found in the prefix cache.",
     COUNTER, cached_tokens},
    {"inferd_preempted_total",
     "Sequences put back into the queue for want of KV blocks.", COUNTER,
     preempted},
    {"inferd_model_load_seconds", "Time it took to load the model.", GAUGE,
     load_seconds},
    {"inferd_model_memory_bytes", "Weights, KV cache and workspaces.", GAUGE,
     memory_bytes},
};

/* A label value: backslash, quote and newline escaped. */
static void model_label(const struct worker *w, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "model=\"");

    for (const char *s = w->config->name; *s && n + 4 < size; s++) {
        if (*s == '"' || *s == '\\')
            out[n++] = '\\';
        out[n++] = *s == '\n' ? ' ' : *s;
    }
    snprintf(out + n, size - n, "\"");
}

static void print_figure(struct buf *out, const struct server *s,
                         const char *name, const struct figure *f)
{
    family(out, name, f->shape == GAUGE ? "gauge" : "counter", f->help);
    for (size_t i = 0; i < s->n_workers; i++) {
        char label[256];

        model_label(&s->workers[i], label, sizeof(label));
        buf_printf(out, "%s{%s} %.15g\n", name, label,
                   f->value(&s->workers[i]));
    }
}

static void print_histograms(struct buf *out, const struct server *s)
{
    static const struct {
        const char *name, *help;
        size_t member;
    } all[] = {
#define M(field) offsetof(struct worker_stats, field)
        {"inferd_step_seconds", "Duration of one step.", M(step_seconds)},
        {"inferd_step_rows", "Tokens computed in one step.", M(step_rows)},
        {"inferd_time_to_first_token_seconds",
         "From arrival to the first token.", M(ttft)},
        {"inferd_inter_token_seconds", "From one token to the next.",
         M(inter_token)},
        {"inferd_queue_seconds", "From arrival to the first step.", M(queue)},
#undef M
    };

    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
        family(out, all[k].name, "histogram", all[k].help);
        for (size_t i = 0; i < s->n_workers; i++) {
            const struct worker *w = &s->workers[i];
            char label[256];

            model_label(w, label, sizeof(label));
            histogram_print(
                out, all[k].name, label,
                (const void *)((const char *)&w->stats + all[k].member));
        }
    }
}

/* Names that autoscalers made for vLLM look for. */
static void print_aliases(struct buf *out, const struct server *s)
{
    static const struct figure waits = {NULL, "Alias of inferd_queue_requests.",
                                        GAUGE, queued};
    static const struct figure runs = {
        NULL, "Alias of inferd_requests_running.", GAUGE, running};

    print_figure(out, s, "vllm:num_requests_waiting", &waits);
    print_figure(out, s, "vllm:num_requests_running", &runs);
}

void metrics_print(struct buf *out, const struct server *s)
{
    const struct worker *w = &s->workers[0];

    family(out, "inferd_build_info", "gauge", "Always 1.");
    buf_printf(out, "inferd_build_info{version=\"%s\",kernels=\"%s\"} 1\n",
               infer_version(), w->ready ? w->info->kernels : "");
    print_requests(out, &s->metrics);
    print_refusals(out, &s->metrics);
    print_process(out, s);
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
        print_figure(out, s, figures[i].name, &figures[i]);
    print_histograms(out, s);
    if (s->config->vllm_aliases)
        print_aliases(out, s);
}
