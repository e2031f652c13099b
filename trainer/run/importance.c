/* importance.c - see importance.h. The engine sums the squares while it
 * evaluates the text. */
#include "trainer/run/importance.h"

#include "core/base/error.h"
#include "core/engine/session.h"
#include "trainer/run/evaluate.h"

#include <stdlib.h>
#include <string.h>

enum { N_SITES = INFER_SITE_HEAD + 1 };

struct train_importance {
    uint32_t n_layers;
    uint64_t n_tokens;
    size_t width[N_SITES];
    float *means[N_SITES]; /* [layers][width] */
};

static const struct {
    const char *suffix;
    enum infer_site site;
} names[] = {
    {"attn_q.weight", INFER_SITE_QKV},
    {"attn_k.weight", INFER_SITE_QKV},
    {"attn_v.weight", INFER_SITE_QKV},
    {"attn_qkv.weight", INFER_SITE_QKV},
    {"attn_output.weight", INFER_SITE_OUT},
    {"ffn_up.weight", INFER_SITE_UP},
    {"ffn_gate.weight", INFER_SITE_UP},
    {"ffn_down.weight", INFER_SITE_DOWN},
};

static int begin(void *user, const struct infer_model *m,
                 struct infer_session *s, struct infer_error *err)
{
    (void)user;
    (void)m;
    return infer_forward_collect(infer_session_forward(s), err);
}

static int take_site(struct train_importance *imp, const struct infer_model *m,
                     const struct infer_forward *f, enum infer_site site,
                     struct infer_error *err)
{
    const uint32_t n = site == INFER_SITE_HEAD ? 1 : m->hp.n_layers;
    const size_t width = infer_site_width(m, site);
    double *sums = malloc(width * sizeof(*sums));

    imp->width[site] = width;
    imp->means[site] = malloc(width * n * sizeof(float));
    if (!sums || !imp->means[site]) {
        free(sums);
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    }
    for (uint32_t layer = 0; layer < n; layer++) {
        const uint64_t rows = infer_forward_collected(f, site, layer, sums);

        for (size_t k = 0; k < width; k++)
            imp->means[site][layer * width + k] =
                (float)(sums[k] / (double)(rows ? rows : 1));
    }
    free(sums);
    return 0;
}

static int end(void *user, const struct infer_model *m, struct infer_session *s,
               struct infer_error *err)
{
    struct train_importance *imp = user;
    int status = 0;

    imp->n_layers = m->hp.n_layers;
    for (int site = 0; site < N_SITES && status == 0; site++)
        status = take_site(imp, m, infer_session_forward(s),
                           (enum infer_site)site, err);
    return status;
}

int train_importance_create(struct train_importance **out, const char *model,
                            const struct train_text *text, uint64_t context,
                            uint64_t max_tokens, struct infer_error *err)
{
    struct train_importance *imp = calloc(1, sizeof(*imp));
    const struct train_evaluate_options how = {.context = context,
                                               .max_tokens = max_tokens,
                                               .begin = begin,
                                               .end = end,
                                               .user = imp};
    struct train_evaluation e;
    int status;

    if (!imp)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = train_evaluate_file(model, text, &how, &e, err);
    if (status != 0) {
        train_importance_free(imp);
        return status;
    }
    imp->n_tokens = e.n_tokens;
    *out = imp;
    return 0;
}

void train_importance_free(struct train_importance *imp)
{
    for (int i = 0; imp && i < N_SITES; i++)
        free(imp->means[i]);
    free(imp);
}

const float *train_importance_of(const struct train_importance *imp,
                                 const char *tensor, size_t k)
{
    unsigned long layer;
    char *name;

    if (strcmp(tensor, "output.weight") == 0)
        return k == imp->width[INFER_SITE_HEAD] ? imp->means[INFER_SITE_HEAD]
                                                : NULL;
    if (strncmp(tensor, "blk.", 4) != 0)
        return NULL;
    layer = strtoul(tensor + 4, &name, 10);
    if (*name++ != '.' || layer >= imp->n_layers)
        return NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(name, names[i].suffix) == 0)
            return k == imp->width[names[i].site]
                       ? imp->means[names[i].site] + layer * k
                       : NULL;
    return NULL;
}

uint64_t train_importance_tokens(const struct train_importance *imp)
{
    return imp->n_tokens;
}
