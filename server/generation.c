/*
 * generation.c - the loop's side of a generate job.
 *
 * A stream's 200 goes out with its first event and no earlier, so that what is
 * wrong before (too long for the context, the deadline passed in the queue)
 * still gets a status of its own. The exception is a wait longer than ping_ms:
 * proxies cut silent connections, so the stream begins with a comment line and
 * later errors become events.
 */
#include "server/generation.h"
#include "server/conn.h"
#include "server/http.h"
#include "server/jsonout.h"
#include "server/log.h"
#include "server/reply.h"
#include "server/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct generation *generation_create(struct request *r, const struct job *job)
{
    static const char *const prefix[] = {
        [SHAPE_NATIVE] = "gen",
        [SHAPE_COMPLETION] = "cmpl",
        [SHAPE_CHAT] = "chatcmpl",
    };
    struct generation *g = calloc(1, sizeof(*g));
    char id[17];

    if (!g)
        return NULL;
    g->shape = job->gen.shape;
    g->stream = job->gen.stream;
    g->include_usage = job->gen.include_usage;
    g->return_token_ids = job->gen.return_token_ids;
    g->logprobs = job->gen.logprobs;
    g->worker = job->worker;
    g->n = job->gen.n;
    g->n_choices = job->n_sequences;
    g->arrived_ns = job->arrived_ns;
    g->created = (int64_t)time(NULL);
    server_new_id(r->srv, id);
    snprintf(g->id, sizeof(g->id), "%s-%s", prefix[g->shape], id);
    g->held = calloc(g->n_choices, sizeof(struct chunk *));
    g->begun = calloc(g->n_choices, sizeof(*g->begun));
    g->heard = calloc(g->n_choices, sizeof(*g->heard));
    if (!g->held || !g->begun || !g->heard) {
        generation_free(g);
        return NULL;
    }
    return g;
}

void generation_free(struct generation *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; g->held && i < g->n_choices; i++)
        chunk_free(g->held[i]);
    free(g->held);
    free(g->begun);
    free(g->heard);
    free(g);
}

/* ---- events -------------------------------------------------------------- */

/* A reader that lags too far costs its request. */
static void commit(struct request *r)
{
    if (stream_commit(r))
        return;
    r->srv->metrics.slow_readers++;
    log_line(LEVEL_INFO, "slow_reader", "status=%u", r->status);
    request_gone(r);
    conn_shutdown(r->conn);
}

static bool begin(struct request *r)
{
    return r->stream.started || stream_start(r);
}

static void write_event(struct request *r, const struct job *job,
                        const struct chunk *c)
{
    struct generation *g = r->generation;
    struct buf *out = stream_buf(r);

    buf_str(out, "data: ");
    generation_write_delta(out, g, job, c, !g->begun[c->choice]);
    buf_str(out, "\n\n");
    g->begun[c->choice] = true;
    commit(r);
}

static void write_held(struct request *r, const struct job *job)
{
    struct generation *g = r->generation;

    for (uint32_t i = 0; i < g->n_choices; i++) {
        struct chunk *c = g->held[i];

        g->held[i] = NULL;
        if (c)
            write_event(r, job, c);
        chunk_free(c);
    }
}

/* ---- chunks -------------------------------------------------------------- */

/* Also for the access log of a request whose client leaves midway. */
static void note_work(struct request *r, const struct chunk *c)
{
    struct generation *g = r->generation;
    struct heard *h = &g->heard[c->choice];

    g->n_generated += c->n_generated - h->n_generated;
    if (!h->any && c->choice % g->n == 0) {
        r->n_prompt += c->n_prompt;
        r->n_cached += c->n_cached;
    }
    h->n_generated = c->n_generated;
    h->any = true;
    if (c->finish && c->choice == 0)
        r->finish = generation_finish_name(c->finish);
    r->worked = true;
    r->n_generated = g->n_generated;
    if (g->started_ns > g->arrived_ns)
        r->queue_ms = (double)(g->started_ns - g->arrived_ns) * 1e-6;
    if (g->first_token_ns > g->arrived_ns)
        r->ttft_ms = (double)(g->first_token_ns - g->arrived_ns) * 1e-6;
}

