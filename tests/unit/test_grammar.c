/*
 * test_grammar.c - grammars, and the masks that come of them, on a vocabulary
 * of single bytes and some longer tokens.
 *
 * The oracle is brute force: a token is allowed exactly if its bytes, taken
 * one by one, are allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/engine/matcher.h"
#include "server/schema.h"
#include "tests/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EOS = 2 };

static struct infer_tokenizer *tok;
static uint32_t n_vocab;

static const char *const longer[] = {
    "true", "tr",       "\":",        "\",", "{\"",   "aa",
    "aaa",  "aaaa",     "aaaaaaaa",   "},",  "]]",    "12",
    "123",  "\xc3\xa9", "\xc3\xa9\"", "a\"", "\\u00",
};

/* ---- grammars ------------------------------------------------------------ */

static int finish(struct infer_grammar *g, uint32_t start, const char *word)
{
    struct infer_error err = {0};
    const int rc = infer_grammar_finish(g, start, NULL, &err);

    if (rc != 0 && word != NULL)
        assert_non_null(strstr(err.text, word));
    infer_grammar_free(g);
    return rc;
}

static struct infer_grammar *fresh(void)
{
    struct infer_grammar *g = NULL;

    assert_int_equal(infer_grammar_create(&g, NULL), 0);
    return g;
}

static void test_checks(void **state)
{
    struct infer_grammar *g;
    uint32_t a, r, s;

    (void)state;
    g = fresh();
    r = infer_grammar_rule(g);
    assert_int_equal(finish(g, r, "defined"), INFER_EINVAL);

    g = fresh(); /* r = r */
    r = infer_grammar_rule(g);
    infer_grammar_define(g, r, r);
    assert_int_equal(finish(g, r, "itself"), INFER_EINVAL);

    g = fresh(); /* r = r a | a */
    r = infer_grammar_rule(g);
    a = infer_grammar_text(g, "a", 1);
    s = infer_grammar_sequence(g, (uint32_t[]){r, a}, 2);
    infer_grammar_define(g, r, infer_grammar_choice(g, (uint32_t[]){s, a}, 2));
    assert_int_equal(finish(g, r, "itself"), INFER_EINVAL);

    g = fresh(); /* r = a r: never ends */
    r = infer_grammar_rule(g);
    a = infer_grammar_text(g, "a", 1);
    infer_grammar_define(g, r,
                         infer_grammar_sequence(g, (uint32_t[]){a, r}, 2));
    assert_int_equal(finish(g, r, "nothing satisfies"), INFER_EINVAL);

    g = fresh(); /* (a?)* */
    a = infer_grammar_text(g, "a", 1);
    a = infer_grammar_repeat(g, a, 0, 1);
    a = infer_grammar_repeat(g, a, 0, UINT32_MAX);
    assert_int_equal(finish(g, a, "empty"), INFER_EINVAL);

    g = fresh(); /* parts that were never made, in each place */
    assert_int_equal(infer_grammar_choice(g, (uint32_t[]){0, 7}, 2), 0);
    assert_int_equal(finish(g, 1, "never made"), INFER_EINVAL);
    g = fresh();
    assert_int_equal(infer_grammar_repeat(g, 0, 0, 2), 0);
    assert_int_equal(finish(g, 0, "never made"), INFER_EINVAL);
    g = fresh();
    r = infer_grammar_rule(g);
    infer_grammar_define(g, r, 9);
    assert_int_equal(finish(g, r, "never made"), INFER_EINVAL);
    g = fresh();
    assert_int_equal(finish(g, 0, "never made"), INFER_EINVAL);

    g = fresh(); /* too much of it */
    for (int i = 0; i < 140000; i++)
        a = infer_grammar_text(g, "a", 1);
    assert_int_equal(a, 0);
    assert_int_equal(finish(g, a, "large"), INFER_ETOOLONG);
}

/* A chain of choices longer than the matcher follows. */
static void test_long_chain(void **state)
{
    struct infer_grammar *g = fresh();
    uint32_t a = infer_grammar_text(g, "a", 1), b = a;

    (void)state;
    for (int i = 0; i < 5000; i++)
        b = infer_grammar_choice(g, (uint32_t[]){b, a}, 2);
    assert_int_equal(finish(g, b, NULL), INFER_EINVAL);
}

