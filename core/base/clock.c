/* clock.c - the one clock of deadlines and durations: monotonic, in ns. */
#include "infer.h"

#include <time.h>

uint64_t infer_clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
