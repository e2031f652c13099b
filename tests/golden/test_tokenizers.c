/*
 * test_tokenizers.c - the tokenizers against llama.cpp's, case by case.
 *
 * ../shared/oracle/tokenizers holds texts with llama.cpp's ids, its decoding,
 * the bytes of tokens, and its ids for bytes that are not UTF-8. The model
 * files of the oracle have small vocabularies of their own, with a few texts
 * each. All must be equal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/tokenizer/clean.h"
#include "core/tokenizer/tokenizer.h"

#include <cjson/cJSON.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORACLE       "../shared/oracle/"
#define NUL_STAND_IN "\xef\x97\x97" /* U+F5D7: cJSON cannot hold a U+0000 */

struct bytes {
    char *data; /* malloc'd */
    size_t len;
};

static int n_checked;

static struct bytes read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct bytes b = {0};

    if (!f)
        return b;
    fseek(f, 0, SEEK_END);
    b.len = (size_t)ftell(f);
    rewind(f);
    b.data = malloc(b.len + 1);
    assert_non_null(b.data);
    assert_int_equal(fread(b.data, 1, b.len, f), b.len);
    b.data[b.len] = '\0';
    fclose(f);
    return b;
}

/* "\u0000" → "\uf5d7", where the backslash is not itself escaped */
static void hide_nul(char *json)
{
    for (char *p = json; *p; p++) {
        if (*p != '\\')
            continue;
        if (strncmp(p, "\\u0000", 6) == 0)
            memcpy(p, "\\uf5d7", 6);
        p++;
    }
}

/* A JSON string with its U+0000 back in place. */
static struct bytes string_of(const cJSON *item)
{
    struct bytes b = {strdup(item->valuestring), strlen(item->valuestring)};

    for (size_t i = 0; i + 3 <= b.len; i++)
        if (memcmp(b.data + i, NUL_STAND_IN, 3) == 0) {
            b.data[i] = '\0';
            memmove(b.data + i + 1, b.data + i + 3, b.len - i - 2);
            b.len -= 2;
        }
    return b;
}

static struct bytes hex_of(const cJSON *item)
{
    const char *s = item->valuestring;
    struct bytes b = {malloc(strlen(s) / 2 + 1), strlen(s) / 2};

    for (size_t i = 0; i < b.len; i++) {
        unsigned byte;

        assert_int_equal(sscanf(s + 2 * i, "%2x", &byte), 1);
        b.data[i] = (char)byte;
    }
    return b;
}

/* The lines of a .jsonl file as one array; NULL: no such file. */
static cJSON *read_lines(const char *path)
{
    struct bytes b = read_file(path);
    cJSON *all;
    char *line, *rest = b.data;

    if (!b.data)
        return NULL;
    hide_nul(b.data);
    all = cJSON_CreateArray();
    while ((line = strsep(&rest, "\n")) != NULL) {
        cJSON *item;

        if (!*line)
            continue;
        item = cJSON_Parse(line);
        assert_non_null(item);
        cJSON_AddItemToArray(all, item);
    }
    free(b.data);
    return all;
}

static struct infer_tokenizer *open_vocab(const char *path)
{
    struct infer_error err = {0};
    struct infer_tokenizer *t = NULL;
    struct infer_gguf *g = NULL;

    if (infer_gguf_open(&g, path, &err) != 0 ||
        infer_tokenizer_create(&t, g, &err) != 0)
        fail_msg("%s: %s", path, err.text);
    infer_gguf_close(g);
    return t;
}

static void print_ids(const char *what, const int32_t *ids, size_t n)
{
    print_error("%s (%zu):", what, n);
    for (size_t i = 0; i < n && i < 40; i++)
        print_error(" %d", ids[i]);
    print_error("\n");
}

/* Encode and compare; says what differs. */
static bool same_ids(const struct infer_tokenizer *t, struct bytes text,
                     bool special, bool parse, const int32_t *want, size_t n)
{
    struct infer_error err = {0};
    struct infer_tokens got = {0};
    bool same;

    if (infer_tokenizer_encode(t, text.data, text.len, special, parse, &got,
                               &err) != 0)
        fail_msg("%s", err.text);
    same = got.n == n && (n == 0 || memcmp(got.ids, want, n * 4) == 0);
    n_checked++;
    if (!same) {
        print_error("text: %.*s\n", (int)(text.len < 200 ? text.len : 200),
                    text.data);
        print_ids("want", want, n);
        print_ids("got", got.ids, got.n);
    }
    infer_tokens_release(&got);
    return same;
}

static int32_t *ids_of(const cJSON *array, size_t *n)
{
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(array) + 1, 4);
    const cJSON *item;

    *n = 0;
    assert_non_null(ids);
    cJSON_ArrayForEach (item, array)
        ids[(*n)++] = item->valueint;
    return ids;
}

static int check_ids(const struct infer_tokenizer *t, struct bytes text,
                     bool special, bool parse, const cJSON *array)
{
    size_t n;
    int32_t *want = ids_of(array, &n);
    const bool same = same_ids(t, text, special, parse, want, n);

    free(want);
    return !same;
}