/* The same set is one, however many there are. */
static void test_sets(void **state)
{
    struct infer_grammar *g = fresh();
    uint64_t set[4] = {0};

    (void)state;
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 60000; i++) {
            set[i % 4] = i;
            set[3] = i % 7;
            infer_grammar_bytes(g, (const uint8_t *)set);
            memset(set, 0, sizeof(set));
            if (i % 1000 == 0)
                assert_memory_equal(
                    &g->sets[g->items[g->n_items - 1].a].bits[i % 4 * 8],
                    (i % 4 == 3 ? (uint64_t[]){i % 7} : (uint64_t[]){i}), 8);
        }
    assert_int_equal(g->n_items, 120001);
    /* i % 4 == 3: only i % 7 tells them apart, and 0 is as i == 0 */
    assert_int_equal(g->n_sets, 45000 + 6);
    infer_grammar_free(g);
}

/* What finish found equals what passes over all items find. */
static void same_as_passes(const struct infer_grammar *g)
{
    const uint32_t never = UINT16_MAX;
    uint32_t *need = malloc(g->n_items * sizeof(*need));
    bool *empty = calloc(g->n_items, sizeof(*empty)), changed = true;

    for (uint32_t i = 0; i < g->n_items; i++)
        need[i] = never;
    while (changed) {
        changed = false;
        for (uint32_t i = 1; i < g->n_items; i++) {
            const struct infer_item *it = &g->items[i];
            const bool all = it->kind == INFER_ITEM_SEQUENCE;
            const bool group = all || it->kind == INFER_ITEM_CHOICE;
            uint32_t best = all ? 0 : never;
            bool e = all;

            for (uint32_t k = 0; group && k < it->n; k++) {
                const uint32_t p = g->parts[it->a + k];
                const uint32_t n = need[p] + (all && k + 1 < it->n);

                best = (all ? n > best : n < best) ? n : best;
                e = all ? e && empty[p] : e || empty[p];
            }
            if (it->kind == INFER_ITEM_BYTES || it->kind == INFER_ITEM_TEXT) {
                best = 0;
            } else if (!group) {
                const bool again = it->kind == INFER_ITEM_REPEAT;

                best = again && it->b == 0 ? 0 : need[it->a] + again;
                e = empty[it->a] || (again && it->b == 0);
            }
            if (best > INFER_GRAMMAR_MAX_DEPTH)
                best = never;
            changed = changed || best != need[i] || e != empty[i];
            need[i] = best;
            empty[i] = e;
        }
    }
    for (uint32_t i = 1; i < g->n_items; i++) {
        assert_int_equal(g->items[i].need, need[i]);
        assert_int_equal(g->items[i].nullable, empty[i]);
    }
    free(need);
    free(empty);
}

static uint32_t random_below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

static uint32_t random_item(struct infer_grammar *g, uint64_t *seed)
{
    const uint32_t n = random_below(seed, 4), from = random_below(seed, 4);
    uint32_t parts[3];

    /* mostly near ones, so that chains become long */
    for (uint32_t k = 0; k < 3; k++)
        parts[k] = from == 0 || g->n_items < 6
                       ? 1 + random_below(seed, g->n_items - 1)
                       : g->n_items - 1 - random_below(seed, 4);
    switch (random_below(seed, 5)) {
    case 0:
        return infer_grammar_choice(g, parts, n < 2 ? 2 : n);
    case 1:
        return infer_grammar_repeat(g, parts[0], n, n + 1);
    default:
        return infer_grammar_sequence(g, parts, n == 1 ? 2 : n);
    }
}

/* Rules that refer back and forth, chains deeper than a stack. */
static void test_derive(void **state)
{
    (void)state;
    for (uint64_t seed = 1, s = 1; seed <= 300; seed++, s = seed) {
        struct infer_grammar *g = fresh();
        uint32_t rules[20];

        for (uint32_t i = 0; i < 20; i++)
            rules[i] = infer_grammar_rule(g);
        infer_grammar_text(g, "a", 1);
        for (uint32_t i = 0; i < 10 + seed * 3; i++)
            random_item(g, &s);
        for (uint32_t i = 0; i < 20; i++)
            infer_grammar_define(g, rules[i],
                                 21 + random_below(&s, g->n_items - 21));
        infer_grammar_finish(g, g->n_items - 1, NULL, NULL);
        same_as_passes(g);
        infer_grammar_free(g);
    }
}

