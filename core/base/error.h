/* error.h - how a failing function explains itself. */
#ifndef INFER_BASE_ERROR_H
#define INFER_BASE_ERROR_H

#include "infer.h"

/* Fill err (may be NULL) and return status, so that a check fits one line. */
int infer_fail(struct infer_error *err, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
