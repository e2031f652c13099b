/* memory.c - see memory.h. */
#include "bench/memory.h"

#include "infer.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PASSES = 4 };

typedef uint64_t vec __attribute__((vector_size(16)));

/* What the readers of one measurement share. */
struct readers {
    pthread_mutex_t gate; /* held until all that can start have started */
    pthread_barrier_t barrier;
};

struct reader {
    pthread_t thread;
    struct readers *all;
    const vec *data; /* [n], this thread's share */
    size_t n;        /* a multiple of 8 */
    uint64_t pass_ns[PASSES];
    uint64_t sum; /* so that the reads are not optimized away */
};

/* Four sums: the adds of one would be the limit. */
static uint64_t read_all(const vec *p, size_t n)
{
    vec a = {0}, b = {0}, c = {0}, d = {0};

    for (size_t i = 0; i < n; i += 8) {
        a += p[i] ^ p[i + 1];
        b += p[i + 2] ^ p[i + 3];
        c += p[i + 4] ^ p[i + 5];
        d += p[i + 6] ^ p[i + 7];
    }
    a += b + c + d;
    return a[0] + a[1];
}

/* A pass is as slow as its slowest thread: the second barrier ends it. */
static void run_passes(struct reader *r)
{
    for (int i = 0; i < PASSES; i++) {
        uint64_t start;

        pthread_barrier_wait(&r->all->barrier);
        start = infer_clock_ns();
        r->sum += read_all(r->data, r->n);
        pthread_barrier_wait(&r->all->barrier);
        r->pass_ns[i] = infer_clock_ns() - start;
    }
}

static void *run_reader(void *arg)
{
    struct reader *r = arg;

    pthread_mutex_lock(&r->all->gate);
    pthread_mutex_unlock(&r->all->gate);
    run_passes(r);
    return NULL;
}

static double best_of(const struct reader *r, size_t bytes)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < PASSES; i++)
        best = r->pass_ns[i] < best ? r->pass_ns[i] : best;
    return (double)bytes / (double)best;
}

/* The caller is the first reader. The gate lets the barrier count those that
 * started, so that a thread that cannot start leaves nobody waiting. */
static double run_readers(struct reader *readers, uint32_t n, size_t bytes)
{
    struct readers *all = readers[0].all;
    uint32_t started = 1;
    bool ok;

    pthread_mutex_lock(&all->gate);
    while (started < n && pthread_create(&readers[started].thread, NULL,
                                         run_reader, &readers[started]) == 0)
        started++;
    ok = pthread_barrier_init(&all->barrier, NULL, started) == 0;
    assert(ok); /* it can only fail for a count of 0 */
    (void)ok;
    pthread_mutex_unlock(&all->gate);
    run_passes(&readers[0]);
    for (uint32_t i = 1; i < started; i++)
        pthread_join(readers[i].thread, NULL);
    pthread_barrier_destroy(&all->barrier);
    return started == n ? best_of(&readers[0], bytes) : 0;
}

double bench_memory_read(uint32_t n_threads)
{
    const uint32_t n = n_threads < BENCH_MEMORY_THREADS_MAX
                           ? n_threads
                           : BENCH_MEMORY_THREADS_MAX;
    const size_t bytes = (size_t)BENCH_MEMORY_MIB << 20;
    const size_t share = bytes / n / sizeof(vec) / 8 * 8;
    struct reader *readers = calloc(n, sizeof(*readers));
    struct readers all;
    double speed = 0;
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (data == MAP_FAILED || readers == NULL)
        goto out;
    madvise(data, bytes, MADV_HUGEPAGE); /* a hint; it may fail */
    memset(data, 1, bytes); /* unwritten pages are all the same page of zeros */
    pthread_mutex_init(&all.gate, NULL);
    for (uint32_t i = 0; i < n; i++) {
        readers[i].data = (const vec *)data + i * share;
        readers[i].n = share;
        readers[i].all = &all;
    }
    speed = run_readers(readers, n, n * share * sizeof(vec));
    pthread_mutex_destroy(&all.gate);
out:
    if (data != MAP_FAILED)
        munmap(data, bytes);
    free(readers);
    return speed;
}
