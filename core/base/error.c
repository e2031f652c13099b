/*
 * error.c - status codes and their sentences.
 *
 * One table (INFER_STATUS_MAP in infer.h) makes the enum, the texts and, in
 * server/reply.c, the HTTP status, so that the three cannot drift apart.
 */
#include "core/base/error.h"

#include <stdarg.h>
#include <stdio.h>

const char *infer_status_text(int status)
{
    switch (status) {
    case INFER_OK:
        return "success";
#define X(name, value, text)                                                   \
    case INFER_##name:                                                         \
        return text;
        INFER_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

const char *infer_version(void)
{
    return "0.1.0";
}

int infer_fail(struct infer_error *err, int status, const char *fmt, ...)
{
    if (err) {
        va_list ap;

        err->status = status;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return status;
}