/* What the stream gives for all ids, in one piece. */
static struct bytes stream(const struct infer_tokenizer *t, const int32_t *ids,
                           size_t n)
{
    struct infer_decoder d;
    struct bytes all = {malloc(64 * n + 4096), 0};

    infer_decoder_init(&d, t);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *s = infer_decoder_feed(&d, ids[i], &len);

        memcpy(all.data + all.len, s, len);
        all.len += len;
    }
    return all;
}

static int check_decode(const struct infer_tokenizer *t, const cJSON *array,
                        struct bytes want, bool cleans)
{
    struct infer_error err;
    struct bytes got, parts;
    size_t n;
    int32_t *ids = ids_of(array, &n);
    int bad;

    assert_int_equal(
        infer_tokenizer_decode(t, ids, n, false, &got.data, &got.len, &err), 0);
    bad = got.len != want.len || memcmp(got.data, want.data, want.len) != 0;
    if (bad)
        print_error("decode\nwant: %.200s\n got: %.200s\n", want.data,
                    got.data);
    parts = stream(t, ids, n);
    if (cleans)
        parts.len = infer_clean_spaces(parts.data, parts.len);
    if (parts.len != got.len || memcmp(parts.data, got.data, got.len) != 0) {
        print_error("the stream differs from: %s\n", got.data);
        bad = 1;
    }
    n_checked++;
    free(parts.data);
    free(got.data);
    free(ids);
    return bad;
}

/*
 * Spans lie in the text, in order, on whole characters; and of a vocabulary
 * that changes nothing (whole) together they are all of the text.
 */
static int check_spans(const struct infer_tokenizer *t, struct bytes text,
                       bool whole)
{
    struct infer_span *spans = NULL;
    struct infer_tokens got = {0};
    struct infer_error err = {0};
    uint32_t end = 0;
    int bad = 0;

    if (infer_tokenizer_encode_spans(t, text.data, text.len, false, false, &got,
                                     &spans, &err) != 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < got.n && !bad; i++) {
        const struct infer_span s = spans[i];

        bad = s.begin > s.end || s.end > text.len ||
              (s.begin < text.len && (text.data[s.begin] & 0xc0) == 0x80) ||
              (whole && s.begin > end);
        end = s.end > end ? s.end : end;
    }
    if (bad || (whole && end != text.len)) {
        print_error("spans of: %.*s\n", (int)text.len, text.data);
        bad = 1;
    }
    n_checked++;
    free(spans);
    infer_tokens_release(&got);
    return bad;
}

static int check_cases(const struct infer_tokenizer *t, const cJSON *cases)
{
    const cJSON *c;
    int bad = 0;

    cJSON_ArrayForEach (c, cases) {
        struct bytes text = string_of(cJSON_GetObjectItem(c, "text"));

        bad += check_ids(t, text, false, false, cJSON_GetObjectItem(c, "ids"));
        bad += check_ids(t, text, true, true,
                         cJSON_GetObjectItem(c, "ids_special"));
        bad += check_spans(t, text, infer_tokenizer_sep(t) != 102);
        free(text.data);
    }
    return bad;
}

static int check_detok(const struct infer_tokenizer *t, const cJSON *cases,
                       const cJSON *detok, bool cleans)
{
    const cJSON *d;
    int bad = 0;

    cJSON_ArrayForEach (d, detok) {
        const int i = cJSON_GetObjectItem(d, "case")->valueint;
        const cJSON *c = cJSON_GetArrayItem(cases, i);
        const cJSON *hex = cJSON_GetObjectItem(d, "hex");
        struct bytes want =
            hex ? hex_of(hex) : string_of(cJSON_GetObjectItem(c, "text"));

        bad += check_decode(t, cJSON_GetObjectItem(c, "ids"), want, cleans);
        free(want.data);
    }
    return bad;
}

static int check_pieces(const struct infer_tokenizer *t, const cJSON *pieces)
{
    const cJSON *p;
    int bad = 0;

    cJSON_ArrayForEach (p, pieces)
        for (int special = 0; special < 2; special++) {
            const int id = cJSON_GetObjectItem(p, "id")->valueint;
            struct bytes want =
                hex_of(cJSON_GetObjectItem(p, special ? "hex_special" : "hex"));
            size_t len;
            const char *got = infer_tokenizer_bytes(t, id, special, &len);

            n_checked++;
            if (len != want.len || memcmp(got, want.data, len) != 0) {
                print_error("piece %d differs\n", id);
                bad++;
            }
            free(want.data);
        }
    return bad;
}

static int check_invalid(const struct infer_tokenizer *t, const cJSON *lines)
{
    const cJSON *c;
    int bad = 0;

    cJSON_ArrayForEach (c, lines) {
        struct bytes text = hex_of(cJSON_GetObjectItem(c, "hex"));

        bad += check_ids(t, text, false, false, cJSON_GetObjectItem(c, "ids"));
        free(text.data);
    }
    return bad;
}