/* ---- matching ------------------------------------------------------------ */

static struct infer_grammar *compile(const char *schema)
{
    struct infer_grammar *g = NULL;
    struct infer_error err = {0};
    cJSON *root = cJSON_Parse(schema);

    assert_non_null(root);
    if (schema_compile(&g, root, &err) != 0)
        fail_msg("%s: %s", schema, err.text);
    cJSON_Delete(root);
    return g;
}

static bool allowed(const uint64_t *mask, int32_t id)
{
    return mask[id / 64] >> id % 64 & 1;
}

/* Whether all bytes of a token are allowed after a text, one by one. */
static bool brute(struct infer_matcher *m, const struct infer_grammar *g,
                  const int32_t *text, uint32_t n, int32_t id)
{
    struct infer_match match = {.grammar = g};
    int32_t all[512];
    size_t len;
    const char *bytes = infer_tokenizer_bytes(tok, id, false, &len);

    memcpy(all, text, n * sizeof(*text));
    for (size_t i = 0; i < len; i++) {
        const int32_t byte = 3 + (uint8_t)bytes[i];

        if (!allowed(infer_matcher_mask(m, &match, all, n), byte))
            return false;
        all[n++] = byte;
    }
    return true;
}

/* Write a text by allowed tokens at random; what is allowed is compared with
 * the brute force, but where counts are rounded it may only be less. */
static void wander(struct infer_matcher *m, const struct infer_grammar *g,
                   uint64_t seed, bool exact)
{
    struct infer_match match = {.grammar = g};
    int32_t text[512];
    uint32_t n = 0;

    while (n < 200 && !match.final) {
        uint64_t mask[16];
        const uint64_t *now = infer_matcher_mask(m, &match, text, n);
        uint32_t count = 0, pick;

        memcpy(mask, now, (n_vocab + 63) / 64 * sizeof(*mask));
        assert_int_equal(allowed(mask, EOS), match.complete);
        for (int32_t id = 3; id < (int32_t)n_vocab; id++) {
            count += allowed(mask, id);
            if (n < 40 && id >= 259) {
                const bool want = brute(m, g, text, n, id);

                assert_true(want || !allowed(mask, id));
                if (exact)
                    assert_int_equal(allowed(mask, id), want);
            }
        }
        assert_true(count > 0 || match.complete);
        if (count == 0 || (match.complete && random_below(&seed, 4) == 0))
            return;
        pick = random_below(&seed, count);
        for (int32_t id = 3; id < (int32_t)n_vocab; id++)
            if (allowed(mask, id) && pick-- == 0)
                text[n++] = id;
        infer_matcher_take(m, &match, text, n);
    }
}

static const struct {
    const char *schema;
    bool exact;
} schemas[] = {
    {"{}", true},
    {"{\"type\":\"string\"}", true},
    {"{\"type\":\"string\",\"maxLength\":9}", false},
    {"{\"type\":\"string\",\"minLength\":100,\"maxLength\":120}", false},
    {"{\"type\":\"string\",\"pattern\":\"^a{0,8}$\"}", false},
    {"{\"type\":\"string\",\"pattern\":\"aa\"}", true},
    {"{\"type\":\"number\",\"minimum\":-1.5,\"maximum\":123.25}", true},
    {"{\"enum\":[\"a\",\"aa\",\"aaa\",12,123,true,\"\u00e9\"]}", true},
    {"{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{}}}", true},
    {"{\"properties\":{\"a\":{},\"aa\":{\"type\":\"integer\"}},"
     "\"additionalProperties\":{\"type\":\"boolean\"}}",
     true},
};

static struct infer_matcher *new_matcher(void)
{
    struct infer_matcher *m = NULL;

    assert_int_equal(infer_matcher_create(&m, tok, n_vocab, 8, NULL), 0);
    assert_int_equal(infer_matcher_check(m, NULL), 0);
    return m;
}

