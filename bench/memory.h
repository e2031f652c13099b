/*
 * memory.h - how fast this machine reads memory right now.
 *
 * Generation from a model larger than the caches can be no faster than its
 * weights are read, and on virtual machines that limit itself moves from minute
 * to minute: a figure means little without the limit measured beside it.
 */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include <stdint.h>

enum { BENCH_MEMORY_MIB = 512, BENCH_MEMORY_THREADS_MAX = 64 };

/* Best of a few passes of n_threads (at most 64) over 512 MiB, in GB/s (1e9
 * bytes); 0: no memory or no threads. */
double bench_memory_read(uint32_t n_threads);

#endif
