/*
 * infer-load.c - load generator for generation and embeddings over HTTP.
 *
 * Keeps a number of requests in flight and reports what a user of the service
 * feels: time to first token, time between tokens, tokens/s, refusals, and how
 * quickly the health route answers meanwhile. With --compare-openai it speaks
 * plain /v1/completions, so that other servers are measured in the same form.
 *
 * It is a load generator: it refuses to point at another machine unless told,
 * and it always ends (a count, a time, and a timeout per request).
 */
#include "bench/load.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "usage: infer-load [options]\n"
    "  --url URL            http://127.0.0.1:8080[/v1/generate]\n"
    "  --concurrency N      requests in flight, 1..1024 (8)\n"
    "  --requests N         end after N requests (without --seconds: 100)\n"
    "  --seconds S          start no request after S seconds\n"
    "  --prompt TEXT        the same prompt for all; else random tokens:\n"
    "  --prompt-tokens N    of this length (32)\n"
    "  --shared-tokens N    of which the first N are always the same (0)\n"
    "  --vocab N            ids below N (32000)\n"
    "  --texts N            embed N texts of --prompt-tokens words per "
    "request\n"
    "                       (/v1/embeddings) instead of generating\n"
    "  --base64             ask for embeddings as base64\n"
    "  --max-tokens N       to generate per request (64)\n"
    "  --temperature T      (0)\n"
    "  --stream, --no-stream  server-sent events or one reply (stream)\n"
    "  --model NAME         (the server's default)\n"
    "  --key KEY            sent as bearer token\n"
    "  --timeout S          of one request (120)\n"
    "  --health-path PATH   probed meanwhile, 'none': not (/healthz)\n"
    "  --health-ms N        between probes (20)\n"
    "  --compare-openai     use /v1/completions and /health\n"
    "  --allow-remote       allow a URL that is not this machine\n"
    "  -o FORMAT            table or json (table)\n";

static volatile sig_atomic_t stop_count; /* signals seen */

static void on_signal(int signum)
{
    (void)signum;
    stop_count = stop_count + 1;
}

/* ---- reports ------------------------------------------------------------ */

static double per_second(uint64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0.0;
}

static void print_hist(const char *name, const struct bench_hist *h)
{
    if (h->count == 0)
        return;
    printf("| %-20s | %9llu | %9.2f | %9.2f | %9.2f | %9.2f | %9.2f |\n", name,
           (unsigned long long)h->count, bench_hist_mean_ms(h),
           bench_hist_ms(h, 0.5), bench_hist_ms(h, 0.9), bench_hist_ms(h, 0.99),
           bench_hist_max_ms(h));
}

static void print_table(const struct load_options *opt,
                        const struct load_stats *s)
{
    printf("%s%s: %u in flight, %llu requests in %.2f s\n", opt->url.host,
           opt->url.path, opt->concurrency, (unsigned long long)s->n_started,
           s->seconds);
    printf("%.1f %s/s (%.1f while all clients were busy, %.2f "
           "s), %.1f prompt tokens/s, %.2f requests/s\n",
           per_second(s->tokens, s->seconds),
           opt->n_texts > 0 ? "texts" : "generated tokens",
           per_second(s->busy_tokens, s->busy_seconds), s->busy_seconds,
           per_second(s->prompt_tokens, s->seconds),
           per_second(s->n_ok, s->seconds));
    printf("replies (0: none):");
    for (size_t i = 0; i < LOAD_MAX_STATUSES && s->statuses[i].n > 0; i++)
        printf(" %llu x %d", (unsigned long long)s->statuses[i].n,
               s->statuses[i].status);
    printf("; malformed or with an error: %llu; failed probes: %llu\n\n",
           (unsigned long long)s->n_broken,
           (unsigned long long)s->health_failed);
    printf("| %-20s | %9s | %9s | %9s | %9s | %9s | %9s |\n", "milliseconds",
           "count", "mean", "p50", "p90", "p99", "max");
    printf("|----------------------|----------:|----------:|----------:|"
           "----------:|----------:|----------:|\n");
    print_hist("first token", &s->ttft);
    print_hist("between tokens", &s->gap);
    print_hist("whole request", &s->total);
    print_hist("health probe", &s->health);
    printf("\nthe generator itself used %.0f %% of one processor\n",
           s->seconds > 0 ? 100 * s->cpu_seconds / s->seconds : 0.0);
}

static void add_hist(cJSON *o, const char *name, const struct bench_hist *h)
{
    cJSON *t = cJSON_AddObjectToObject(o, name);

    cJSON_AddNumberToObject(t, "count", (double)h->count);
    cJSON_AddNumberToObject(t, "mean", bench_hist_mean_ms(h));
    cJSON_AddNumberToObject(t, "p50", bench_hist_ms(h, 0.5));
    cJSON_AddNumberToObject(t, "p90", bench_hist_ms(h, 0.9));
    cJSON_AddNumberToObject(t, "p99", bench_hist_ms(h, 0.99));
    cJSON_AddNumberToObject(t, "max", bench_hist_max_ms(h));
}

