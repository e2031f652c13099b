/*
 * rows.c - see rows.h. A step chains the uses of each row together (an index by
 * row, four bytes each), then members take rows in fixed shares: the same bits
 * with any number of threads.
 */
#include "trainer/nn/rows.h"

#include "core/base/error.h"
#include "trainer/nn/layers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct nn_rows {
    uint32_t n, d;
    struct infer_team *team;
    const struct nn_layers *ops;
    float *data;     /* [n][d] */
    float *squares;  /* [n] sums of the mean squares of gradients */
    uint32_t *first; /* [n] use that begins the row's chain, + 1; 0: none */
    size_t bytes;    /* of the three, one mapping */

    uint32_t *next;    /* [cap] chains */
    uint32_t *touched; /* [n_touched] rows, in order of their first use */
    size_t cap, n_touched;

    /* the run in progress */
    const struct nn_row_use *uses;
    size_t n_uses, n_texts;
    float *y;
    const float *dy;
    float lr, decay;
    float *work; /* [threads][d] */
};

int nn_rows_create(struct nn_rows **out, uint32_t n, uint32_t d,
                   struct infer_team *team, struct infer_error *err)
{
    struct nn_rows *r = calloc(1, sizeof(*r));

    if (!r)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    *r = (struct nn_rows){.n = n, .d = d, .team = team, .ops = nn_layers()};
    r->bytes = (size_t)n * ((size_t)d + 2) * sizeof(float);
    r->work = calloc((size_t)infer_team_size(team) * d, sizeof(*r->work));
    r->data = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!r->work || r->data == MAP_FAILED) {
        r->data = r->data == MAP_FAILED ? NULL : r->data;
        nn_rows_free(r);
        return infer_fail(err, INFER_ENOMEM, "out of memory for %u n-gram rows",
                          n);
    }
    r->squares = r->data + (size_t)n * d;
    r->first = (uint32_t *)(void *)(r->squares + n);
    *out = r;
    return INFER_OK;
}

void nn_rows_free(struct nn_rows *r)
{
    if (!r)
        return;
    if (r->data)
        munmap(r->data, r->bytes);
    free(r->next);
    free(r->touched);
    free(r->work);
    free(r);
}

float *nn_rows_data(struct nn_rows *r)
{
    return r->data;
}

/* ---- into the vectors -------------------------------------------------------
 */

static void add_member(struct infer_member *me, void *arg)
{
    const struct nn_rows *r = arg;
    size_t t0, t1;

    infer_team_share(me, r->n_texts, 1, &t0, &t1);
    for (size_t i = 0; i < r->n_uses; i++) {
        const struct nn_row_use *u = &r->uses[i];

        if (u->text >= t0 && u->text < t1)
            r->ops->blend(r->y + (size_t)u->text * r->d, 1.0f,
                          r->data + (size_t)u->row * r->d, u->weight, r->d);
    }
}

void nn_rows_add(struct nn_rows *r, const struct nn_row_use *uses,
                 size_t n_uses, float *y, size_t n_texts)
{
    r->uses = uses;
    r->n_uses = n_uses;
    r->y = y;
    r->n_texts = n_texts;
    infer_team_run(r->team, add_member, r);
}

/* ---- and back ---------------------------------------------------------------
 */

static int reserve(struct nn_rows *r, size_t n, struct infer_error *err)
{
    uint32_t *next, *touched;

    if (n <= r->cap)
        return INFER_OK;
    next = realloc(r->next, n * 2 * sizeof(*next));
    if (next)
        r->next = next;
    touched = realloc(r->touched, n * 2 * sizeof(*touched));
    if (touched)
        r->touched = touched;
    if (!next || !touched)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    r->cap = n * 2;
    return INFER_OK;
}

/* Uses of a row, last first. */
static void chain(struct nn_rows *r)
{
    r->n_touched = 0;
    for (size_t i = 0; i < r->n_uses; i++) {
        const uint32_t row = r->uses[i].row;

        if (r->first[row] == 0)
            r->touched[r->n_touched++] = row;
        r->next[i] = r->first[row];
        r->first[row] = (uint32_t)i + 1;
    }
}

static void step_row(struct nn_rows *r, uint32_t row, float *g)
{
    float *p = r->data + (size_t)row * r->d;
    double mean;

    memset(g, 0, r->d * sizeof(*g));
    for (uint32_t i = r->first[row]; i; i = r->next[i - 1])
        r->ops->blend(g, 1.0f, r->dy + (size_t)r->uses[i - 1].text * r->d,
                      r->uses[i - 1].weight, r->d);
    r->first[row] = 0;
    mean = r->ops->sum_squares(g, r->d) / r->d;
    r->squares[row] += (float)mean;
    r->ops->blend(p, 1.0f - r->lr * r->decay, g,
                  -r->lr / (sqrtf(r->squares[row]) + 1e-12f), r->d);
}

static void step_member(struct infer_member *me, void *arg)
{
    struct nn_rows *r = arg;
    size_t begin, end;

    infer_team_share(me, r->n_touched, 1, &begin, &end);
    for (size_t i = begin; i < end; i++)
        step_row(r, r->touched[i], r->work + (size_t)me->id * r->d);
}

int nn_rows_step(struct nn_rows *r, const struct nn_row_use *uses,
                 size_t n_uses, const float *dy, float lr, float decay,
                 struct infer_error *err)
{
    const int status = reserve(r, n_uses, err);

    if (status)
        return status;
    r->uses = uses;
    r->n_uses = n_uses;
    r->dy = dy;
    r->lr = lr;
    r->decay = decay;
    chain(r);
    infer_team_run(r->team, step_member, r);
    return INFER_OK;
}
