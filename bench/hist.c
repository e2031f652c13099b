/* hist.c - see hist.h. */
#include "bench/hist.h"

#include <stddef.h>

/* Microseconds below 64 have a bucket each; above, the six bits behind the
 * leading one choose among 64 per octave. */
static size_t bucket_of(uint64_t us)
{
    unsigned shift;
    size_t i;

    if (us < BENCH_HIST_SUB)
        return (size_t)us;
    shift = 63u - (unsigned)__builtin_clzll(us) - 6u;
    i = (size_t)(shift + 1) * BENCH_HIST_SUB + (us >> shift) - BENCH_HIST_SUB;
    return i < BENCH_HIST_BUCKETS ? i : BENCH_HIST_BUCKETS - 1;
}

/* Middle of bucket i, microseconds. */
static double bucket_us(size_t i)
{
    const size_t octave = i / BENCH_HIST_SUB;

    if (octave == 0)
        return (double)i + 0.5;
    return ((double)(i % BENCH_HIST_SUB + BENCH_HIST_SUB) + 0.5) *
           (double)(1ull << (octave - 1));
}

void bench_hist_add(struct bench_hist *h, uint64_t ns)
{
    h->min_ns = h->count == 0 || ns < h->min_ns ? ns : h->min_ns;
    h->max_ns = ns > h->max_ns ? ns : h->max_ns;
    h->sum_ns += ns;
    h->count++;
    h->buckets[bucket_of(ns / 1000)]++;
}

double bench_hist_ms(const struct bench_hist *h, double q)
{
    const double want = q * (double)h->count;
    double ms = bench_hist_max_ms(h);
    uint64_t seen = 0;

    for (size_t i = 0; i < BENCH_HIST_BUCKETS && h->count > 0; i++) {
        seen += h->buckets[i];
        if ((double)seen >= want && seen > 0) {
            ms = bucket_us(i) / 1e3;
            break;
        }
    }
    return ms < bench_hist_max_ms(h) ? ms : bench_hist_max_ms(h);
}

double bench_hist_mean_ms(const struct bench_hist *h)
{
    return h->count ? (double)h->sum_ns / (double)h->count / 1e6 : 0.0;
}

double bench_hist_max_ms(const struct bench_hist *h)
{
    return (double)h->max_ns / 1e6;
}
