/*
 * head.c - what an encoder's file says about its results: pooling, classes.
 *
 * llama.cpp's keys give the pooling and the names of classes; what it has no
 * keys for (kind, temperature, thresholds, widths to cut to) is under
 * "inferd.", written by our trainer (docs/model-format.md). A file without the
 * latter is a classifier of one class among several, or with a single output a
 * reranker.
 */
#include "core/model/head.h"

#include "core/base/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOLING_RANK = 4, MAX_LABEL = 1024, KEY_MAX = 96, MAX_WIDTHS = 64 };

/* ---- pooling ------------------------------------------------------------- */

static int read_pooling(struct infer_model *m, struct infer_error *err)
{
    static const enum infer_pooling by_number[] = {
        INFER_POOLING_NONE, INFER_POOLING_MEAN, INFER_POOLING_CLS,
        INFER_POOLING_LAST, INFER_POOLING_CLS /* rank: a head on the first */
    };
    uint32_t v = 1;
    char key[KEY_MAX];
    int found;

    snprintf(key, sizeof(key), "%s.pooling_type", m->hp.arch->name);
    found = infer_gguf_get_u32(m->gguf, key, &v, err);
    if (found < 0)
        return found;
    if (v > POOLING_RANK)
        return infer_fail(err, INFER_EFORMAT, "key '%s' is %u, not in 0..%d",
                          key, v, POOLING_RANK);
    m->result.pooling = by_number[v];
    return INFER_OK;
}

/* ---- classes ------------------------------------------------------------- */

