/*
 * test_tokenizer_text.c - the parts of the tokenizers that need no vocabulary:
 * pre-tokenizer patterns, the clean-up of decoded text, cutting UTF-8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/tokenizer/clean.h"
#include "core/tokenizer/pretok.h"

#include <string.h>

static int join_word(void *ctx, const char *word, size_t len)
{
    char *joined = ctx;

    if (*joined)
        strcat(joined, "|");
    strncat(joined, word, len);
    return 0;
}

static void test_pretok(void **state)
{
    static const struct {
        const char *name, *text, *words;
    } cases[] = {
        {"gpt-2", "I'll eat 12345 eggs!!  ok \n",
         "I|'ll| eat| 12345| eggs|!!| | ok| \n"},
        {"gpt-2", "I'LL", "I|'|LL"},
        {"gpt-2",
         "a\xe1\xa0\x8e"
         "b\xc2\x85",
         "a|\xe1\xa0\x8e|b|\xc2\x85"},
        {"llama-bpe", "I'LL eat 12345 eggs!!\n\n  ok",
         "I|'LL| eat| |123|45| eggs|!!\n\n| | ok"},
        {"llama-bpe", "(x)\t y \n z", "(x|)|\t| y| \n| z"},
        {"qwen2", "v12.5 x", "v|1|2|.|5| x"},
        {"smollm", "v12 x", "v|1|2| x"},
        {"default", "v1234, x<y", "v|123|4|,| x|<|y"},
        {"falcon", "v1234, x`y", "v|123|4|,| x|`|y"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct infer_pretok_rule *rule =
            infer_pretok_find(cases[i].name, strlen(cases[i].name));
        struct infer_pretok *p = NULL;
        char joined[256] = "";

        assert_non_null(rule);
        assert_int_equal(infer_pretok_create(&p, rule, NULL), 0);
        assert_int_equal(infer_pretok_split(p, cases[i].text,
                                            strlen(cases[i].text), join_word,
                                            joined, NULL),
                         0);
        assert_string_equal(joined, cases[i].words);
        infer_pretok_free(p);
    }
    assert_null(infer_pretok_find("gpt", 3));
    assert_null(infer_pretok_find("", 0));
    assert_null(infer_pretok_find("gpt-2 phi-2", 11));
}

static void test_clean_spaces(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {" ", " "},
        {" ?", "?"},
        {"a  , b", "a , b"},
        {"a ' b", "a'b"},
        {"a ' ' b", "a'' b"},
        {"it 's we 're I 've he 'll I 'd don 't I 'm",
         "it's we're I've he 'll I 'd don 't I'm"},
        {"a 'r", "a 'r"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char s[80];
        size_t n;

        strcpy(s, cases[i][0]);
        n = infer_clean_spaces(s, strlen(s));
        s[n] = '\0';
        assert_string_equal(s, cases[i][1]);
    }
}

static void test_utf8_complete(void **state)
{
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"a\xc3", 1},
        {"a\xc3\xa9", 3},
        {"a\xe2\x82", 1},
        {"a\xe2\x82\xac", 4},
        {"\xf0", 0},
        {"\xf0\x9f\x98", 0},
        {"\xf0\x9f\x98\x80", 4},
        {"\xf0\x80", 2},          /* overlong: already invalid */
        {"\xed\xa0", 2},          /* surrogate */
        {"\xf4\x90", 2},          /* above U+10FFFF */
        {"\xff", 1},              /* never starts anything */
        {"\xc3\xa9\x80", 3},      /* stray continuation */
        {"a\x80\x80\x80\x80", 5}, /* no lead in reach */
        {"\xe2\x82\xac\xe2", 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(
            infer_utf8_complete(cases[i].text, strlen(cases[i].text)),
            cases[i].complete);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretok),
        cmocka_unit_test(test_clean_spaces),
        cmocka_unit_test(test_utf8_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
