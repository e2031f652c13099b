/*
 * histogram.h - counts of measurements by size, one writer, any reader.
 *
 * The counters are atomic and unordered: a scrape that meets a write may miss
 * its last measurement, and neither waits for the other.
 */
#ifndef SERVER_HISTOGRAM_H
#define SERVER_HISTOGRAM_H

#include "server/buf.h"

#include <stdatomic.h>
#include <stdint.h>

enum { HISTOGRAM_MAX = 20 };

struct histogram {
    const double *bounds; /* [n] upper bounds, ascending */
    size_t n;
    double unit;                                /* of sum: 1e-9 for seconds */
    _Atomic uint64_t counts[HISTOGRAM_MAX + 1]; /* the last: above all bounds */
    _Atomic uint64_t sum;
};

/* The two families of bounds in use. */
void histogram_init_seconds(struct histogram *h);
void histogram_init_rows(struct histogram *h);

void histogram_add(struct histogram *h, double v);

/* _bucket, _sum and _count lines; labels is "a=\"b\"" or "". */
void histogram_print(struct buf *out, const char *name, const char *labels,
                     const struct histogram *h);

#endif
