/* tokenjob.h - /v1/tokenize and /v1/detokenize, on the worker's thread. */
#ifndef SERVER_TOKENJOB_H
#define SERVER_TOKENJOB_H

#include "server/job.h"

/* Fill body with the JSON reply. Errors as the engine has them. */
int tokenize_job(const struct infer_model *m, struct job *job, struct buf *body,
                 struct infer_error *err);
/* The same in text-embeddings-inference's shapes, of job->enc.inputs. */
int tei_tokenize_job(const struct infer_model *m, struct job *job,
                     struct buf *body, struct infer_error *err);
int tei_decode_job(const struct infer_model *m, struct job *job,
                   struct buf *body, struct infer_error *err);
int detokenize_job(const struct infer_model *m, struct job *job,
                   struct buf *body, struct infer_error *err);

#endif
