/* hf_folder.c - see hf_folder.h. */
#include "tests/hf_folder.h"

#include "tests/oracle.h"

#include "core/tokenizer/tokenizer.h"
#include "trainer/hf/convert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_IDS = 1024, ROOM = 512 };

char hf_folder[64], hf_back[128];

const char *hf_in(const char *name)
{
    static char path[2][ROOM];
    static int turn;

    turn = !turn;
    snprintf(path[turn], ROOM, "%s/%s", hf_folder, name);
    return path[turn];
}

int hf_make_folder(void **state)
{
    (void)state;
    strcpy(hf_folder, "/tmp/infer-hf-XXXXXX");
    if (!mkdtemp(hf_folder))
        return -1;
    snprintf(hf_back, sizeof(hf_back), "%s/back.gguf", hf_folder);
    return 0;
}

int hf_remove_folder(void **state)
{
    DIR *dir = opendir(hf_folder);
    const struct dirent *d;

    (void)state;
    while (dir && (d = readdir(dir)) != NULL)
        unlink(hf_in(d->d_name));
    if (dir)
        closedir(dir);
    return rmdir(hf_folder);
}

void hf_export_oracle(const char *name)
{
    char path[ROOM];
    struct hf_report r;
    struct infer_error err;

    snprintf(path, sizeof(path), ORACLE "/%s", name);
    if (hf_export(path, hf_folder, &r, &err))
        fail_msg("%s: %s", name, err.text);
}

struct infer_gguf *hf_open(const char *path)
{
    struct infer_gguf *g = NULL;
    struct infer_error err;

    if (infer_gguf_open(&g, path, &err))
        fail_msg("%s", err.text);
    return g;
}

void hf_same_array(const struct infer_gguf *a, const struct infer_gguf *b,
                   const char *key)
{
    struct infer_gguf_array x, y;
    const int status = infer_gguf_get_array(a, key, &x, NULL);

    if (status == 1)
        return;
    assert_int_equal(infer_gguf_get_array(b, key, &y, NULL), 0);
    assert_int_equal(x.n, y.n);
    assert_int_equal(x.type, y.type);
    for (uint64_t i = 0; i < x.n && x.strs; i++)
        if (x.strs[i].len != y.strs[i].len ||
            memcmp(x.strs[i].data, y.strs[i].data, (size_t)x.strs[i].len) != 0)
            fail_msg("%s: element %llu differs", key, (unsigned long long)i);
    if (!x.strs)
        assert_memory_equal(x.data, y.data, (size_t)x.n * 4);
}

void hf_same_vocab(const struct infer_gguf *a, const struct infer_gguf *b)
{
    hf_same_array(a, b, "tokenizer.ggml.tokens");
    hf_same_array(a, b, "tokenizer.ggml.token_type");
    hf_same_array(a, b, "tokenizer.ggml.scores");
    hf_same_array(a, b, "tokenizer.ggml.merges");
}

/* Texts of the cases become the same ids. */
void hf_same_ids(const char *name, const struct infer_gguf *g)
{
    struct infer_tokenizer *t = NULL;
    struct infer_error err;
    const cJSON *prompt;
    char path[ROOM];
    size_t n_texts = 0;
    cJSON *cases;

    if (infer_tokenizer_create(&t, g, &err))
        fail_msg("%s: %s", name, err.text);
    snprintf(path, sizeof(path), ORACLE "/%s", name);
    cases = oracle_cases(path);
    cJSON_ArrayForEach (prompt, cJSON_GetObjectItem(cases, "prompts")) {
        const cJSON *text = cJSON_GetObjectItem(prompt, "text");
        struct infer_tokens got;
        int32_t ids[MAX_IDS];
        size_t n;

        if (!cJSON_IsString(text))
            continue;
        n = oracle_ids(prompt, "ids", ids, MAX_IDS);
        assert_int_equal(infer_tokenizer_encode(t, text->valuestring,
                                                strlen(text->valuestring), true,
                                                false, &got, &err),
                         0);
        assert_int_equal(got.n, n);
        assert_memory_equal(got.ids, ids, n * sizeof(*ids));
        infer_tokens_release(&got);
        n_texts++;
    }
    assert_true(n_texts > 0);
    infer_tokenizer_free(t);
    cJSON_Delete(cases);
}

void hf_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void hf_write_json(const char *name, cJSON *root)
{
    char *text = cJSON_Print(root);

    assert_non_null(text);
    hf_write(hf_in(name), text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(root);
}

void hf_import_fails(int status, const char *says, const char *what)
{
    struct hf_report r;
    struct infer_error err = {0};
    const int got = hf_import(hf_folder, hf_in("never.gguf"), -1, &r, &err);

    if (got != status || !strstr(err.text, says))
        fail_msg("%s: status %d, '%s'", what, got, err.text);
    assert_int_not_equal(access(hf_in("never.gguf"), F_OK), 0);
    assert_int_not_equal(access(hf_in("never.gguf.unchecked"), F_OK), 0);
}
