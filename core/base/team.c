/*
 * team.c - compute threads that start together, meet at barriers, and sleep.
 *
 * A phase of a small model takes 5 to 50 microseconds, a futex wake-up as
 * long, so waiting members spin first. How long is learned: a wait that ends
 * while spinning earns the member more, one that does not halves it. On a quiet
 * machine waits soon spin for SPIN_MAX (about 50 microseconds); where other
 * processes hold the processors, or two members share one, spinning only keeps
 * the awaited member from running, and they sleep almost at once, which also
 * lets the scheduler move them apart. With more members than processors nobody
 * spins.
 *
 * The word a waiter watches changes before the waker looks for sleepers, and a
 * sleeper counts itself before it looks at the word (both sequentially
 * consistent), so no wake-up is lost; the mutex is only for those who sleep.
 */
#include "core/base/team.h"

#include "core/base/error.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SPIN_MIN = 30, /* pauses */
    SPIN_MAX = 2000,
    SPIN_STEP = 100,
    MAX_THREADS = 256,
    LINE = 64,
    COUNTERS = 3
};

/* A counter that threads wait on for a change; alone on its cache line. */
struct event {
    _Alignas(LINE) atomic_uint value;
};

struct infer_team {
    int n, nice;
    bool spins;              /* there is a processor for each member */
    pthread_mutex_t callers; /* held by the running caller */

    struct event run;     /* bumped to start a run */
    struct event barrier; /* bumped when all have arrived */
    _Alignas(LINE) atomic_int arrived;
    /* indices handed out: phase p uses counter p % 3, and who enters p clears
     * that of p + 1, which nobody has used since p - 2 */
    struct {
        _Alignas(LINE) atomic_llong next;
    } take[COUNTERS];
    atomic_bool stop;
    infer_team_fn *fn; /* of the run; written before `run` is bumped */
    void *arg;

    pthread_mutex_t lock; /* of the sleepers */
    pthread_cond_t wake;
    atomic_int n_sleepers;

    struct seat {
        _Alignas(LINE) pthread_t thread; /* of a helper */
        struct infer_team *team;
        int id;
        int patience; /* pauses before it sleeps; its own to change */
    } * seats;        /* [n]; the caller of a run sits on the first */
    int n_started;    /* helpers */
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void event_bump(struct infer_team *t, struct event *e)
{
    atomic_fetch_add(&e->value, 1);
    if (atomic_load(&t->n_sleepers) == 0)
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

/* Spin until e changes; false: patience ran out. */
static bool event_spin(const struct infer_team *t, struct event *e,
                       unsigned old, int *patience)
{
    for (int i = 0; t->spins && i < *patience; i++) {
        if (atomic_load_explicit(&e->value, memory_order_acquire) != old) {
            if (*patience < SPIN_MAX)
                *patience += SPIN_STEP;
            return true;
        }
        pause_cpu();
    }
    *patience = *patience / 2 > SPIN_MIN ? *patience / 2 : SPIN_MIN;
    return false;
}

static void event_wait(struct infer_team *t, struct event *e, unsigned old,
                       int *patience)
{
    if (event_spin(t, e, old, patience))
        return;
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->n_sleepers, 1);
    while (atomic_load(&e->value) == old)
        pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->n_sleepers, 1);
    pthread_mutex_unlock(&t->lock);
}

void infer_team_barrier(struct infer_member *me)
{
    struct infer_team *t = me->team;
    const unsigned old =
        atomic_load_explicit(&t->barrier.value, memory_order_relaxed);

    me->phase++;
    if (me->id == 0)
        atomic_store_explicit(&t->take[(me->phase + 1) % COUNTERS].next, 0,
                              memory_order_relaxed);
    if (t->n == 1)
        return;
    if (atomic_fetch_add(&t->arrived, 1) == t->n - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        event_bump(t, &t->barrier);
    } else {
        event_wait(t, &t->barrier, old, &t->seats[me->id].patience);
    }
}

int64_t infer_team_take(struct infer_member *me, int64_t n, int64_t grain)
{
    const long long i =
        atomic_fetch_add_explicit(&me->team->take[me->phase % COUNTERS].next,
                                  grain, memory_order_relaxed);

    return i < n ? i : -1;
}

static void *helper_main(void *arg)
{
    struct seat *seat = arg;
    struct infer_team *t = seat->team;
    unsigned seen = 0;

    infer_team_enter(t);
    for (;;) {
        struct infer_member me = {.team = t, .id = seat->id, .n = t->n};

        event_wait(t, &t->run, seen, &seat->patience);
        seen++;
        if (atomic_load(&t->stop))
            return NULL;
        t->fn(&me, t->arg);
        infer_team_barrier(&me);
    }
}

void infer_team_run(struct infer_team *t, infer_team_fn *fn, void *arg)
{
    struct infer_member me = {.team = t, .id = 0, .n = t->n};

    pthread_mutex_lock(&t->callers);
    for (int i = 0; i < COUNTERS; i++)
        atomic_store_explicit(&t->take[i].next, 0, memory_order_relaxed);
    t->fn = fn;
    t->arg = arg;
    if (t->n > 1)
        event_bump(t, &t->run);
    fn(&me, arg);
    infer_team_barrier(&me);
    pthread_mutex_unlock(&t->callers);
}

static int processors(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}

int infer_team_create(struct infer_team **team, int n_threads, int nice_by,
                      struct infer_error *err)
{
    struct infer_team *t = NULL;

    if (n_threads < 0 || n_threads > MAX_THREADS)
        return infer_fail(err, INFER_EINVAL,
                          "number of threads %d is not in 0..%d", n_threads,
                          MAX_THREADS);
    if (nice_by < 0 || nice_by > 19)
        return infer_fail(err, INFER_EINVAL, "niceness %d is not in 0..19",
                          nice_by);
    t = aligned_alloc(LINE, (sizeof(*t) + LINE - 1) / LINE * LINE);
    if (!t)
        return infer_fail(err, INFER_ENOMEM, "out of memory for threads");
    *t = (struct infer_team){.n = n_threads ? n_threads : processors(),
                             .nice = nice_by};
    t->spins = t->n <= processors();
    pthread_mutex_init(&t->callers, NULL);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    t->seats = aligned_alloc(LINE, (size_t)t->n * sizeof(*t->seats));
    if (!t->seats)
        goto fail;
    for (int i = 0; i < t->n; i++) {
        t->seats[i] = (struct seat){.team = t, .id = i, .patience = SPIN_MAX};
        if (i == 0)
            continue;
        if (pthread_create(&t->seats[i].thread, NULL, helper_main,
                           &t->seats[i]))
            goto fail;
        t->n_started++;
    }
    *team = t;
    return INFER_OK;
fail:
    infer_team_free(t);
    return infer_fail(err, INFER_ENOMEM, "cannot start %d threads", n_threads);
}

void infer_team_enter(const struct infer_team *t)
{
    if (t->nice > 0) /* a thread's own niceness, on Linux */
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), t->nice);
}

int infer_team_size(const struct infer_team *t)
{
    return t->n;
}

void infer_team_free(struct infer_team *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    event_bump(t, &t->run);
    for (int i = 1; i <= t->n_started; i++)
        pthread_join(t->seats[i].thread, NULL);
    pthread_mutex_destroy(&t->callers);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    free(t->seats);
    free(t);
}
