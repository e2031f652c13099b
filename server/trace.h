/*
 * trace.h - W3C Trace Context: which trace a request belongs to.
 *
 *   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *               version     trace id                   parent id      flags
 *
 * https://www.w3.org/TR/trace-context/
 */
#ifndef SERVER_TRACE_H
#define SERVER_TRACE_H

#include <stdbool.h>

enum { TRACEPARENT_LEN = 55 };

struct trace {
    char trace_id[33];  /* the client's, or a new one; empty: none yet */
    char span_id[17];   /* this request's own */
    char parent_id[17]; /* the client's span, or empty */
    bool sampled;       /* the client keeps this trace */
};

/* Take trace id, parent and flag from a header's value. false: it is not a
 * valid traceparent, and t is as it was. */
bool trace_parse(struct trace *t, const char *value);

/* What tells another that this request was its parent. */
void trace_header(const struct trace *t, char out[TRACEPARENT_LEN + 1]);

#endif