static void print_json(const struct load_options *opt,
                       const struct load_stats *s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON *statuses;
    char *text;

    cJSON_AddStringToObject(o, "host", opt->url.host);
    cJSON_AddStringToObject(o, "path", opt->url.path);
    cJSON_AddNumberToObject(o, "concurrency", opt->concurrency);
    cJSON_AddBoolToObject(o, "stream", opt->stream);
    cJSON_AddNumberToObject(o, "max_tokens", opt->max_tokens);
    cJSON_AddNumberToObject(o, "seconds", s->seconds);
    cJSON_AddNumberToObject(o, "busy_seconds", s->busy_seconds);
    cJSON_AddNumberToObject(o, "cpu_seconds", s->cpu_seconds);
    cJSON_AddNumberToObject(o, "requests", (double)s->n_started);
    cJSON_AddNumberToObject(o, "ok", (double)s->n_ok);
    cJSON_AddNumberToObject(o, "broken", (double)s->n_broken);
    cJSON_AddNumberToObject(o, "health_failed", (double)s->health_failed);
    cJSON_AddNumberToObject(o, "tokens", (double)s->tokens);
    cJSON_AddNumberToObject(o, "prompt_tokens", (double)s->prompt_tokens);
    cJSON_AddNumberToObject(o, "tokens_per_second",
                            per_second(s->tokens, s->seconds));
    cJSON_AddNumberToObject(o, "busy_tokens_per_second",
                            per_second(s->busy_tokens, s->busy_seconds));
    cJSON_AddNumberToObject(o, "requests_per_second",
                            per_second(s->n_ok, s->seconds));
    statuses = cJSON_AddObjectToObject(o, "statuses");
    for (size_t i = 0; i < LOAD_MAX_STATUSES && s->statuses[i].n > 0; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", s->statuses[i].status);
        cJSON_AddNumberToObject(statuses, name, (double)s->statuses[i].n);
    }
    add_hist(o, "first_token_ms", &s->ttft);
    add_hist(o, "between_tokens_ms", &s->gap);
    add_hist(o, "request_ms", &s->total);
    add_hist(o, "health_ms", &s->health);
    text = cJSON_Print(o);
    puts(text != NULL ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(o);
}

/* ---- options ------------------------------------------------------------ */

struct arguments {
    struct load_options opt;
    const char *url, *health;
    bool allow_remote, json;
};

enum {
    OPT_URL = 256,
    OPT_CONCURRENCY,
    OPT_REQUESTS,
    OPT_SECONDS,
    OPT_PROMPT,
    OPT_PROMPT_TOKENS,
    OPT_SHARED_TOKENS,
    OPT_VOCAB,
    OPT_TEXTS,
    OPT_BASE64,
    OPT_MAX_TOKENS,
    OPT_TEMPERATURE,
    OPT_STREAM,
    OPT_NO_STREAM,
    OPT_MODEL,
    OPT_KEY,
    OPT_TIMEOUT,
    OPT_HEALTH_PATH,
    OPT_HEALTH_MS,
    OPT_OPENAI,
    OPT_REMOTE
};

static const struct option long_options[] = {
    {"url", required_argument, NULL, OPT_URL},
    {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
    {"requests", required_argument, NULL, OPT_REQUESTS},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"prompt-tokens", required_argument, NULL, OPT_PROMPT_TOKENS},
    {"shared-tokens", required_argument, NULL, OPT_SHARED_TOKENS},
    {"vocab", required_argument, NULL, OPT_VOCAB},
    {"texts", required_argument, NULL, OPT_TEXTS},
    {"base64", no_argument, NULL, OPT_BASE64},
    {"max-tokens", required_argument, NULL, OPT_MAX_TOKENS},
    {"temperature", required_argument, NULL, OPT_TEMPERATURE},
    {"stream", no_argument, NULL, OPT_STREAM},
    {"no-stream", no_argument, NULL, OPT_NO_STREAM},
    {"model", required_argument, NULL, OPT_MODEL},
    {"key", required_argument, NULL, OPT_KEY},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"health-path", required_argument, NULL, OPT_HEALTH_PATH},
    {"health-ms", required_argument, NULL, OPT_HEALTH_MS},
    {"compare-openai", no_argument, NULL, OPT_OPENAI},
    {"allow-remote", no_argument, NULL, OPT_REMOTE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

static int parse_seconds(const char *option, const char *value, uint64_t *ns)
{
    double seconds;

    if (bench_parse_double(option, value, 0.01, 3600, &seconds) != 0)
        return -1;
    *ns = (uint64_t)(seconds * 1e9);
    return 0;
}

static int parse_format(const char *value, bool *json)
{
    *json = strcmp(value, "json") == 0;
    if (*json || strcmp(value, "table") == 0)
        return 0;
    fprintf(stderr, "-o: '%s' is neither table nor json\n", value);
    return -1;
}

static int parse_number(int c, const char *v, struct load_options *opt)
{
    switch (c) {
    case OPT_CONCURRENCY:
        return bench_parse_u32("--concurrency", v, 1, LOAD_MAX_CLIENTS,
                               &opt->concurrency);
    case OPT_REQUESTS:
        return bench_parse_u64("--requests", v, 1, 10000000,
                               &opt->max_requests);
    case OPT_SECONDS:
        return parse_seconds("--seconds", v, &opt->max_ns);
    case OPT_PROMPT_TOKENS:
        return bench_parse_u32("--prompt-tokens", v, 1, 100000,
                               &opt->prompt_tokens);
    case OPT_SHARED_TOKENS:
        return bench_parse_u32("--shared-tokens", v, 0, 100000,
                               &opt->shared_tokens);
    case OPT_VOCAB:
        return bench_parse_u32("--vocab", v, 16, 10000000, &opt->n_vocab);
    case OPT_MAX_TOKENS:
        return bench_parse_u32("--max-tokens", v, 1, 100000, &opt->max_tokens);
    case OPT_TEXTS:
        return bench_parse_u32("--texts", v, 1, 100000, &opt->n_texts);
    case OPT_TEMPERATURE:
        return bench_parse_double("--temperature", v, 0, 100,
                                  &opt->temperature);
    case OPT_TIMEOUT:
        return parse_seconds("--timeout", v, &opt->timeout_ns);
    case OPT_HEALTH_MS:
        if (bench_parse_u64("--health-ms", v, 1, 60000, &opt->health_ns) != 0)
            return -1;
        opt->health_ns *= 1000000;
        return 0;
    default:
        return -1;
    }
}

static int parse_option(int c, const char *value, struct arguments *a)
{
    switch (c) {
    case OPT_URL:
        a->url = value;
        return 0;
    case OPT_PROMPT:
        a->opt.prompt = value;
        return 0;
    case OPT_STREAM:
    case OPT_NO_STREAM:
        a->opt.stream = c == OPT_STREAM;
        return 0;
    case OPT_MODEL:
        a->opt.model = value;
        return 0;
    case OPT_KEY:
        a->opt.key = value;
        return 0;
    case OPT_HEALTH_PATH:
        a->health = value;
        return 0;
    case OPT_BASE64:
        a->opt.base64 = true;
        return 0;
    case OPT_OPENAI:
        a->opt.openai = true;
        return 0;
    case OPT_REMOTE:
        a->allow_remote = true;
        return 0;
    case 'o':
        return parse_format(value, &a->json);
    default:
        return parse_number(c, value, &a->opt);
    }
}

/* A line break in what becomes a header would be another header. */
static int check_header(const char *option, const char *value)
{
    if (value == NULL || strcspn(value, "\r\n") == strlen(value))
        return 0;
    fprintf(stderr, "%s: may not contain a line break\n", option);
    return -1;
}

static int finish_options(struct arguments *a)
{
    struct load_options *opt = &a->opt;

    if (bench_url_parse(a->url, &opt->url) != 0 ||
        check_header("--key", opt->key) != 0 ||
        check_header("--health-path", a->health) != 0)
        return -1;
    if (!opt->url.loopback && !a->allow_remote) {
        fprintf(stderr,
                "--url: '%s' is another machine; --allow-remote if its "
                "owner agrees\n",
                a->url);
        return -1;
    }
    if (opt->url.path[0] == '\0' || strcmp(opt->url.path, "/") == 0)
        snprintf(opt->url.path, sizeof(opt->url.path), "%s",
                 opt->n_texts > 0 ? "/v1/embeddings"
                 : opt->openai    ? "/v1/completions"
                                  : "/v1/generate");
    opt->stream = opt->stream && opt->n_texts == 0;
    if (a->health == NULL)
        a->health = opt->openai ? "/health" : "/healthz";
    opt->health_path = strcmp(a->health, "none") == 0 ? NULL : a->health;
    if (opt->max_requests == 0 && opt->max_ns == 0)
        opt->max_requests = 100;
    return 0;
}

/* 0: run; 1: help was asked for; -1: wrong usage */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
    int c;

    while ((c = getopt_long(argc, argv, "o:h", long_options, NULL)) != -1) {
        if (c == 'h')
            return 1;
        if (parse_option(c, optarg, a) != 0)
            return -1;
    }
    return optind != argc ? -1 : finish_options(a);
}

int main(int argc, char **argv)
{
    struct arguments a = {.url = "http://127.0.0.1:8080",
                          .opt = {.concurrency = 8,
                                  .prompt_tokens = 32,
                                  .n_vocab = 32000,
                                  .max_tokens = 64,
                                  .timeout_ns = 120000000000u,
                                  .health_ns = 20000000,
                                  .stream = true}};
    struct load_stats *stats;
    int rc = parse_arguments(argc, argv, &a);

    if (rc != 0) {
        if (rc > 0)
            fputs(usage_text, stdout);
        else
            fputs("infer-load --help lists the options\n", stderr);
        return rc > 0 ? 0 : 2;
    }
    stats = calloc(1, sizeof(*stats));
    if (stats == NULL)
        return 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    rc = load_run(&a.opt, &stop_count, stats);
    if (rc == 0 && a.json)
        print_json(&a.opt, stats);
    else if (rc == 0)
        print_table(&a.opt, stats);
    rc = rc == 0 && stats->n_ok > 0 && stats->n_broken == 0 ? 0 : 1;
    free(stats);
    return rc;
}
