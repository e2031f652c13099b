/*
 * load.h - the clients of a load test and what they saw.
 *
 * A client asks, reads the whole reply, and asks again at once: concurrency is
 * constant, the rate follows from the server. All clients live on one thread
 * and one poll(), so the generator takes little of the machine it measures.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench/hist.h"
#include "bench/http.h"
#include "bench/util.h"

#include <signal.h>

enum { LOAD_MAX_CLIENTS = 1024, LOAD_MAX_STATUSES = 16 };

struct load_options {
    struct bench_url url;    /* of the generation route */
    const char *health_path; /* NULL: no probe */
    const char *key;         /* bearer token or NULL */
    const char *model;       /* name or NULL: the server's default */
    const char *prompt;      /* text; NULL: random tokens */
    uint32_t concurrency;
    uint64_t max_requests;  /* 0: no such limit */
    uint64_t max_ns;        /* 0: no such limit; no request starts later */
    uint64_t timeout_ns;    /* of one request */
    uint64_t health_ns;     /* between probes */
    uint32_t prompt_tokens; /* random ids per prompt */
    uint32_t shared_tokens; /* the first ones, the same in all prompts */
    uint32_t n_vocab;       /* ids are below it */
    uint32_t n_texts;       /* to embed in each request; 0: generate */
    bool base64;            /* embeddings so, not as numbers */
    uint32_t max_tokens;
    double temperature;
    bool stream;
    bool openai; /* plain OpenAI fields only */
};

/* Requests by outcome; status 0: no reply. */
struct load_status {
    int status;
    uint64_t n;
};

struct load_stats {
    struct bench_hist ttft;   /* request sent → first token; streams only */
    struct bench_hist gap;    /* between the events that carry tokens */
    struct bench_hist total;  /* request sent → end, of the good ones */
    struct bench_hist health; /* probe due → answered */
    struct load_status statuses[LOAD_MAX_STATUSES];
    uint64_t n_ok, n_failed, n_started;
    uint64_t n_broken; /* 200, but malformed or with an error inside */
    uint64_t health_failed;
    uint64_t prompt_tokens, tokens; /* as the server counts them; or embedded
                                       texts */
    uint64_t busy_tokens;           /* seen while every client had work */
    double seconds, busy_seconds;
    double cpu_seconds; /* of this process: it shares the machine */
};

/* Run until the limits of opt are reached; *stop ends it early (a signal). */
int load_run(const struct load_options *opt, const volatile sig_atomic_t *stop,
             struct load_stats *stats);

/* A request, head and body, malloc'd; NULL: no memory. */
char *load_request(const struct load_options *opt, struct bench_rng *rng,
                   size_t *len);

/* What a piece of a reply says. */
struct load_delta {
    uint32_t n_tokens; /* new ones */
    bool has_usage;    /* the two below are given */
    uint64_t prompt_tokens, completion_tokens;
    bool error;
};

/* Read a JSON body or the data of one event; -1: malformed. */
int load_read_json(const char *text, size_t len, struct load_delta *delta);

#endif
