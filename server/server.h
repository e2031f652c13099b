/*
 * server.h - everything the loop thread owns: connections, requests, counters.
 *
 * No lock guards any of it. Workers see their own struct worker and the outbox.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "server/auth.h"
#include "server/config.h"
#include "server/histogram.h"
#include "server/job.h"
#include "server/sink.h"
#include "server/trace.h"
#include "server/worker.h"

#include <microhttpd.h>
#include <uv.h>

struct server;
struct generation;

/* ---- routes -------------------------------------------------------------- */

enum route_id {
    ROUTE_GENERATE,
    ROUTE_COMPLETIONS,
    ROUTE_CHAT,
    ROUTE_MODELS,
    ROUTE_MODEL,
    ROUTE_TOKENIZE,
    ROUTE_DETOKENIZE,
    ROUTE_EMBEDDINGS,
    ROUTE_CLASSIFY,
    ROUTE_RERANK,
    ROUTE_TEI_EMBED,
    ROUTE_TEI_PREDICT,
    ROUTE_TEI_RERANK,
    ROUTE_TEI_TOKENIZE,
    ROUTE_TEI_DECODE,
    ROUTE_TEI_INFO,
    ROUTE_HEALTHZ,
    ROUTE_READYZ,
    ROUTE_METRICS,
    ROUTE_OPENAPI,
    ROUTE_INDEX,
    ROUTE_DOCS,
    ROUTE_WEB,
    ROUTE_NONE, /* no such path */
    N_ROUTES
};

struct route {
    const char *path; /* ROUTE_MODEL, ROUTE_WEB: then a name follows */
    bool post;        /* POST with a JSON body, or GET and HEAD */
    bool open;        /* needs no key */
    /* Answer (reply_*) or start a job (request_wait). */
    void (*run)(struct request *r);
};

extern const struct route routes[N_ROUTES];

/* Errors there have the shape of text-embeddings-inference. */
static inline bool route_is_tei(enum route_id id)
{
    return id >= ROUTE_TEI_EMBED && id <= ROUTE_TEI_INFO;
}

/* ---- connections and requests -------------------------------------------- */

enum phase {
    PHASE_IDLE,    /* between requests, or before the first */
    PHASE_HEADERS, /* the request line has come */
    PHASE_BODY,
    PHASE_WORK,  /* suspended or streaming; the job has a deadline itself */
    PHASE_WRITE, /* the reply is on its way */
    PHASE_LINGER /* refused while uploading: let the client read why */
};

struct conn {
    struct conn *prev, *next; /* in server->conns */
    struct server *srv;
    struct MHD_Connection *mhd;
    struct request *request; /* in progress, or NULL */
    uint64_t deadline_ms;    /* loop time at which the phase has failed */
    int fd;                  /* MHD's; valid while this struct is */
    enum phase phase;
    bool watched; /* its hang-up is waited for */
    bool dead;    /* shut down by us */
};

/* Events on their way to a slow or fast reader. */
struct stream {
    struct buf queue;
    size_t sent;           /* bytes of queue that MHD has taken */
    uint64_t progress_ms;  /* when MHD last took any, or the queue filled */
    uint64_t last_data_ms; /* when anything was last queued */
    bool started, ended;
};

enum { REQUEST_ID_MAX = 128 };

struct request {
    struct server *srv;
    struct conn *conn;
    struct MHD_Connection *mhd;
    enum route_id route;
    char *path;          /* owned; decoded, without the query */
    const char *uri_end; /* in MHD's memory, while the headers are read */
    bool escaped_nul;    /* %00 in the path */
    char method[12];
    char id[REQUEST_ID_MAX + 1];
    struct trace trace;
    struct key *key;
    uint64_t start_ns;
    bool key_held; /* counts in key->active */

    /* body */
    bool headers_done, body_done, discard;
    uint64_t n_body; /* bytes that arrived */
    struct buf body;

    /* answer */
    bool waiting;   /* for a job; MHD has suspended it or will */
    bool suspended; /* MHD holds it */
    bool queued;    /* the response was given to MHD */
    bool gone;      /* the client hung up */
    bool answered;  /* the job's answer is complete, or given up */
    unsigned status;
    struct MHD_Response *response; /* until queued */
    uint64_t n_sent;
    struct stream stream;

    struct job *job; /* in a worker's hands */
    struct generation *generation;

    /* for the access log */
    const char *model;
    const char *finish;
    const char *error; /* its code, or NULL; static */
    bool worked;       /* a model has begun with it: what follows is known */
    uint32_t n_prompt, n_cached, n_generated;
    double queue_ms, ttft_ms; /* since it arrived; ttft_ms 0: no token */
};

/* ---- server -------------------------------------------------------------- */

enum refusal {
    REFUSED_QUEUE,
    REFUSED_TOKENS,
    REFUSED_MEMORY,
    REFUSED_LOADING,
    REFUSED_DRAINING,
    REFUSED_KEY,
    REFUSED_RATE,
    REFUSED_BODY,
    REFUSED_TIMEOUT,
    N_REFUSALS
};

enum { N_STATUSES = 20 }; /* rows of the table in reply.c, at most */

struct http_metrics {
    uint64_t requests[N_ROUTES][N_STATUSES];
    struct histogram seconds[N_ROUTES];
    uint64_t refused[N_REFUSALS];
    uint64_t cancelled, slow_readers, connections;
};

enum run_state { STATE_LOADING, STATE_READY, STATE_DRAINING, STATE_STOPPING };

struct server {
    const struct config *config;
    uv_loop_t loop;
    uv_poll_t mhd_poll, hangup_poll;
    uv_timer_t mhd_timer, tick, drain_timer;
    uv_idle_t mhd_again; /* MHD has work that no descriptor announces */
    uint32_t n_again;    /* runs in a row for that reason only */
    uv_async_t wake;
    uv_signal_t sigterm, sigint, sighup;
    uv_check_t flush_log;
    struct MHD_Daemon *mhd;
    int listen_fd, hangup_fd;
    char url[320]; /* "http://HOST:PORT" */
    enum run_state state;
    bool failed; /* exit status 1 */
    bool rerun;  /* MHD must run again: a connection closed or resumed */

    struct inbox outbox;
    pthread_mutex_t loading; /* held by the worker that loads its model */
    struct infer_team *team;
    struct worker *workers; /* [n_workers], the first is the default */
    size_t n_workers, n_ready;

    struct conn *conns;
    uint32_t n_conns, max_conns;
    uint32_t n_requests; /* in progress */
    uint32_t n_jobs;     /* in the hands of workers */
    uint64_t body_bytes; /* held by requests */
    struct keys keys;
    struct http_metrics metrics;
    struct sink access; /* where the access log goes */
    int64_t started;    /* Unix seconds */
    uint64_t id_seed[2];
    uint64_t next_id;
};

/* Milliseconds of the loop's clock, now. */
static inline uint64_t server_now_ms(void)
{
    return infer_clock_ns() / 1000000;
}

/* Sixteen hexadecimal digits that do not repeat, not all zero. */
void server_new_id(struct server *s, char out[17]);

#endif
