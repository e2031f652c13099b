/*
 * test_team.c - the thread team: every index once, nobody early, callers in
 * turn.
 *
 * Runs are short and many, so that members meet while others still leave the
 * barrier before, and with more members than processors, so that they sleep.
 */
#include "core/base/team.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_ITEMS = 1000, N_PHASES = 20, N_RUNS = 300, N_CALLERS = 3 };

struct work {
    atomic_int taken[N_ITEMS];
    int shared[N_ITEMS]; /* written by one member, read by another */
    atomic_int wrong;
};

/* Phases alternate: write what was taken, then check what others wrote. */
static void phases(struct infer_member *me, void *arg)
{
    struct work *w = arg;

    for (int phase = 1; phase <= N_PHASES; phase++) {
        const int64_t grain = phase % 7 + 1;
        size_t begin, end;

        for (int64_t i = infer_team_take(me, N_ITEMS, grain); i >= 0;
             i = infer_team_take(me, N_ITEMS, grain))
            for (int64_t j = i; j < i + grain && j < N_ITEMS; j++) {
                atomic_fetch_add(&w->taken[j], 1);
                w->shared[j] = phase;
            }
        infer_team_barrier(me);
        infer_team_share(me, N_ITEMS, 3, &begin, &end);
        for (size_t j = begin; j < end; j++)
            if (w->shared[j] != phase || atomic_load(&w->taken[j]) != phase)
                atomic_fetch_add(&w->wrong, 1);
        infer_team_barrier(me);
    }
}

static void check_team(int n, int runs)
{
    struct infer_team *team;

    assert_int_equal(infer_team_create(&team, n, 0, NULL), 0);
    assert_true(n == 0 || infer_team_size(team) == n);
    for (int i = 0; i < runs; i++) {
        static struct work w;

        memset(&w, 0, sizeof(w));
        infer_team_run(team, phases, &w);
        assert_int_equal(atomic_load(&w.wrong), 0);
        for (int j = 0; j < N_ITEMS; j++)
            assert_int_equal(atomic_load(&w.taken[j]), N_PHASES);
    }
    infer_team_free(team);
}

static void test_sizes(void **state)
{
    static const int sizes[] = {0, 1, 2, 3, 8};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        check_team(sizes[i], sizes[i] > 2 ? 5 : 20);
}

static void test_shares(void **state)
{
    (void)state;
    for (int n = 1; n <= 7; n++)
        for (size_t total = 0; total <= 50; total++)
            for (size_t unit = 1; unit <= 5; unit++) {
                size_t at = 0;

                for (int id = 0; id < n; id++) {
                    const struct infer_member me = {.id = id, .n = n};
                    size_t begin, end;

                    infer_team_share(&me, total, unit, &begin, &end);
                    assert_int_equal(begin, at);
                    assert_true(begin % unit == 0 || begin == total);
                    at = end;
                }
                assert_int_equal(at, total);
            }
}

struct caller {
    struct infer_team *team;
    int *inside; /* not atomic: only one caller may be in a run */
    pthread_t thread;
};

static void count(struct infer_member *me, void *arg)
{
    if (me->id == 0)
        ++*(int *)arg;
}

static void *call(void *arg)
{
    struct caller *c = arg;

    for (int i = 0; i < N_RUNS; i++)
        infer_team_run(c->team, count, c->inside);
    return NULL;
}

static void test_callers(void **state)
{
    struct caller callers[N_CALLERS];
    struct infer_team *team;
    int runs = 0;

    (void)state;
    assert_int_equal(infer_team_create(&team, 2, 0, NULL), 0);
    for (int i = 0; i < N_CALLERS; i++) {
        callers[i] = (struct caller){.team = team, .inside = &runs};
        assert_int_equal(
            pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < N_CALLERS; i++)
        pthread_join(callers[i].thread, NULL);
    assert_int_equal(runs, N_CALLERS * N_RUNS);
    infer_team_free(team);
}

static void test_arguments(void **state)
{
    struct infer_error err = {0};
    struct infer_team *team = NULL;

    (void)state;
    assert_int_equal(infer_team_create(&team, -1, 0, &err), INFER_EINVAL);
    assert_non_null(strstr(err.text, "-1"));
    assert_int_equal(infer_team_create(&team, 257, 0, &err), INFER_EINVAL);
    assert_int_equal(infer_team_create(&team, 1, 20, &err), INFER_EINVAL);
    assert_null(team);
    infer_team_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes), cmocka_unit_test(test_shares),
        cmocka_unit_test(test_callers), cmocka_unit_test(test_arguments)};

    return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
