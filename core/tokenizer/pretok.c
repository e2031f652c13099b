/*
 * pretok.c - the pre-tokenizer patterns of byte-level BPE, run by PCRE2.
 *
 * The patterns are the published ones of each model family, with two changes
 * that keep the words the same. White space is written out, because PCRE2's \s
 * also takes U+180E. Quantifiers that never need to give back are possessive,
 * so that a megabyte of one letter needs no backtracking stack.
 */
#include "core/tokenizer/pretok.h"

#include "core/base/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATTERNS = 4 };

/* White space, and patterns built of it. */
#define W                                                                      \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"     \
    "\\x{202f}\\x{205f}\\x{3000}"
#define LAST_SPACES "[" W "]+(?![^" W "])"
#define SPACES      "[" W "]++"

#define GPT2_WORDS                                                             \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}++| ?\\p{N}++| ?[^" W                     \
    "\\p{L}\\p{N}]++|" LAST_SPACES
#define GPT2 GPT2_WORDS "|" SPACES

/* llama3 and its relatives differ in how many digits make a number. */
#define LLAMA3(digits)                                                         \
    "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|"                   \
    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}++|" digits "| ?[^" W                         \
    "\\p{L}\\p{N}]++[\\r\\n]*+|[" W "]*[\\r\\n]+|" LAST_SPACES "|" SPACES

static const struct infer_pretok_rule rules[] = {
    {.names = "default",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]++", GPT2_WORDS, "\\p{N}++",
                  "[0-9][0-9][0-9]"},
     .clean_spaces = true},
    {.names = "gpt-2 phi-2 mpt olmo jais gigachat mellum a.x-4.0",
     .patterns = {GPT2},
     .clean_spaces = true},
    {.names = "trillion", .patterns = {GPT2}},
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2",
     .patterns = {LLAMA3("\\p{N}{1,3}")},
     .ignore_merges = true,
     .add_bos = true,
     .clean_spaces = true},
    {.names = "dbrx smaug-bpe chatglm-bpe glm4",
     .patterns = {LLAMA3("\\p{N}{1,3}")},
     .clean_spaces = true},
    {.names = "qwen2 deepseek-r1-qwen", .patterns = {LLAMA3("\\p{N}")}},
    {.names = "stablelm2 hunyuan megrez",
     .patterns = {LLAMA3("\\p{N}")},
     .clean_spaces = true},
    {.names = "smollm command-r", .patterns = {"\\p{N}", GPT2}},
    {.names = "starcoder refact codeshell exaone minerva-7b",
     .patterns = {"\\p{N}", GPT2},
     .clean_spaces = true},
    {.names = "falcon",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|`]++", GPT2_WORDS, "[0-9][0-9][0-9]"},
     .clean_spaces = true},
};

struct infer_pretok {
    pcre2_code *codes[MAX_PATTERNS];
    int n;
};

/* One word of a list separated by spaces. */
static bool listed(const char *names, const char *name, size_t len)
{
    while (*names) {
        const size_t n = strcspn(names, " ");

        if (n == len && memcmp(names, name, n) == 0)
            return true;
        names += n + (names[n] == ' ');
    }
    return false;
}

const struct infer_pretok_rule *infer_pretok_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
        if (listed(rules[i].names, name, len))
            return &rules[i];
    return NULL;
}

int infer_pretok_create(struct infer_pretok **out,
                        const struct infer_pretok_rule *rule,
                        struct infer_error *err)
{
    struct infer_pretok *p = calloc(1, sizeof(*p));

    for (int i = 0; p && i < MAX_PATTERNS && rule->patterns[i]; i++) {
        int code;
        size_t at;

        p->codes[i] =
            pcre2_compile((PCRE2_SPTR)rule->patterns[i], PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        if (!p->codes[i]) { /* the patterns are ours: only memory can lack */
            infer_pretok_free(p);
            p = NULL;
            break;
        }
        /* Refused where the system forbids it: then PCRE2 interprets. */
        (void)pcre2_jit_compile(p->codes[i], PCRE2_JIT_COMPLETE);
        p->n = i + 1;
    }
    if (!p)
        return infer_fail(err, INFER_ENOMEM,
                          "out of memory for the pre-tokenizer");
    *out = p;
    return 0;
}

void infer_pretok_free(struct infer_pretok *p)
{
    if (!p)
        return;
    for (int i = 0; i < MAX_PATTERNS; i++)
        pcre2_code_free(p->codes[i]);
    free(p);
}

struct split {
    const struct infer_pretok *p;
    pcre2_match_data *match[MAX_PATTERNS];
    infer_pretok_word *word;
    void *ctx;
    struct infer_error *err;
};

static int match(struct split *s, int level, const char *text, size_t len,
                 size_t from)
{
    const pcre2_code *code = s->p->codes[level];
    const uint32_t options = PCRE2_NO_UTF_CHECK;
    int n = pcre2_match(code, (PCRE2_SPTR)text, len, from, options,
                        s->match[level], NULL);

    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter uses the heap */
        n = pcre2_match(code, (PCRE2_SPTR)text, len, from,
                        options | PCRE2_NO_JIT, s->match[level], NULL);
    return n;
}

/* Cut by the patterns from level on: matches and what lies between them. */
static int cut(struct split *s, int level, const char *text, size_t len)
{
    size_t from = 0;

    if (level == s->p->n)
        return s->word(s->ctx, text, len);
    while (from < len) {
        const size_t *span = pcre2_get_ovector_pointer(s->match[level]);
        const int n = match(s, level, text, len, from);
        const size_t start = n > 0 ? span[0] : len;
        const size_t end = n > 0 ? span[1] : len;
        int status = 0;

        if (n < 0 && n != PCRE2_ERROR_NOMATCH)
            return infer_fail(
                s->err, n == PCRE2_ERROR_NOMEMORY ? INFER_ENOMEM : INFER_EINVAL,
                "pattern %d of the pre-tokenizer failed (%d)", level, n);
        if (start > from)
            status = cut(s, level + 1, text + from, start - from);
        if (status == 0 && end > start)
            status = cut(s, level + 1, text + start, end - start);
        if (status != 0)
            return status;
        from = end;
    }
    return 0;
}

int infer_pretok_split(const struct infer_pretok *p, const char *text,
                       size_t len, infer_pretok_word *word, void *ctx,
                       struct infer_error *err)
{
    struct split s = {.p = p, .word = word, .ctx = ctx, .err = err};
    int status = 0;

    for (int i = 0; i < p->n && status == 0; i++) {
        s.match[i] = pcre2_match_data_create(1, NULL);
        if (!s.match[i])
            status = infer_fail(err, INFER_ENOMEM,
                                "out of memory splitting %zu bytes", len);
    }
    if (status == 0)
        status = cut(&s, 0, text, len);
    for (int i = 0; i < p->n; i++)
        pcre2_match_data_free(s.match[i]);
    return status;
}
