/*
 * test_encoder_own.c - our encoder's file by hand: pooling, n-grams, heads and
 * their keys; and the batcher in front of it.
 *
 * The model has no layers, so what it computes is a few lines of double
 * arithmetic. With layers it is compared in tests/golden and by the trainer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/format/gguf.h"
#include "core/format/quant.h"
#include "core/tokenizer/ngrams.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARCH "inferd-encoder"
#define MARK "\xe2\x96\x81" /* U+2581 */

enum { D = 32, V = 8, C = 3, BUCKETS = 16, CTX = 16 };

static const struct infer_ngrams_spec spec = {
    .buckets = BUCKETS, .min = 1, .max = 2, .char_min = 2, .char_max = 3};
static float embd[V][D], norm[D], grams[BUCKETS][D], out[C][D], bias[C];
static char path[] = "/tmp/inferd-encoder-XXXXXX";

static void fill(float *v, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = (float)(int32_t)seed / 2147483648.0f;
    }
}

static void tensor(struct infer_gguf_writer *w, const char *name, uint64_t k,
                   uint64_t n, const void *data)
{
    const uint64_t dims[INFER_GGUF_MAX_DIMS] = {k, n, 1, 1};

    infer_gguf_add_tensor(w, name, INFER_F32, n > 0 ? 2 : 1, dims, data);
}

static void set_u32(struct infer_gguf_writer *w, const char *key, uint32_t v)
{
    char name[64];

    snprintf(name, sizeof(name), ARCH ".%s", key);
    infer_gguf_set_u32(w, name, v);
}

static void set_vocab(struct infer_gguf_writer *w)
{
    static const char *const texts[V] = {"[PAD]",  "[UNK]",    "[CLS]",
                                         "[SEP]",  "[MASK]",   MARK "a",
                                         MARK "b", MARK "card"};
    int32_t types[V];
    struct infer_gguf_str strs[V];

    for (size_t i = 0; i < V; i++) {
        types[i] = i < 5 ? 3 : 1;
        strs[i] = (struct infer_gguf_str){texts[i], strlen(texts[i])};
    }
    infer_gguf_set_str(w, "tokenizer.ggml.model", "bert");
    infer_gguf_set_strs(w, "tokenizer.ggml.tokens", strs, V);
    infer_gguf_set_array(w, "tokenizer.ggml.token_type", INFER_GGUF_I32, types,
                         V);
    infer_gguf_set_u32(w, "tokenizer.ggml.unknown_token_id", 1);
    infer_gguf_set_u32(w, "tokenizer.ggml.cls_token_id", 2);
    infer_gguf_set_u32(w, "tokenizer.ggml.seperator_token_id", 3);
}

static struct infer_gguf_writer *begin(bool head)
{
    struct infer_gguf_writer *w = NULL;

    assert_int_equal(infer_gguf_writer_create(&w, NULL), 0);
    infer_gguf_set_str(w, "general.architecture", ARCH);
    set_u32(w, "context_length", CTX);
    set_u32(w, "embedding_length", D);
    set_u32(w, "block_count", 0);
    set_u32(w, "feed_forward_length", D);
    set_u32(w, "attention.head_count", 2);
    set_u32(w, "pooling_type", 1);
    set_u32(w, "ngram.buckets", BUCKETS);
    set_u32(w, "ngram.min", spec.min);
    set_u32(w, "ngram.max", spec.max);
    set_u32(w, "ngram.char_min", spec.char_min);
    set_u32(w, "ngram.char_max", spec.char_max);
    set_vocab(w);
    tensor(w, "token_embd.weight", D, V, embd);
    tensor(w, "output_norm.weight", D, 0, norm);
    tensor(w, "ngram_embd.weight", D, BUCKETS, grams);
    if (head) {
        tensor(w, "cls.output.weight", D, C, out);
        tensor(w, "cls.output.bias", C, 0, bias);
    }
    return w;
}

static int load(struct infer_gguf_writer *w, struct infer_model **m,
                struct infer_error *err)
{
    int status = infer_gguf_save(w, path, err);

    infer_gguf_writer_free(w);
    return status ? status : infer_model_load(m, path, NULL, err);
}

static struct infer_model *load_good(struct infer_gguf_writer *w)
{
    struct infer_model *m = NULL;
    struct infer_error err = {0};

    if (load(w, &m, &err) != 0)
        fail_msg("%s", err.text);
    return m;
}

