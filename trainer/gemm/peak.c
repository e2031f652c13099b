/*
 * peak.c - measure the limit instead of believing a table of clocks: virtual
 * machines hide the clock, and it moves with the instructions in use.
 */
#include "trainer/gemm/peak.h"

#include <stdatomic.h>

static const uint64_t try_ns = 6000000;
enum { TRIES = 5 };

struct probe {
    train_peak_fn *fn;
    uint64_t end_ns;
    atomic_llong calls;
    _Atomic double ops; /* of one call */
};

static train_peak_fn *choose(enum train_precision precision)
{
#if defined(__x86_64__)
    const unsigned cpu = infer_cpu_detect();

#if !defined(INFER_NO_AMX)
    if (precision == TRAIN_BF16 && (cpu & INFER_CPU_AMXBF16))
        return train_peak_amx;
#endif
    if (precision == TRAIN_BF16 && (cpu & INFER_CPU_AVX512BF16))
        return train_peak_avx512bf16;
    if (cpu & INFER_CPU_AVX512VNNI)
        return train_peak_avx512;
    if (cpu & INFER_CPU_AVX2)
        return train_peak_avx2;
#else
    (void)precision;
#endif
    return NULL;
}

static void run_probe(struct infer_member *me, void *arg)
{
    struct probe *p = arg;
    long long calls = 0;

    (void)me;
    while (infer_clock_ns() < p->end_ns) {
        p->ops = p->fn();
        calls++;
    }
    p->calls += calls;
}

double train_peak(struct infer_team *team, enum train_precision precision)
{
    struct probe p = {.fn = choose(precision)};
    double best = 0.0;

    for (int i = 0; p.fn && i < TRIES; i++) {
        const uint64_t start = infer_clock_ns();

        p.end_ns = start + try_ns;
        p.calls = 0;
        infer_team_run(team, run_probe, &p);
        const double seconds = (double)(infer_clock_ns() - start) * 1e-9;
        const double rate = (double)p.calls * p.ops / seconds;

        best = rate > best ? rate : best;
    }
    return best;
}

enum train_precision train_precision_best(struct infer_team *team)
{
    if (choose(TRAIN_BF16) == choose(TRAIN_F32))
        return TRAIN_F32;
    return train_peak(team, TRAIN_BF16) > train_peak(team, TRAIN_F32)
               ? TRAIN_BF16
               : TRAIN_F32;
}
