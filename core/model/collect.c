/*
 * collect.c - sums of squares of what the matrices multiply.
 *
 * Every member has sums of its own, so that no two write to one place; they are
 * added up when asked for. A member's sums, layer by layer:
 *
 *   D  q k v | H K  output | D  up, gate | F  down | ... | D  head
 */
#include "core/base/error.h"
#include "core/model/forward_parts.h"

#include <stdlib.h>
#include <string.h>

size_t infer_site_width(const struct infer_model *m, enum infer_site site)
{
    switch (site) {
    case INFER_SITE_OUT:
        return (size_t)m->hp.n_heads * m->hp.d_head;
    case INFER_SITE_DOWN:
        return m->hp.d_ff;
    case INFER_SITE_QKV:
    case INFER_SITE_UP:
    case INFER_SITE_HEAD:
        break;
    }
    return m->hp.d_model;
}

size_t infer_tap(const struct infer_model *m, enum infer_site site,
                 uint32_t layer)
{
    size_t at = 0, all = 0;

    for (int s = INFER_SITE_QKV; s < INFER_SITE_HEAD; s++) {
        const size_t width = infer_site_width(m, (enum infer_site)s);

        at += s < (int)site ? width : 0;
        all += width;
    }
    return site == INFER_SITE_HEAD ? all * m->hp.n_layers : all * layer + at;
}

static size_t n_values(const struct infer_model *m)
{
    return infer_tap(m, INFER_SITE_HEAD, 0) +
           infer_site_width(m, INFER_SITE_HEAD);
}

void infer_tap_add(double *squares, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        squares[i] += (double)x[i] * (double)x[i];
}

int infer_forward_collect(struct infer_forward *f, struct infer_error *err)
{
    const size_t n = n_values(f->m);
    const int n_members = infer_team_size(f->team);

    free(f->squares);
    f->squares = calloc(n * (size_t)n_members, sizeof(*f->squares));
    if (!f->squares)
        return infer_fail(err, INFER_ENOMEM, "out of memory for %zu sums", n);
    for (int i = 0; i < n_members; i++)
        f->scratch[i].squares = f->squares + n * (size_t)i;
    f->n_rows_all = f->n_out_all = 0;
    return 0;
}

uint64_t infer_forward_collected(const struct infer_forward *f,
                                 enum infer_site site, uint32_t layer,
                                 double *sums)
{
    const size_t width = infer_site_width(f->m, site);
    const size_t at = infer_tap(f->m, site, layer);

    memset(sums, 0, width * sizeof(*sums));
    for (int i = 0; i < infer_team_size(f->team); i++)
        for (size_t k = 0; k < width; k++)
            sums[k] += f->scratch[i].squares[at + k];
    return site == INFER_SITE_HEAD ? f->n_out_all : f->n_rows_all;
}
