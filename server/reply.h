/* reply.h - answers: JSON, text, and the one table of errors. */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include "server/server.h"

/* Take over body and answer with it. */
void reply_buf(struct request *r, unsigned status, const char *type,
               struct buf *body);
void reply_json(struct request *r, struct buf *body); /* 200 */

/* Answer with text that lives as long as the program. */
void reply_static(struct request *r, const char *type, const char *text,
                  size_t len);

/* Answer with an error; param may be NULL; code NULL: the status's own. */
void reply_error(struct request *r, unsigned status, const char *param,
                 const char *code, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* The same with Retry-After (429, 503). */
void reply_retry(struct request *r, unsigned status, const char *code,
                 unsigned seconds, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* What the engine or a worker could not do, as HTTP has it. */
unsigned reply_status(int infer_status);
void reply_engine_error(struct request *r, const struct infer_error *err,
                        const char *param);

/* {"error":{...}} at the end of out; on the routes of TEI {"error",
 * "error_type"}. r NULL: of no route. */
void reply_error_body(struct buf *out, const struct request *r, unsigned status,
                      const char *param, const char *code, const char *message);

/* Row of a status in the table of metrics; the last row is "other". */
size_t reply_status_row(unsigned status);
unsigned reply_row_status(size_t row); /* 0: other, or no such row */

const char *reply_reason(unsigned status);
const char *reply_type(unsigned status); /* of an error, as its code */
const char *reply_code(unsigned status);

/* Give r->response to MHD; false: MHD refused, close the connection. */
bool reply_send(struct request *r);

#endif
