/*
 * hist.h - latency histogram of fixed size.
 *
 * A load test may see millions of tokens, so samples are not kept: they are
 * counted in buckets of 1/64 octave from 1 microsecond up. Percentiles are off
 * by at most 1.6 %; minimum, maximum and sum are exact.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

enum { BENCH_HIST_SUB = 64, BENCH_HIST_BUCKETS = 36 * BENCH_HIST_SUB };

struct bench_hist { /* zeroed: empty */
    uint64_t count;
    uint64_t sum_ns, min_ns, max_ns;
    uint64_t buckets[BENCH_HIST_BUCKETS];
};

void bench_hist_add(struct bench_hist *h, uint64_t ns);

/* Milliseconds below which share q (0..1) of the samples lie; 0 when empty. */
double bench_hist_ms(const struct bench_hist *h, double q);
double bench_hist_mean_ms(const struct bench_hist *h);
double bench_hist_max_ms(const struct bench_hist *h);

#endif
