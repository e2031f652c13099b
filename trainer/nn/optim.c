/*
 * optim.c - SGD, Adam, AdamW and Muon over a net's flat arrays.
 *
 * A step is one run of the team: the gradient's length first, in fixed shares
 * added in order, so that the same thread count gives the same bits; then each
 * tensor in fixed shares. State is one array: momentum for every value, then
 * Adam's second moments for the tensors that have them.
 */
#include "trainer/nn/optim.h"

#include "core/base/error.h"
#include "trainer/nn/layers.h"
#include "trainer/nn/muon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_THREADS = 256, SHARE = 4096 };

struct optim {
    struct net *net;
    struct optim_config config;
    const struct nn_layers *ops;
    const struct net_param *table; /* [n_table] */
    size_t n_table;
    size_t *second; /* [n_table] place of the second moments in state */
    float *state;   /* [n_state] */
    size_t n_state;
    uint64_t n_steps;
    struct muon_work *muon; /* NULL: another kind */

    float lr_scale; /* of the step in progress */
    double squares[MAX_THREADS], length;
};

struct optim_config optim_default(enum optim_kind kind)
{
    struct optim_config c = {.kind = kind,
                             .lr = 1e-3f,
                             .other_lr = 3e-3f,
                             .momentum = 0.9f,
                             .beta1 = 0.9f,
                             .beta2 = 0.95f,
                             .eps = 1e-8f,
                             .clip = 1.0f};

    if (kind == OPTIM_SGD)
        c.lr = 0.1f;
    if (kind == OPTIM_ADAM)
        c.beta2 = 0.999f;
    if (kind == OPTIM_ADAMW)
        c.weight_decay = 0.1f;
    if (kind == OPTIM_MUON) {
        c.lr = 0.02f;
        c.momentum = 0.95f;
        c.weight_decay = 0.01f;
    }
    return c;
}

int optim_parse(const char *text, enum optim_kind *kind,
                struct infer_error *err)
{
    static const char *const names[] = {"sgd", "adam", "adamw", "muon"};

    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *kind = (enum optim_kind)i;
            return INFER_OK;
        }
    return infer_fail(err, INFER_EINVAL,
                      "unknown optimizer '%s': use sgd, adam, adamw or muon",
                      text);
}

int optim_check(const struct optim_config *c, struct infer_error *err)
{
    const struct {
        const char *what;
        float v, min, below;
    } ranges[] = {{"learning rate", c->lr, 0.0f, 1e3f},
                  {"learning rate of vectors", c->other_lr, 0.0f, 1e3f},
                  {"momentum", c->momentum, 0.0f, 1.0f},
                  {"beta1", c->beta1, 0.0f, 1.0f},
                  {"beta2", c->beta2, 0.0f, 1.0f},
                  {"epsilon", c->eps, 1e-30f, 1.0f},
                  {"weight decay", c->weight_decay, 0.0f, 1e3f},
                  {"clip", c->clip, 0.0f, 1e30f}};

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (!(ranges[i].v >= ranges[i].min && ranges[i].v < ranges[i].below))
            return infer_fail(err, INFER_EINVAL, "%s is %g, not in %g..%g",
                              ranges[i].what, (double)ranges[i].v,
                              (double)ranges[i].min, (double)ranges[i].below);
    return INFER_OK;
}

/* Adam moves it, not SGD or Muon. */
static bool has_second(const struct optim *o, const struct net_param *p)
{
    return o->config.kind != OPTIM_SGD &&
           !(o->config.kind == OPTIM_MUON && p->kind == NET_MATRIX);
}

static int reserve(struct optim *o, struct infer_error *err)
{
    o->second = calloc(o->n_table, sizeof(*o->second));
    if (!o->second)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    o->n_state = net_n_values(o->net);
    for (size_t i = 0; i < o->n_table; i++) {
        o->second[i] = o->n_state;
        if (has_second(o, &o->table[i]))
            o->n_state += (o->table[i].n + 15) / 16 * 16;
    }
    o->state = mmap(NULL, o->n_state * sizeof(*o->state),
                    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (o->state == MAP_FAILED) {
        o->state = NULL;
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for an optimizer of %zu values",
                          o->n_state);
    }
    madvise(o->state, o->n_state * sizeof(*o->state), MADV_HUGEPAGE);
    if (o->config.kind == OPTIM_MUON)
        return muon_create(&o->muon, o->table, o->n_table,
                           infer_team_size(net_team(o->net)), err);
    return INFER_OK;
}

