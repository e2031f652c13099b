/* ema.c - a moving average of the parameters, beside them. */
#include "core/base/error.h"
#include "trainer/nn/layers.h"
#include "trainer/nn/optim.h"

#include <stdlib.h>
#include <string.h>

struct ema {
    struct net *net;
    const struct nn_layers *ops;
    float *values; /* [net_n_values()] */
    float decay;
    uint64_t n_updates;
};

int ema_create(struct ema **out, struct net *net, float decay,
               struct infer_error *err)
{
    const size_t n = net_n_values(net);
    struct ema *e = NULL;

    if (!(decay >= 0.0f && decay < 1.0f))
        return infer_fail(err, INFER_EINVAL,
                          "the average's decay is %g, not in 0..1",
                          (double)decay);
    e = calloc(1, sizeof(*e));
    if (!e)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    *e = (struct ema){.net = net,
                      .ops = nn_layers(),
                      .values = malloc(n * sizeof(*e->values)),
                      .decay = decay};
    if (!e->values) {
        ema_free(e);
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    ema_restart(e);
    *out = e;
    return INFER_OK;
}

void ema_free(struct ema *e)
{
    if (!e)
        return;
    free(e->values);
    free(e);
}

void ema_restart(struct ema *e)
{
    memcpy(e->values, net_params(e->net),
           net_n_values(e->net) * sizeof(*e->values));
    e->n_updates = 0;
}

static void update_member(struct infer_member *me, void *arg)
{
    struct ema *e = arg;
    const float early =
        (float)((1.0 + (double)e->n_updates) / (10.0 + (double)e->n_updates));
    const float keep = early < e->decay ? early : e->decay;
    size_t begin, end;

    infer_team_share(me, net_n_values(e->net), 16, &begin, &end);
    e->ops->blend(e->values + begin, keep, net_params(e->net) + begin,
                  1.0f - keep, end - begin);
}

void ema_update(struct ema *e)
{
    infer_team_run(net_team(e->net), update_member, e);
    e->n_updates++;
}

void ema_swap(struct ema *e)
{
    float *p = net_params(e->net);
    const size_t n = net_n_values(e->net);

    for (size_t i = 0; i < n; i++) {
        const float v = p[i];

        p[i] = e->values[i];
        e->values[i] = v;
    }
}

float *ema_values(struct ema *e)
{
    return e->values;
}

uint64_t ema_n_updates(const struct ema *e)
{
    return e->n_updates;
}

void ema_set_n_updates(struct ema *e, uint64_t n)
{
    e->n_updates = n;
}
