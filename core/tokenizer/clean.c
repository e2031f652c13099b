/*
 * clean.c - drop the spaces that word-wise tokenizers leave before
 * punctuation and contractions.
 *
 * Vocabularies of the gpt-2 kind are decoded with this clean-up by the
 * reference (it comes from the "clean_up_tokenization_spaces" of the models'
 * own configuration), so a whole decode does the same: three passes, since
 * each sees what the one before left.
 */
#include "core/tokenizer/clean.h"

#include <string.h>

/* "a ?" → "a?" */
static size_t before_punctuation(char *s, size_t n)
{
    size_t used = 0;
    char last = 0;

    for (size_t i = 0; i < n; i++) {
        const char c = s[i];

        if (last == ' ' && (c == '?' || c == '!' || c == '.' || c == ','))
            used--;
        s[used++] = c;
        last = c;
    }
    return used;
}

/* "a ' b" → "a'b" */
static size_t around_apostrophe(char *s, size_t n)
{
    size_t used = 0;
    char last = 0;

    for (size_t i = 0; i < n; i++) {
        char c = s[i];

        if (last == ' ' && c == '\'' && i + 1 < n && s[i + 1] == ' ') {
            used--;
            i++; /* the space behind it, which starts nothing new */
            s[used++] = c;
            c = 0;
        } else {
            s[used++] = c;
        }
        last = c;
    }
    return used;
}

/* rest follows an apostrophe; 't, 'd and 'll keep their space */
static int contraction(const char *rest, size_t n)
{
    if (n >= 1 && (rest[0] == 's' || rest[0] == 'm'))
        return 1;
    return n >= 2 && (memcmp(rest, "re", 2) == 0 || memcmp(rest, "ve", 2) == 0);
}

/* "it 's" → "it's" */
static size_t before_contraction(char *s, size_t n)
{
    size_t used = 0;
    char last = 0;

    for (size_t i = 0; i < n; i++) {
        const char c = s[i];

        if (last == ' ' && c == '\'' && contraction(s + i + 1, n - i - 1))
            used--;
        s[used++] = c;
        last = c;
    }
    return used;
}

size_t infer_clean_spaces(char *s, size_t n)
{
    n = before_punctuation(s, n);
    n = around_apostrophe(s, n);
    return before_contraction(s, n);
}
