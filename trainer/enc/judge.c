/* judge.c - see judge.h. */
#include "trainer/enc/judge.h"

#include "core/base/error.h"
#include "core/format/gguf.h"
#include "trainer/enc/classify.h"
#include "trainer/enc/import.h"
#include "trainer/enc/report.h"

#include <stdlib.h>
#include <string.h>

static int read_kind(const struct infer_gguf *g, const char *path, int *kind,
                     struct infer_error *err)
{
    static const char *const kinds[] = {"single", "multi", "regression"};
    struct infer_gguf_str s = {0};

    if (infer_gguf_get_str(g, "inferd.classifier.kind", &s, NULL) == 0)
        for (int i = 0; i < 3; i++)
            if (s.len == strlen(kinds[i]) &&
                memcmp(s.data, kinds[i], s.len) == 0) {
                *kind = i;
                return 0;
            }
    return infer_fail(err, INFER_EFORMAT,
                      "'%.150s' is not a classifier of infer-train", path);
}

static int read_labels(const struct infer_gguf *g, struct enc_labels *l,
                       struct infer_error *err)
{
    struct infer_gguf_array a = {0};
    int status = enc_import_labels(g, &a, err);

    if (status != 0)
        return status;
    l->names = calloc(a.n + 1, sizeof(*l->names));
    for (uint64_t i = 0; i < a.n && l->names && status == 0; i++) {
        if (memchr(a.strs[i].data, '\0', a.strs[i].len))
            return infer_fail(err, INFER_EFORMAT,
                              "label %llu of the model is no text",
                              (unsigned long long)i);
        l->names[i] = strndup(a.strs[i].data, a.strs[i].len);
        if (!l->names[i] || infer_names_add(&l->index, l->names[i],
                                            a.strs[i].len, (uint32_t)i) < 0)
            status = INFER_ENOMEM;
        l->n++;
    }
    return l->names && status == 0
               ? 0
               : infer_fail(err, INFER_ENOMEM, "out of memory");
}

/* Logits are laid out by the labels, and written as the head has rows. */
static int check_classes(const struct enc_run *r, const char *path, int kind)
{
    const size_t rows = net_shape(r->model.net)->n_classes;
    const size_t n = kind == ENC_REGRESSION ? 1 : r->labels.n;

    if (rows == n)
        return 0;
    return infer_fail(r->err, INFER_EFORMAT,
                      "'%.120s' has %zu labels, tensor 'cls.output.weight' "
                      "%zu rows",
                      path, n, rows);
}

static int score_rows(struct enc_run *r, const struct enc_rows *rows,
                      double *score)
{
    float *z;
    double loss;
    int status = 0;

    for (size_t i = 0; i < rows->n && status == 0; i++)
        status = enc_set_add(&r->val, &r->model, &rows->rows[i], &r->labels,
                             &r->o->columns, r->err);
    if (status != 0)
        return status;
    r->train.n_classes = r->val.n_classes;
    z = malloc((r->val.n * r->val.n_classes + 1) * sizeof(*z));
    status = z ? enc_run_logits(r, &r->val, z)
               : infer_fail(r->err, INFER_ENOMEM, "out of memory");
    if (status == 0)
        enc_report_quick(r, &r->val, z, score, &loss);
    free(z);
    return status;
}

int enc_judge(const char *path, const struct enc_rows *rows,
              struct enc_columns *columns, struct infer_team *team,
              double *score, struct infer_error *err)
{
    struct enc_classify o = {0};
    struct enc_run r = {.o = &o, .err = err, .deviation = 1.0};
    struct infer_gguf *g = NULL;
    int status = infer_gguf_open(&g, path, err);

    if (status == 0)
        status = read_kind(g, path, &columns->kind, err);
    if (status == 0)
        status = read_labels(g, &r.labels, err);
    infer_gguf_close(g);
    if (status == 0)
        status = enc_load(&r.model, path, ENC_RUN_BATCH, team, err);
    if (status == 0)
        status = check_classes(&r, path, columns->kind);
    if (status == 0)
        status = enc_head_create(&r.head, r.model.net, ENC_RUN_BATCH, err);
    if (status == 0) {
        o.columns = *columns;
        status = score_rows(&r, rows, score);
    }
    enc_set_release(&r.val);
    enc_labels_release(&r.labels);
    enc_head_release(&r.head);
    enc_model_release(&r.model);
    return status;
}