int optim_create(struct optim **out, struct net *net,
                 const struct optim_config *config, struct infer_error *err)
{
    struct optim *o;
    int status = optim_check(config, err);

    if (status)
        return status;
    o = calloc(1, sizeof(*o));
    if (!o)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    o->net = net;
    o->config = *config;
    o->ops = nn_layers();
    o->table = net_param_table(net, &o->n_table);
    status = reserve(o, err);
    if (status) {
        optim_free(o);
        return status;
    }
    *out = o;
    return INFER_OK;
}

void optim_free(struct optim *o)
{
    if (!o)
        return;
    if (o->state)
        munmap(o->state, o->n_state * sizeof(*o->state));
    muon_free(o->muon);
    free(o->second);
    free(o);
}

float *optim_state(struct optim *o, size_t *n)
{
    *n = o->n_state;
    return o->state;
}

uint64_t optim_n_steps(const struct optim *o)
{
    return o->n_steps;
}

void optim_set_n_steps(struct optim *o, uint64_t n)
{
    o->n_steps = n;
}

/* ---- a step ---------------------------------------------------------------
 */

/* The gradient's length, the same for every member. */
static double gradient_length(struct infer_member *me, struct optim *o)
{
    double sum = 0.0;
    size_t begin, end;

    infer_team_share(me, net_n_values(o->net), SHARE, &begin, &end);
    o->squares[me->id] =
        o->ops->sum_squares(net_grads(o->net) + begin, end - begin);
    infer_team_barrier(me);
    for (int i = 0; i < me->n; i++)
        sum += o->squares[i];
    return sqrt(sum);
}

static struct nn_update settings(const struct optim *o,
                                 const struct net_param *p, double length)
{
    const struct optim_config *c = &o->config;
    const double step = (double)o->n_steps + 1.0, clip = (double)c->clip;
    const bool other = c->kind == OPTIM_MUON && p->kind != NET_MATRIX;
    const bool apart = c->kind == OPTIM_ADAMW || c->kind == OPTIM_MUON;
    const float decay = p->decay ? c->weight_decay : 0.0f;
    const bool plain = !has_second(o, p);

    return (struct nn_update){
        .lr = (other ? c->other_lr : c->lr) * o->lr_scale,
        .decay = apart ? decay : 0.0f,
        .l2 = apart ? 0.0f : decay,
        .grad_scale = clip > 0 && length > clip ? (float)(clip / length) : 1.0f,
        .beta1 = plain ? c->momentum : c->beta1,
        .beta2 = c->beta2,
        .eps = c->eps,
        .correct1 = (float)(1.0 / (1.0 - pow((double)c->beta1, step))),
        .correct2 = (float)(1.0 / (1.0 - pow((double)c->beta2, step)))};
}

static bool is_muons(const struct optim *o, size_t index)
{
    return o->config.kind == OPTIM_MUON && o->table[index].kind == NET_MATRIX;
}

/* All of a matrix, by this member. */
static void step_muon(const struct infer_member *me, struct optim *o,
                      size_t index, const struct nn_update *u)
{
    const struct net_param *p = &o->table[index];

    muon_step(me, o->muon, net_gemm(o->net), p, net_params(o->net) + p->offset,
              o->state + p->offset, net_grads(o->net) + p->offset, u);
}

/* This member's share of a tensor. */
static void step_share(const struct infer_member *me, struct optim *o,
                       size_t index, const struct nn_update *u)
{
    const struct net_param *p = &o->table[index];
    float *m = o->state + p->offset, *w = net_params(o->net) + p->offset;
    const float *g = net_grads(o->net) + p->offset;
    size_t begin, end;

    infer_team_share(me, p->n, 16, &begin, &end);
    if (has_second(o, p))
        o->ops->adam(w + begin, m + begin, o->state + o->second[index] + begin,
                     g + begin, end - begin, u);
    else
        o->ops->sgd(w + begin, m + begin, g + begin, end - begin, u);
}

static void step_member(struct infer_member *me, void *arg)
{
    struct optim *o = arg;
    const double length = gradient_length(me, o);

    if (me->id == 0)
        o->length = length;
    if (!isfinite(length))
        return;
    for (int64_t i; (i = infer_team_take(me, (int64_t)o->n_table, 1)) >= 0;)
        if (is_muons(o, (size_t)i)) {
            const struct nn_update u = settings(o, &o->table[i], length);

            step_muon(me, o, (size_t)i, &u);
        }
    for (size_t i = 0; i < o->n_table; i++)
        if (!is_muons(o, i)) {
            const struct nn_update u = settings(o, &o->table[i], length);

            step_share(me, o, i, &u);
        }
}

double optim_step(struct optim *o, float lr_scale)
{
    o->lr_scale = lr_scale;
    infer_team_run(net_team(o->net), step_member, o);
    if (isfinite(o->length))
        o->n_steps++;
    return o->length;
}
