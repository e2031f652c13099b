/*
 * team.h - the thread team: one function run by every member, with barriers.
 *
 * Members run the same code on different shares (SPMD), so a forward pass
 * costs one wake-up per step and one barrier per phase. A waiting member spins
 * briefly, since a phase takes microseconds, then sleeps, since an idle server
 * must cost nothing.
 */
#ifndef INFER_BASE_TEAM_H
#define INFER_BASE_TEAM_H

#include "infer.h"

/* One member's view of the run in progress. */
struct infer_member {
    struct infer_team *team;
    int id;         /* 0 .. n-1; 0 is the caller of infer_team_run() */
    int n;          /* members */
    unsigned phase; /* barriers passed in this run */
};

typedef void infer_team_fn(struct infer_member *me, void *arg);

/* Run fn on every member and return when all are done. Callers on different
 * threads take turns. fn must not call infer_team_run(). */
void infer_team_run(struct infer_team *team, infer_team_fn *fn, void *arg);

/* Wait until every member is here; what they wrote before is visible after.
 * A barrier begins a new phase. */
void infer_team_barrier(struct infer_member *me);

/* The next `grain` of the indices 0 .. n-1 of this phase, each handed out once
 * to whoever asks: the first of them, or -1 when none is left. One loop a
 * phase. */
int64_t infer_team_take(struct infer_member *me, int64_t n, int64_t grain);

/* A fixed share instead: the indices [*begin, *end) of n, in whole units. */
static inline void infer_team_share(const struct infer_member *me, size_t n,
                                    size_t unit, size_t *begin, size_t *end)
{
    const size_t units = (n + unit - 1) / unit;
    const size_t b = units * (size_t)me->id / (size_t)me->n * unit;
    const size_t e = units * (size_t)(me->id + 1) / (size_t)me->n * unit;

    *begin = b < n ? b : n;
    *end = e < n ? e : n;
}

#endif
