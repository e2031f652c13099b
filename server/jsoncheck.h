/* jsoncheck.h - is this text strictly JSON? Asked before cJSON sees it. */
#ifndef SERVER_JSONCHECK_H
#define SERVER_JSONCHECK_H

#include "infer.h"

enum {
    JSON_MAX_DEPTH = 64,      /* arrays and objects inside one another */
    JSON_MAX_VALUES = 1 << 18 /* cJSON takes 64 bytes and an allocation each */
};

/*
 * RFC 8259, and beyond it: one value and nothing after it, no duplicate keys,
 * no \u0000, no lone surrogates, UTF-8 only, bounded depth and count.
 *
 * Cost    one pass, O(k log k) for the k keys of an object
 * Errors  EINVAL ("byte 17: ..."), ENOMEM
 */
int json_check(const char *text, size_t len, struct infer_error *err);

#endif