static bool is(struct infer_gguf_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static int read_kind(struct infer_model *m, struct infer_error *err)
{
    static const char key[] = "inferd.classifier.kind";
    struct infer_head *h = &m->result;
    struct infer_gguf_str s;
    const int found = infer_gguf_get_str(m->gguf, key, &s, err);

    if (found < 0)
        return found;
    if (found == 1)
        h->kind =
            h->n_classes > 1 ? INFER_CLASSIFIER_SINGLE : INFER_CLASSIFIER_NONE;
    else if (is(s, "single"))
        h->kind = INFER_CLASSIFIER_SINGLE;
    else if (is(s, "multi"))
        h->kind = INFER_CLASSIFIER_MULTI;
    else if (is(s, "regression"))
        h->kind = INFER_CLASSIFIER_REGRESSION;
    else
        return infer_fail(err, INFER_EFORMAT,
                          "key '%s' is '%.*s', not single, multi or regression",
                          key, s.len < 40 ? (int)s.len : 40, s.data);
    return INFER_OK;
}

static int read_number(struct infer_model *m, const char *key, float def,
                       float min, float max, float *out,
                       struct infer_error *err)
{
    const int found = infer_gguf_get_f32(m->gguf, key, out, err);

    if (found < 0)
        return found;
    if (found == 1)
        *out = def;
    else if (!(*out >= min && *out <= max))
        return infer_fail(err, INFER_EFORMAT, "key '%s' is %g, not in %g..%g",
                          key, (double)*out, (double)min, (double)max);
    return INFER_OK;
}

/* The names are copied: the file's are not ended by NUL. */
static int read_labels(struct infer_model *m, struct infer_error *err)
{
    struct infer_head *h = &m->result;
    struct infer_gguf_array a = {0};
    char key[KEY_MAX], name[24];
    int found;

    snprintf(key, sizeof(key), "%s.classifier.output_labels", m->hp.arch->name);
    found = infer_gguf_get_array(m->gguf, key, &a, err);
    if (found < 0)
        return found;
    if (found == 0 && (a.type != INFER_GGUF_STRING || a.n != h->n_classes))
        return infer_fail(err, INFER_EFORMAT,
                          "key '%s' is not the names of %u classes", key,
                          h->n_classes);
    h->labels = calloc(h->n_classes, sizeof(char *));
    if (!h->labels)
        return infer_fail(err, INFER_ENOMEM, "out of memory for the labels");
    for (uint32_t i = 0; i < h->n_classes; i++) {
        if (found == 0 && (a.strs[i].len > MAX_LABEL ||
                           memchr(a.strs[i].data, '\0', a.strs[i].len)))
            return infer_fail(err, INFER_EFORMAT,
                              "key '%s': label %u is no text of at most %d "
                              "bytes",
                              key, i, MAX_LABEL);
        snprintf(name, sizeof(name), "LABEL_%u", i);
        h->labels[i] =
            found == 0 ? strndup(a.strs[i].data, a.strs[i].len) : strdup(name);
        if (!h->labels[i])
            return infer_fail(err, INFER_ENOMEM,
                              "out of memory for the labels");
    }
    return INFER_OK;
}

static int read_thresholds(struct infer_model *m, struct infer_error *err)
{
    static const char key[] = "inferd.classifier.thresholds";
    struct infer_head *h = &m->result;
    struct infer_gguf_array a;
    const int found = infer_gguf_get_array(m->gguf, key, &a, err);

    if (found < 0 || h->kind != INFER_CLASSIFIER_MULTI)
        return found < 0 ? found : INFER_OK;
    if (found == 0 && (a.type != INFER_GGUF_F32 || a.n != h->n_classes))
        return infer_fail(err, INFER_EFORMAT,
                          "key '%s' is not a float for each of %u classes", key,
                          h->n_classes);
    h->thresholds = calloc(h->n_classes, sizeof(float));
    if (!h->thresholds)
        return infer_fail(err, INFER_ENOMEM, "out of memory for thresholds");
    for (uint32_t i = 0; i < h->n_classes; i++)
        h->thresholds[i] = 0.5f;
    if (found == 0)
        memcpy(h->thresholds, a.data, h->n_classes * sizeof(float));
    for (uint32_t i = 0; i < h->n_classes; i++)
        if (!isfinite(h->thresholds[i]))
            return infer_fail(err, INFER_EFORMAT,
                              "key '%s': value %u is not finite", key, i);
    return INFER_OK;
}

static int read_oos_label(struct infer_model *m, struct infer_error *err)
{
    static const char key[] = "inferd.classifier.oos_label";
    struct infer_gguf_str s = {"out_of_scope", 12};
    const int found = infer_gguf_get_str(m->gguf, key, &s, err);

    if (found < 0)
        return found;
    if (s.len == 0 || s.len > MAX_LABEL || memchr(s.data, '\0', s.len))
        return infer_fail(err, INFER_EFORMAT,
                          "key '%s' is no text of 1 to %d bytes", key,
                          MAX_LABEL);
    if (m->result.kind == INFER_CLASSIFIER_SINGLE)
        m->result.oos_label = strndup(s.data, s.len);
    return INFER_OK;
}

static int read_classes(struct infer_model *m, struct infer_error *err)
{
    struct infer_head *h = &m->result;
    int status = read_kind(m, err);

    if (!status)
        status = read_labels(m, err);
    if (!status)
        status = read_thresholds(m, err);
    if (!status)
        status = read_number(m, "inferd.classifier.temperature", 1.0f, 1e-3f,
                             1e3f, &h->temperature, err);
    if (!status)
        status = read_number(m, "inferd.classifier.oos_threshold", 0.0f, 0.0f,
                             1.0f, &h->oos_threshold, err);
    if (!status)
        status = read_oos_label(m, err);
    if (!status && infer_gguf_get_bool(m->gguf, "inferd.classifier.pair",
                                       &h->pair, err) < 0)
        status = INFER_EFORMAT;
    return status;
}

/* ---- widths -------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int read_widths(struct infer_model *m, struct infer_error *err)
{
    static const char key[] = "inferd.embedding.dimensions";
    struct infer_head *h = &m->result;
    struct infer_gguf_array a;
    const int found = infer_gguf_get_array(m->gguf, key, &a, err);

    if (found)
        return found < 0 ? found : INFER_OK;
    if (a.type != INFER_GGUF_U32 || a.n == 0 || a.n > MAX_WIDTHS)
        return infer_fail(err, INFER_EFORMAT,
                          "key '%s' is not a list of 1 to %d widths", key,
                          MAX_WIDTHS);
    h->widths = calloc(a.n, sizeof(uint32_t));
    if (!h->widths)
        return infer_fail(err, INFER_ENOMEM, "out of memory for widths");
    h->n_widths = (uint32_t)a.n;
    memcpy(h->widths, a.data, a.n * sizeof(uint32_t));
    for (uint32_t i = 0; i < h->n_widths; i++)
        if (h->widths[i] == 0 || h->widths[i] > m->hp.d_model)
            return infer_fail(err, INFER_EFORMAT,
                              "key '%s': %u is not in 1..%u", key, h->widths[i],
                              m->hp.d_model);
    qsort(h->widths, h->n_widths, sizeof(uint32_t), ascending);
    return INFER_OK;
}

int infer_head_read(struct infer_model *m, uint32_t n_classes,
                    struct infer_error *err)
{
    int status = read_pooling(m, err);

    m->result.n_classes = n_classes;
    if (!status && n_classes)
        status = read_classes(m, err);
    else if (!status)
        status = read_widths(m, err);
    return status;
}

void infer_head_release(struct infer_head *h)
{
    for (uint32_t i = 0; h->labels && i < h->n_classes; i++)
        free(h->labels[i]);
    free(h->labels);
    free(h->thresholds);
    free(h->oos_label);
    free(h->widths);
}

void infer_head_info(struct infer_model *m)
{
    const struct infer_head *h = &m->result;
    struct infer_model_info *i = &m->info;

    i->task = h->n_classes == 0 ? INFER_TASK_EMBED
              : h->kind         ? INFER_TASK_CLASSIFY
                                : INFER_TASK_RERANK;
    i->pooling = h->pooling;
    i->n_out = h->n_classes ? h->n_classes : m->hp.d_model;
    i->dimensions = h->widths;
    i->n_dimensions = h->n_widths;
    i->has_ngrams = m->ngram_embd.data != NULL;
    i->classifier = h->kind;
    i->n_classes = h->n_classes;
    i->labels = (const char *const *)h->labels;
    i->thresholds = h->thresholds;
    i->oos_threshold = h->oos_threshold;
    i->oos_label = h->oos_label;
    i->takes_pairs = h->pair || i->task == INFER_TASK_RERANK;
}

/* ---- scores -------------------------------------------------------------- */

static double sigmoid(double x)
{
    return x >= 0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x));
}

static void softmax(const float *raw, float *out, uint32_t n, double t)
{
    double max = (double)-INFINITY, sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, (double)raw[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp(((double)raw[i] - max) / t);
    for (uint32_t i = 0; i < n; i++)
        out[i] = (float)(exp(((double)raw[i] - max) / t) / sum);
}

void infer_classifier_scores(const struct infer_model *m, const float *raw,
                             float *scores)
{
    const struct infer_head *h = &m->result;
    const double t = (double)h->temperature;

    if (h->kind == INFER_CLASSIFIER_SINGLE)
        softmax(raw, scores, h->n_classes, t);
    else
        for (uint32_t i = 0; i < h->n_classes; i++)
            scores[i] = h->kind == INFER_CLASSIFIER_REGRESSION
                            ? raw[i]
                            : (float)sigmoid((double)raw[i] / t);
}

void infer_normalize(float *v, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    if (!(sum > 0.0))
        return;
    sum = 1.0 / sqrt(sum);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)((double)v[i] * sum);
}