/* ---- what it should compute ------------------------------------------------
 */

static void add_mean(double *v, const uint32_t *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < D; k++)
            v[k] += (double)grams[rows[i]][k] / (double)n;
}

static void expect(double *v, const int32_t *ids, size_t n, const char *text)
{
    struct infer_ngrams g = {0};

    memset(v, 0, D * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        const float *x = embd[ids[i]];
        double square = 0;

        for (size_t k = 0; k < D; k++)
            square += (double)x[k] * (double)x[k];
        for (size_t k = 0; k < D; k++)
            v[k] += (double)x[k] / sqrt(square / D + 1e-5) * (double)norm[k] /
                    (double)n;
    }
    assert_int_equal(infer_ngrams_add(&g, &spec, 0, text, strlen(text), NULL),
                     0);
    add_mean(v, g.word, g.n_word);
    add_mean(v, g.chars, g.n_chars);
    infer_ngrams_release(&g);
}

static struct infer_sequence encode(const struct infer_model *m,
                                    const char *text, struct infer_encoded *e)
{
    const struct infer_text_piece piece = {text, strlen(text)};
    struct infer_error err = {0};

    if (infer_encode(m, &piece, NULL, 0, INFER_TRUNCATE_RIGHT, e, &err) != 0)
        fail_msg("%s", err.text);
    return (struct infer_sequence){.ids = e->ids,
                                   .n = e->n,
                                   .ngrams = e->ngrams,
                                   .n_words = e->n_words,
                                   .n_chars = e->n_chars};
}

static const char *const texts[] = {"a", "card b a", "", "unheard of, card!",
                                    "a b a b a b a b a b a b a b a b a b a b"};

enum { N_TEXTS = sizeof(texts) / sizeof(*texts) };

static void test_vectors(void **state)
{
    struct infer_model *m = load_good(begin(false));
    struct infer_team *team = NULL;
    struct infer_encoder *encoder = NULL;

    (void)state;
    assert_int_equal(infer_model_info(m)->task, INFER_TASK_EMBED);
    assert_true(infer_model_info(m)->has_ngrams);
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(infer_encoder_create(&encoder, m, team, NULL, NULL), 0);
    for (size_t t = 0; t < N_TEXTS; t++) {
        struct infer_encoded e;
        const struct infer_sequence s = encode(m, texts[t], &e);
        float got[D];
        double want[D];

        assert_true(s.n <= CTX);
        assert_int_equal(infer_encoder_run(encoder, &s, 1, got, NULL), 0);
        expect(want, s.ids, s.n, texts[t]);
        for (size_t k = 0; k < D; k++)
            if (!(fabs((double)got[k] - want[k]) < 1e-5))
                fail_msg("text %zu, value %zu: %g, not %g", t, k,
                         (double)got[k], want[k]);
        infer_encoded_release(&e);
    }
    infer_encoder_free(encoder);
    infer_team_free(team);
    infer_model_free(m);
}

static void check_score(float got, double want)
{
    assert_true(fabs((double)got - want) < 1e-6);
}

static void test_classes(void **state)
{
    const float thresholds[C] = {0.1f, 0.5f, 0.9f};
    struct infer_gguf_writer *w = begin(true);
    const struct infer_gguf_str names[C] = {{"x", 1}, {"yy", 2}, {"z", 1}};
    const float raw[C] = {1000.0f, 990.0f, -1000.0f};
    float scores[C];
    struct infer_model *m;

    (void)state;
    infer_gguf_set_strs(w, ARCH ".classifier.output_labels", names, C);
    infer_gguf_set_f32(w, "inferd.classifier.temperature", 2.0f);
    infer_gguf_set_array(w, "inferd.classifier.thresholds", INFER_GGUF_F32,
                         thresholds, C);
    m = load_good(w);
    assert_int_equal(infer_model_info(m)->task, INFER_TASK_CLASSIFY);
    assert_int_equal(infer_model_info(m)->classifier, INFER_CLASSIFIER_SINGLE);
    assert_string_equal(infer_model_info(m)->labels[1], "yy");
    assert_null(infer_model_info(m)->thresholds);
    infer_classifier_scores(m, raw, scores);
    check_score(scores[0], 1 / (1 + exp(-5)));
    check_score(scores[1], exp(-5) / (1 + exp(-5)));
    check_score(scores[2], 0);
    infer_model_free(m);

    w = begin(true);
    infer_gguf_set_str(w, "inferd.classifier.kind", "multi");
    infer_gguf_set_array(w, "inferd.classifier.thresholds", INFER_GGUF_F32,
                         thresholds, C);
    m = load_good(w);
    check_score(infer_model_info(m)->thresholds[2], 0.9);
    assert_string_equal(infer_model_info(m)->labels[2], "LABEL_2");
    infer_classifier_scores(m, raw, scores);
    check_score(scores[0], 1);
    check_score(scores[2], 0);
    infer_model_free(m);
}