static void test_masks(void **state)
{
    struct infer_matcher *m = new_matcher();

    (void)state;
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        struct infer_grammar *g = compile(schemas[i].schema);

        for (uint64_t seed = 1; seed <= 2; seed++)
            wander(m, g, seed, schemas[i].exact);
        infer_grammar_free(g);
    }
    infer_matcher_free(m);
}

/* What is allowed does not depend on what the matcher has seen before: many
 * grammars, so that the arenas are emptied, between two equal questions. */
static void test_no_memory(void **state)
{
    struct infer_grammar *g = compile("{\"type\":\"array\"}"), *other;
    struct infer_matcher *used = new_matcher();
    uint64_t seed = 9;

    (void)state;
    for (int round = 0; round < 8; round++) {
        struct infer_match a = {.grammar = g}, b = {.grammar = g};
        struct infer_matcher *clean = new_matcher();
        int32_t text[64] = {3 + '['};
        uint32_t n = 1;

        for (int i = 0; i < 150; i++) { /* 1024 grammars are remembered */
            struct infer_match first = {0};

            other = compile("{\"type\":\"boolean\"}");
            first.grammar = other;
            infer_matcher_mask(used, &first, NULL, 0);
            infer_grammar_free(other);
        }
        while (n < 60) {
            const uint64_t *x = infer_matcher_mask(used, &a, text, n);
            const uint64_t *y = infer_matcher_mask(clean, &b, text, n);
            int32_t id;

            assert_memory_equal(x, y, (n_vocab + 63) / 64 * sizeof(*x));
            do
                id = 3 + (int32_t)random_below(&seed, 256);
            while (!allowed(y, id));
            text[n++] = id;
            infer_matcher_take(clean, &b, text, n);
            infer_matcher_take(used, &a, text, n);
            if (b.final)
                break;
        }
        infer_matcher_free(clean);
    }
    infer_grammar_free(g);
    infer_matcher_free(used);
}

/* ---- the vocabulary ------------------------------------------------------ */

static void put_key(struct image *im, const char *name, uint32_t type)
{
    image_str(im, name, strlen(name));
    image_u32(im, type);
}

static void put_array(struct image *im, const char *name, uint32_t type)
{
    put_key(im, name, INFER_GGUF_ARRAY);
    image_u32(im, type);
    image_u64(im, n_vocab);
}

static int setup(void **state)
{
    static const char *const control[] = {"<unk>", "<s>", "</s>"};
    const uint32_t types[] = {2, 3, 3};
    struct image im = {0};
    struct infer_gguf *g;
    char name[8];

    (void)state;
    n_vocab = (uint32_t)(3 + 256 + sizeof(longer) / sizeof(longer[0]));
    image_put(&im, "GGUF\3\0\0\0", 8);
    image_u64(&im, 0);
    image_u64(&im, 4);
    put_key(&im, "tokenizer.ggml.model", INFER_GGUF_STRING);
    image_str(&im, "llama", 5);
    put_array(&im, "tokenizer.ggml.tokens", INFER_GGUF_STRING);
    for (uint32_t i = 0; i < n_vocab; i++) {
        const char *text = i < 3     ? control[i]
                           : i < 259 ? name
                                     : longer[i - 259];

        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)(i - 3) & 255);
        image_str(&im, text, strlen(text));
    }
    put_array(&im, "tokenizer.ggml.scores", INFER_GGUF_F32);
    for (uint32_t i = 0; i < n_vocab; i++)
        image_u32(&im, 0);
    put_array(&im, "tokenizer.ggml.token_type", INFER_GGUF_I32);
    for (uint32_t i = 0; i < n_vocab; i++)
        image_u32(&im, i < 3 ? types[i] : i < 259 ? 6 : 1);
    image_pad(&im, 32);
    g = image_open(&im);
    assert_int_equal(infer_tokenizer_create(&tok, g, NULL), 0);
    infer_gguf_close(g);
    image_free(&im);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    infer_tokenizer_free(tok);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checks), cmocka_unit_test(test_long_chain),
        cmocka_unit_test(test_sets),   cmocka_unit_test(test_derive),
        cmocka_unit_test(test_masks),  cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
