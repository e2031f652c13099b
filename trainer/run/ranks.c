/*
 * ranks.c - see ranks.h.
 *
 * A bucket is summed in two exchanges: every rank gets everyone's piece of the
 * slice that it owns, adds them in the order of ranks, and everyone gets all
 * the sums: 2 (n-1)/n of the bucket sent by each, the least there is, and no
 * sum is made twice, so that no rank can round it otherwise.
 *
 * Waiting is polling: MPI's own would spin for as long as rank 0 writes a
 * checkpoint, and would not end when a rank has died.
 */
#include "trainer/run/ranks.h"

#include "core/base/error.h"
#include "trainer/nn/layers.h"
#include "trainer/run/mpi.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BUCKET = 1 << 20,       /* floats */
    SPIN_NS = 20 * 1000000, /* a bucket takes less; then poll ... */
    NAP_NS = 100 * 1000,    /* so often, */
    LOOK_NS = 50 * 1000000  /* and look so often whether all are alive */
};

/* Where a rank is. */
struct place {
    char host[64];
    uint64_t pid_space; /* two containers may have one name */
    int64_t pid;
    cpu_set_t processors;
};

/* How a rank fares. */
struct report {
    int status;
    char text[sizeof(((struct infer_error *)0)->text)];
};

struct train_ranks {
    struct train_mpi mpi;
    bool started; /* MPI is */
    bool broken;  /* and can no longer be talked to */
    int id, n, n_threads;
    struct place *places;   /* [n] */
    struct report *reports; /* [n] */
    float *pieces;          /* [BUCKET] of a bucket, by rank */
    uint64_t sum_ns;
};

int train_ranks_id(const struct train_ranks *r)
{
    return r->id;
}

int train_ranks_n(const struct train_ranks *r)
{
    return r->n;
}

int train_ranks_threads(const struct train_ranks *r)
{
    return r->n_threads;
}

bool train_ranks_lost(const struct train_ranks *r)
{
    return r->broken;
}

double train_ranks_sum_seconds(const struct train_ranks *r)
{
    return (double)r->sum_ns / 1e9;
}

/* ---- exchanges
 * ---------------------------------------------------------------
 */

static int broken(struct train_ranks *r, int code, struct infer_error *err)
{
    char text[8192] = "";
    int n = 0;

    r->broken = true;
    r->mpi.error_string(code, text, &n);
    return infer_fail(err, INFER_EIO, "rank %d lost the others: %.300s", r->id,
                      text);
}

static bool same_machine(const struct place *a, const struct place *b)
{
    return strcmp(a->host, b->host) == 0 && a->pid_space == b->pid_space;
}

/* Those of this machine; the launcher reaps the dead at once. */
static int look_around(struct train_ranks *r, struct infer_error *err)
{
    const struct place *me = &r->places[r->id];

    for (int i = 0; i < r->n; i++)
        if (r->places[i].pid && same_machine(me, &r->places[i]) &&
            me->pid != r->places[i].pid &&
            kill((pid_t)r->places[i].pid, 0) != 0 && errno == ESRCH) {
            r->broken = true;
            return infer_fail(err, INFER_EIO,
                              "rank %d (process %lld) has died; start the job "
                              "again with --resume to go on from the last "
                              "checkpoint",
                              i, (long long)r->places[i].pid);
        }
    return 0;
}

static int wait_for(struct train_ranks *r, uintptr_t *request,
                    struct infer_error *err)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    const uint64_t begun = infer_clock_ns();
    uint64_t looked = begun;
    int done = 0;

    for (;;) {
        const int code = r->mpi.test(request, &done, r->mpi.ignore);
        const uint64_t now = infer_clock_ns();

        if (code != 0)
            return broken(r, code, err);
        if (done)
            return 0;
        if (now - begun < SPIN_NS)
            sched_yield();
        else
            nanosleep(&nap, NULL);
        if (now - looked > LOOK_NS) {
            const int status = look_around(r, err);

            if (status != 0)
                return status;
            looked = now;
        }
    }
}

int train_ranks_gather(struct train_ranks *r, const void *mine, void *all,
                       size_t size, struct infer_error *err)
{
    const struct train_mpi *m = &r->mpi;
    uintptr_t request = 0;
    int code;

    if (r->n == 1) {
        memcpy(all, mine, size);
        return 0;
    }
    code = m->iallgather(mine, (int)size, m->byte, all, (int)size, m->byte,
                         m->world, &request);
    return code != 0 ? broken(r, code, err) : wait_for(r, &request, err);
}

/* pieces [n][size] = from every rank, its x[size * id ..] */
static int spread(struct train_ranks *r, const float *x, size_t size,
                  struct infer_error *err)
{
    const struct train_mpi *m = &r->mpi;
    const int bytes = (int)(size * sizeof(*x));
    uintptr_t request = 0;
    const int code = m->ialltoall(x, bytes, m->byte, r->pieces, bytes, m->byte,
                                  m->world, &request);

    return code != 0 ? broken(r, code, err) : wait_for(r, &request, err);
}

static void add_pieces(const struct train_ranks *r, size_t size)
{
    for (int i = 1; i < r->n; i++)
        nn_layers()->blend(r->pieces, 1.0f, r->pieces + (size_t)i * size, 1.0f,
                           size);
}

/* What no slice of equal size takes: fewer values than ranks. */
static int sum_rest(struct train_ranks *r, float *x, size_t n,
                    struct infer_error *err)
{
    const int status = train_ranks_gather(r, x, r->pieces, n * sizeof(*x), err);

