/* admit.h - is there room for this job? Asked on the loop, answered at once. */
#ifndef SERVER_ADMIT_H
#define SERVER_ADMIT_H

#include "server/server.h"

/* Can this model take work now? Otherwise r is answered with a 503. */
bool admit_ready(struct request *r, const struct worker *w);

/* Count the job's prompts as waiting and say yes, or answer 503 or 413. */
bool admit_job(struct request *r, struct job *job);

/* A job of n sequences is over: the measure of speed behind Retry-After. */
void admit_finished(struct worker *w, uint32_t n_sequences);

#endif