static void note(struct generation *g, const struct chunk *c)
{
    if (c->started_ns && (!g->started_ns || c->started_ns < g->started_ns))
        g->started_ns = c->started_ns;
    if (c->first_token_ns &&
        (!g->first_token_ns || c->first_token_ns < g->first_token_ns))
        g->first_token_ns = c->first_token_ns;
    if (c->now_ns > g->last_ns)
        g->last_ns = c->now_ns;
    if (c->finish == INFER_FINISH_DEADLINE && c->n_generated == 0)
        g->late = true;
}

void generation_delta(struct request *r, const struct job *job, struct chunk *c)
{
    struct generation *g = r->generation;
    const bool late = c->finish == INFER_FINISH_DEADLINE && c->n_generated == 0;
    const bool empty = c->text.len == 0 && c->tokens.len == 0 &&
                       c->finish == INFER_FINISH_NONE;

    note(g, c);
    note_work(r, c);
    if (!r->answered &&
        (c->text.failed || c->tokens.failed || c->tops.failed)) {
        chunk_free(c);
        job_cancel(r->job);
        generation_abort(r, 503, "out of memory");
        return;
    }
    if (!g->stream || (late && !r->stream.started)) {
        chunk_free(g->held[c->choice]);
        g->held[c->choice] = c;
        return;
    }
    if (r->answered || empty) {
        chunk_free(c);
        return;
    }
    if (begin(r)) {
        write_held(r, job);
        write_event(r, job, c);
    }
    chunk_free(c);
}

static void totals(struct request *r, const struct job *job)
{
    struct generation *g = r->generation;

    for (size_t i = 0; i < job->gen.n_prompts; i++) {
        g->n_prompt += job->gen.prompts[i].n_prompt;
        g->n_cached += job->gen.prompts[i].n_cached;
    }
    r->n_prompt = g->n_prompt;
    r->n_cached = g->n_cached;
}

static bool complete(const struct generation *g)
{
    for (uint32_t i = 0; i < g->n_choices; i++)
        if (!g->held[i])
            return false;
    return true;
}

static void finish_reply(struct request *r, const struct job *job)
{
    struct generation *g = r->generation;
    struct buf body = {0};

    if (g->late && g->n_generated == 0) {
        r->finish = "deadline";
        reply_error(r, 504, "deadline_ms", NULL,
                    "the deadline passed before the first token");
    } else if (!complete(g)) {
        r->finish = "cancelled";
        reply_retry(r, 503, NULL, 1, "the server is stopping");
    } else {
        generation_write_reply(&body, g, job);
        reply_json(r, &body);
    }
}

static void finish_stream(struct request *r)
{
    struct generation *g = r->generation;
    struct buf *out = stream_buf(r);

    if (g->include_usage) {
        buf_str(out, "data: ");
        generation_write_usage(out, g);
        buf_str(out, "\n\n");
    }
    buf_str(out, "data: [DONE]\n\n");
    stream_end(r);
    commit(r);
}

static void error_event(struct request *r, unsigned status, const char *message)
{
    struct buf *out = stream_buf(r);

    r->finish = "error";
    r->error = reply_code(status);
    buf_str(out, "data: ");
    reply_error_body(out, NULL, status, NULL, NULL, message);
    buf_str(out, "\n\n");
    stream_end(r);
    commit(r);
}

void generation_done(struct request *r, const struct job *job,
                     const struct chunk *c)
{
    totals(r, job);
    if (r->answered)
        return; /* given up before */
    r->answered = true;
    if (c->error.status && !r->stream.started)
        reply_engine_error(r, &c->error, c->param);
    else if (c->error.status)
        error_event(r, reply_status(c->error.status), c->error.text);
    else if (r->stream.started)
        finish_stream(r);
    else
        finish_reply(r, job);
}

void generation_abort(struct request *r, unsigned status, const char *message)
{
    if (r->answered)
        return;
    r->answered = true;
    r->finish = "error";
    if (r->stream.started)
        error_event(r, status, message);
    else if (status == 503)
        reply_retry(r, status, NULL, 1, "%s", message);
    else
        reply_error(r, status, NULL, NULL, "%s", message);
}

void generation_ping(struct request *r, uint64_t now_ms)
{
    const struct generation *g = r->generation;
    const uint64_t every = (uint64_t)r->srv->config->ping_ms;
    const uint64_t since =
        r->stream.started ? r->stream.last_data_ms : g->arrived_ns / 1000000;

    if (!g->stream || r->answered || now_ms < since + every || !begin(r))
        return;
    buf_str(stream_buf(r), ": ping\n\n");
    commit(r);
}
