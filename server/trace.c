/*
 * trace.c - W3C Trace Context: the header's text.
 *
 * Versions after 00 may have more behind the flags; what comes before means
 * the same for ever, so they are read like 00, as the standard asks. Of the
 * flags only "sampled" is known, and unknown ones must not be passed on.
 */
#include "server/trace.h"

#include <stdio.h>
#include <string.h>

/* n lower-case hexadecimal digits? */
static bool is_hex(const char *s, size_t n)
{
    return strspn(s, "0123456789abcdef") >= n;
}

static bool all_zero(const char *s, size_t n)
{
    return strspn(s, "0") >= n;
}

/* "vv-32 digits-16 digits-ff", and more only after version 00 */
static bool is_valid(const char *v)
{
    const size_t len = strlen(v);

    if (len < TRACEPARENT_LEN || v[2] != '-' || v[35] != '-' || v[52] != '-')
        return false;
    if (!is_hex(v, 2) || !is_hex(v + 3, 32) || !is_hex(v + 36, 16) ||
        !is_hex(v + 53, 2))
        return false;
    if (memcmp(v, "ff", 2) == 0 || all_zero(v + 3, 32) || all_zero(v + 36, 16))
        return false;
    if (memcmp(v, "00", 2) == 0)
        return len == TRACEPARENT_LEN;
    return len == TRACEPARENT_LEN || v[TRACEPARENT_LEN] == '-';
}

bool trace_parse(struct trace *t, const char *value)
{
    if (!is_valid(value))
        return false;
    snprintf(t->trace_id, sizeof(t->trace_id), "%.32s", value + 3);
    snprintf(t->parent_id, sizeof(t->parent_id), "%.16s", value + 36);
    t->sampled = strchr("13579bdf", value[54]) != NULL;
    return true;
}

void trace_header(const struct trace *t, char out[TRACEPARENT_LEN + 1])
{
    snprintf(out, TRACEPARENT_LEN + 1, "00-%.32s-%.16s-0%d", t->trace_id,
             t->span_id, t->sampled);
}