/* Upstream's own test strings and ids. */
static int check_upstream(const struct infer_tokenizer *t, const char *base)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[512];
    struct bytes inp, out;
    char *text, *line, *rest;
    int bad = 0;

    snprintf(path, sizeof(path), "%s.inp", base);
    inp = read_file(path);
    snprintf(path, sizeof(path), "%s.out", base);
    out = read_file(path);
    if (!inp.data || !out.data)
        goto done;
    text = inp.data;
    rest = out.data;
    while (text && (line = strsep(&rest, "\n")) != NULL) {
        char *end = strstr(text, separator);
        int32_t ids[4096];
        size_t n = 0;

        for (char *tok; (tok = strsep(&line, " ")) != NULL;)
            if (*tok)
                ids[n++] = atoi(tok);
        if (end)
            bad += !same_ids(t, (struct bytes){text, (size_t)(end - text)},
                             false, false, ids, n);
        text = end ? end + sizeof(separator) - 1 : NULL;
    }
done:
    free(inp.data);
    free(out.data);
    return bad;
}

static cJSON *oracle_lines(const char *name, const char *file)
{
    char path[512];

    snprintf(path, sizeof(path), ORACLE "tokenizers/%s/%s", name, file);
    return read_lines(path);
}

static void check_vocab(const char *name, bool cleans)
{
    cJSON *cases, *detok, *pieces, *invalid;
    struct infer_tokenizer *t;
    char path[512];
    int bad = 0;

    snprintf(path, sizeof(path), ORACLE "tokenizers/%s/ggml-vocab-%s.gguf",
             name, name);
    if (access(path, R_OK) != 0) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    t = open_vocab(path);
    cases = oracle_lines(name, "cases.jsonl");
    detok = oracle_lines(name, "detok.jsonl");
    pieces = oracle_lines(name, "pieces.jsonl");
    invalid = oracle_lines(name, "invalid_utf8.jsonl");
    bad += check_cases(t, cases);
    bad += check_detok(t, cases, detok, cleans);
    bad += check_pieces(t, pieces);
    bad += check_invalid(t, invalid);
    bad += check_upstream(t, path);
    cJSON_Delete(cases);
    cJSON_Delete(detok);
    cJSON_Delete(pieces);
    cJSON_Delete(invalid);
    infer_tokenizer_free(t);
    print_message("%s: %d checked, %d differ\n", name, n_checked, bad);
    assert_int_equal(bad, 0);
}

static void test_llama_spm(void **state)
{
    (void)state;
    check_vocab("llama-spm", false);
}

static void test_gpt2(void **state)
{
    (void)state;
    check_vocab("gpt-2", true);
}

static void test_bert(void **state)
{
    (void)state;
    check_vocab("bert-bge", true);
}

/* SentencePiece's own model file gives what the GGUF made of it gives. */
static void test_model_file(void **state)
{
    static const char path[] =
        "../shared/data/tokenizers/llama2/tokenizer.model";
    cJSON *cases = oracle_lines("llama-spm", "cases.jsonl");
    cJSON *invalid = oracle_lines("llama-spm", "invalid_utf8.jsonl");
    struct infer_tokenizer *t = NULL;
    struct infer_error err = {0};
    int bad;

    (void)state;
    if (!cases || access(path, R_OK) != 0) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    if (infer_tokenizer_load_spm(&t, path, &err) != 0)
        fail_msg("%s", err.text);
    bad = check_cases(t, cases) + check_invalid(t, invalid);
    infer_tokenizer_free(t);
    cJSON_Delete(cases);
    cJSON_Delete(invalid);
    assert_int_equal(bad, 0);
}

static int check_prompts(const char *path)
{
    struct bytes b = read_file(path);
    cJSON *all = cJSON_Parse(b.data);
    struct infer_tokenizer *t = NULL;
    const cJSON *p;
    char model[512];
    glob_t found;
    int bad = 0;

    snprintf(model, sizeof(model), "%.*s/model-*.gguf",
             (int)(strrchr(path, '/') - path), path);
    if (glob(model, 0, NULL, &found) == 0) {
        t = open_vocab(found.gl_pathv[0]);
        globfree(&found);
    }
    if (t)
        cJSON_ArrayForEach (p, cJSON_GetObjectItem(all, "prompts")) {
            const cJSON *text = cJSON_GetObjectItem(p, "text");

            if (cJSON_IsString(text))
                bad += check_ids(t,
                                 (struct bytes){text->valuestring,
                                                strlen(text->valuestring)},
                                 true, false, cJSON_GetObjectItem(p, "ids"));
        }
    infer_tokenizer_free(t);
    cJSON_Delete(all);
    free(b.data);
    return bad;
}

static void test_models(void **state)
{
    glob_t found;
    int bad = 0;

    (void)state;
    if (glob(ORACLE "*/cases.json", 0, NULL, &found) != 0) {
        print_message("skipped: no " ORACLE "\n");
        skip();
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        bad += check_prompts(found.gl_pathv[i]);
    globfree(&found);
    print_message("%d checked in all\n", n_checked);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_spm), cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_bert),      cmocka_unit_test(test_model_file),
        cmocka_unit_test(test_models),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