    if (status != 0)
        return status;
    add_pieces(r, n);
    memcpy(x, r->pieces, n * sizeof(*x));
    return 0;
}

int train_ranks_sum(struct train_ranks *r, float *x, size_t n,
                    struct infer_error *err)
{
    const size_t ranks = (size_t)r->n, most = BUCKET / ranks;
    const uint64_t begun = infer_clock_ns();
    int status = 0;

    if (r->n == 1)
        return 0;
    while (n >= ranks && status == 0) {
        const size_t size = n / ranks < most ? n / ranks : most;

        status = spread(r, x, size, err);
        if (status != 0)
            break;
        add_pieces(r, size);
        status = train_ranks_gather(r, r->pieces, x, size * sizeof(*x), err);
        x += size * ranks;
        n -= size * ranks;
    }
    if (status == 0 && n > 0)
        status = sum_rest(r, x, n, err);
    r->sum_ns += infer_clock_ns() - begun;
    return status;
}

int train_ranks_agree(struct train_ranks *r, int status,
                      struct infer_error *err)
{
    struct report mine = {.status = status};

    if (r->n == 1 || r->broken)
        return status;
    if (status != 0)
        memcpy(mine.text, err->text, sizeof(mine.text));
    status = train_ranks_gather(r, &mine, r->reports, sizeof(mine), err);
    for (int i = 0; i < r->n && status == 0; i++)
        if (r->reports[i].status != 0)
            status =
                infer_fail(err, r->reports[i].status, "%s", r->reports[i].text);
    return status;
}

/* ---- begin and end
 * -----------------------------------------------------------
 */

static int cannot_start(const char *what, struct infer_error *err)
{
    return infer_fail(err, INFER_EIO, "cannot start MPI: %s failed", what);
}

static int start_mpi(struct train_ranks *r, int launched,
                     struct infer_error *err)
{
    struct train_mpi *m = &r->mpi;
    int got = 0, status = train_mpi_load(m, err);

    if (status != 0)
        return status;
    if (m->init_thread(NULL, NULL, TRAIN_MPI_FUNNELED, &got) != 0)
        return cannot_start("MPI_Init_thread", err);
    r->started = true;
    if (m->set_errhandler(m->world, m->errors_return) != 0 ||
        m->comm_rank(m->world, &r->id) != 0 ||
        m->comm_size(m->world, &r->n) != 0)
        return cannot_start("MPI_COMM_WORLD", err);
    if (launched > 1 && r->n != launched)
        return infer_fail(err, INFER_EIO,
                          "the launcher started %d processes, but the MPI "
                          "library sees %d: it is of another MPI than the "
                          "launcher",
                          launched, r->n);
    return 0;
}

static struct place here(void)
{
    struct place p;
    struct stat space;

    memset(&p, 0, sizeof(p)); /* it travels with its gaps */
    p.pid = getpid();
    gethostname(p.host, sizeof(p.host) - 1);
    if (stat("/proc/self/ns/pid", &space) == 0)
        p.pid_space = space.st_ino;
    sched_getaffinity(0, sizeof(p.processors), &p.processors);
    return p;
}

int train_ranks_here(const struct train_ranks *r)
{
    int n = 0;

    for (int i = 0; i < r->n; i++)
        n += same_machine(&r->places[r->id], &r->places[i]);
    return n;
}

static int threads_here(const struct train_ranks *r, const struct place *me)
{
    int sharing = 0, n;

    for (int i = 0; i < r->n; i++) {
        cpu_set_t both;

        CPU_AND(&both, &me->processors, &r->places[i].processors);
        sharing += same_machine(me, &r->places[i]) && CPU_COUNT(&both) > 0;
    }
    n = sharing ? CPU_COUNT(&me->processors) / sharing : 1;
    return n > 1 ? n : 1;
}

static int find_places(struct train_ranks *r, struct infer_error *err)
{
    const struct place me = here();
    int status;

    r->places = calloc((size_t)r->n, sizeof(*r->places));
    r->reports = calloc((size_t)r->n, sizeof(*r->reports));
    r->pieces = r->n > 1 ? malloc(BUCKET * sizeof(*r->pieces)) : NULL;
    if (!r->places || !r->reports || (r->n > 1 && !r->pieces))
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = train_ranks_gather(r, &me, r->places, sizeof(me), err);
    if (status != 0)
        return status;
    r->n_threads = threads_here(r, &me);
    for (int i = 0; i < r->n; i++) {
        const int theirs = threads_here(r, &r->places[i]);

        r->n_threads = theirs < r->n_threads ? theirs : r->n_threads;
    }
    return 0;
}

int train_ranks_open(struct train_ranks **ranks, struct infer_error *err)
{
    const int launched = train_mpi_launched();
    struct train_ranks *r = calloc(1, sizeof(*r));
    int status = 0;

    if (!r)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    r->n = 1;
    if (launched)
        status = start_mpi(r, launched, err);
    if (status == 0)
        status = find_places(r, err);
    if (status == 0) {
        *ranks = r;
        return 0;
    }
    r->broken = r->broken || r->n > 1;
    train_ranks_close(r);
    return status;
}

void train_ranks_close(struct train_ranks *r)
{
    if (!r)
        return;
    if (r->started && r->broken)
        r->mpi.abort(r->mpi.world, 1);
    else if (r->started)
        r->mpi.finalize();
    free(r->places);
    free(r->reports);
    free(r->pieces);
    free(r);
}
