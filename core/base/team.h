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

struct infer_team;

/* One member's view of the run in progress. */
struct infer_member {
    struct infer_team *team;
    int id; /* 0 .. n-1; 0 is the caller of infer_team_run() */
    int n;  /* members */
};

typedef void infer_team_fn(struct infer_member *me, void *arg);

/* Run fn on every member and return when all are done. Callers on different
 * threads take turns. fn must not call infer_team_run(). */
void infer_team_run(struct infer_team *team, infer_team_fn *fn, void *arg);

/* Wait until every member is here; what they wrote before is visible after. */
void infer_team_barrier(struct infer_member *me);

/*
 * Hand out the indices 0..n-1 of a phase in order, each once, to whoever asks.
 * infer_team_take() returns the first index of the next `grain` ones, or -1.
 * Every member calls infer_team_restart() in the same place; it contains a
 * barrier and rewinds the counter.
 */
int64_t infer_team_take(struct infer_member *me, int64_t n, int64_t grain);
void infer_team_restart(struct infer_member *me);

#endif