/* Each spoils one thing; the error names it. */
static void test_bad_files(void **state)
{
    static const struct {
        const char *key;
        uint32_t v; /* or text */
        const char *text, *named;
    } cases[] = {
        {ARCH ".pooling_type", 9, NULL, "pooling_type"},
        {ARCH ".ngram.char_max", 99, NULL, "ngram"},
        {"inferd.classifier.kind", 0, "some", "single"},
        {"inferd.classifier.temperature", 0, "hot", "temperature"},
        {ARCH ".classifier.output_labels", 3, NULL, "output_labels"},
        {"inferd.classifier.oos_label", 0, "", "oos_label"},
        {ARCH ".attention.head_count", 0, NULL, "head_count"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct infer_gguf_writer *spoilt = NULL, *w = begin(true);
        struct infer_model *m = NULL;
        struct infer_error err = {0};
        struct infer_gguf *g = NULL;

        assert_int_equal(infer_gguf_save(w, path, NULL), 0);
        infer_gguf_writer_free(w);
        assert_int_equal(infer_gguf_open(&g, path, NULL), 0);
        assert_int_equal(infer_gguf_writer_create(&spoilt, NULL), 0);
        if (cases[i].text)
            infer_gguf_set_str(spoilt, cases[i].key, cases[i].text);
        else
            infer_gguf_set_u32(spoilt, cases[i].key, cases[i].v);
        infer_gguf_set_all(spoilt, g);
        for (size_t t = 0; t < infer_gguf_n_tensors(g); t++) {
            const struct infer_gguf_tensor *x = infer_gguf_tensor(g, t);

            infer_gguf_add_tensor(spoilt, x->name, x->type, x->n_dims, x->dims,
                                  x->data);
        }
        assert_true(load(spoilt, &m, &err) < 0);
        if (!strstr(err.text, cases[i].named))
            fail_msg("%s: %s", cases[i].key, err.text);
        infer_gguf_close(g);
    }
}

/* ---- batcher
 * ----------------------------------------------------------------- */

struct asked {
    struct infer_encode_request request;
    int32_t ids[CTX];
    enum infer_finish finish;
    int order; /* of its result; 0: none yet */
    float first;
};

static int n_results;

static void on_result(void *user, enum infer_finish finish, const float *result)
{
    struct asked *a = user;

    a->finish = finish;
    a->order = ++n_results;
    a->first = result ? result[0] : 0.0f;
}

static void ask_class(struct infer_batcher *b, struct asked *a, uint32_t n,
                      bool background)
{
    *a = (struct asked){.request = {.seq = {.ids = a->ids, .n = n},
                                    .background = background,
                                    .on_result = on_result,
                                    .user = a}};
    for (uint32_t i = 0; i < n; i++)
        a->ids[i] = 5;
    assert_int_equal(infer_batcher_submit(b, &a->request, NULL), 0);
}

static void ask(struct infer_batcher *b, struct asked *a, uint32_t n)
{
    ask_class(b, a, n, false);
}

static void test_batcher(void **state)
{
    const struct infer_batcher_params params = {
        .max_tokens = CTX, .max_seqs = 4, .max_waiting = 3, .max_delay_ms = 20};
    struct infer_model *m = load_good(begin(false));
    struct infer_team *team = NULL;
    struct infer_batcher *b = NULL;
    struct infer_error err = {0};
    struct asked a[4] = {0};
    struct infer_batcher_stats stats;
    int32_t cancel = 1;

    (void)state;
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(infer_batcher_create(&b, m, team, &params, &err), 0);
    assert_int_equal(infer_batcher_step(b), 0);

    /* the shortest first, as far as the budget goes; a fourth is refused */
    ask(b, &a[0], 14);
    ask(b, &a[1], 5);
    ask(b, &a[2], 2);
    a[3].request = a[2].request;
    assert_int_equal(infer_batcher_submit(b, &a[3].request, &err), INFER_EBUSY);
    infer_batcher_step(b);
    assert_int_equal(a[2].order, 1);
    assert_int_equal(a[1].order, 2);
    assert_int_equal(a[0].order, 0);
    infer_batcher_stats(b, &stats);
    assert_int_equal(stats.n_waiting, 1);
    assert_int_equal(stats.step_tokens, 7);

    /* who has waited too long is not overtaken any more */
    usleep(25000);
    ask(b, &a[1], 5);
    infer_batcher_step(b);
    assert_int_equal(a[0].order, 3);
    assert_int_equal(a[1].order, 0);
    infer_batcher_step(b);
    assert_int_equal(a[1].order, 4);
    assert_int_equal(a[1].finish, INFER_FINISH_STOP);

    /* cancelled, late, and left over */
    ask(b, &a[0], 3);
    a[0].request.cancel = &cancel;
    ask(b, &a[1], 3);
    a[1].request.deadline_ns = 1;
    ask(b, &a[2], 3);
    infer_batcher_step(b);
    assert_int_equal(a[0].finish, INFER_FINISH_CANCELLED);
    assert_int_equal(a[1].finish, INFER_FINISH_DEADLINE);
    assert_int_equal(a[2].finish, INFER_FINISH_STOP);
    ask(b, &a[0], 3);
    infer_batcher_free(b);
    assert_int_equal(a[0].finish, INFER_FINISH_CANCELLED);
    infer_team_free(team);
    infer_model_free(m);
}

/* Background work, as an explained text is: order and share, counted in
 * sequences. */
static void test_background(void **state)
{
    enum { N = 40 };
    const struct infer_batcher_params params = {.max_tokens = CTX,
                                                .max_seqs = 4};
    struct infer_model *m = load_good(begin(false));
    struct infer_team *team = NULL;
    struct infer_batcher *b = NULL;
    static struct asked many[N], own, late;
    struct infer_batcher_stats stats;
    int done = 0, steps = 0;

    (void)state;
    assert_int_equal(infer_team_create(&team, 1, 0, NULL), 0);
    assert_int_equal(infer_batcher_create(&b, m, team, &params, NULL), 0);
    for (int i = 0; i < N; i++)
        ask_class(b, &many[i], i == N - 1 ? 10 : 2, true);

    /* a step stays short: a quarter of what it may be */
    infer_batcher_step(b);
    infer_batcher_stats(b, &stats);
    assert_int_equal(stats.step_tokens, CTX / 4);

    /* who comes later goes first, however many wait; what is left of the
     * quarter is filled up */
    usleep(60000); /* all of them have waited too long */
    n_results = 0;
    ask(b, &own, 2);
    infer_batcher_step(b);
    infer_batcher_stats(b, &stats);
    assert_int_equal(own.order, 1);
    assert_int_equal(stats.step_tokens, CTX / 4);

    /* where the others never leave room, an eighth of their tokens is theirs */
    for (int i = 0; i < N; i++)
        done += many[i].order > 0;
    for (own.order = 1; steps < 20; steps++) {
        if (own.order > 0)
            ask(b, &own, 16);
        infer_batcher_step(b);
    }
    for (int i = 0; i < N; i++)
        done -= many[i].order > 0;
    /* 16 tokens of the others earn 2: the steps take turns */
    assert_int_equal(done, -10);

    /* alone, if it is longer than its part of a step; and none is lost */
    while (infer_batcher_step(b) > 0)
        steps++;
    for (int i = 0; i < N; i++)
        assert_int_equal(many[i].finish, INFER_FINISH_STOP);
    ask_class(b, &late, 16, true);
    infer_batcher_free(b);
    assert_int_equal(late.finish, INFER_FINISH_CANCELLED);
    infer_team_free(team);
    infer_model_free(m);
}

static int make_weights(void **state)
{
    const int fd = mkstemp(path);

    (void)state;
    fill(&embd[0][0], V * D, 1);
    fill(norm, D, 2);
    fill(&grams[0][0], BUCKETS * D, 3);
    fill(&out[0][0], C * D, 4);
    fill(bias, C, 5);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),    cmocka_unit_test(test_classes),
        cmocka_unit_test(test_bad_files),  cmocka_unit_test(test_batcher),
        cmocka_unit_test(test_background),
    };

    return cmocka_run_group_tests(tests, make_weights, remove_file);
}
