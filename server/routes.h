/* routes.h - what each route does once its request has been read. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/params.h"
#include "server/server.h"

void route_generate(struct request *r);
void route_completions(struct request *r);
void route_chat(struct request *r);
void route_models(struct request *r);
void route_model(struct request *r);
void route_tokenize(struct request *r);
void route_detokenize(struct request *r);
void route_embeddings(struct request *r);
void route_classify(struct request *r);
void route_rerank(struct request *r);
void route_tei_embed(struct request *r);
void route_tei_predict(struct request *r);
void route_tei_rerank(struct request *r);
void route_tei_tokenize(struct request *r);
void route_tei_decode(struct request *r);
void route_tei_info(struct request *r);
void route_healthz(struct request *r);
void route_readyz(struct request *r);
void route_metrics(struct request *r);
void route_openapi(struct request *r);
void route_index(struct request *r);
void route_docs(struct request *r);
void route_web(struct request *r);

/* Can this model serve this route now? Otherwise r is answered. */
bool route_ready(struct request *r, const struct worker *w, unsigned tasks);

/* A route's own part: the request's fields into the job. `what` is of the
 * route: an api_shape, an encode_shape, a job_kind. false: *p says why not. */
typedef bool route_fields_fn(struct request *r, const cJSON *root, int what,
                             struct job *job, struct problem *p);

/* A route with a body: parse it, find the model, make a job of this kind for a
 * model of these tasks (TASK_BIT), and hand it over; or answer why not. */
void route_run(struct request *r, enum job_kind kind, unsigned tasks, int what,
               route_fields_fn *take);

#endif
