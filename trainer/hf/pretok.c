/* pretok.c - see pretok.h. */
#include "trainer/hf/pretok.h"

#include <string.h>

/* As the families publish them; they differ in what makes a number. */
#define LLAMA3(digits)                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits       \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct hf_pretok known[] = {
    {.pre = "gpt-2"},
    {.pre = "llama-bpe", .split = LLAMA3("\\p{N}{1,3}"), .ignore_merges = true},
    {.pre = "smaug-bpe", .split = LLAMA3("\\p{N}{1,3}")},
    {.pre = "qwen2", .split = LLAMA3("\\p{N}"), .nfc = true},
    {.pre = "stablelm2", .split = LLAMA3("\\p{N}")},
    {.pre = "smollm", .digits = true},
};

enum { N_KNOWN = sizeof(known) / sizeof(*known) };

const struct hf_pretok *hf_pretok_find(const char *pre, size_t len)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strlen(known[i].pre) == len && memcmp(known[i].pre, pre, len) == 0)
            return &known[i];
    return NULL;
}

/* ---- reading --------------------------------------------------------------
 */

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static bool is_type(const cJSON *o, const char *type)
{
    const cJSON *v = get(o, "type");

    return cJSON_IsString(v) && strcmp(v->valuestring, type) == 0;
}

/* What one step of the pre-tokenizer adds to what is known; false: unknown. */
static bool add_step(struct hf_pretok *p, const cJSON *step, bool *bytes)
{
    const cJSON *regex = get(get(step, "pattern"), "Regex");
    const cJSON *behavior = get(step, "behavior");

    if (*bytes)
        return false;
    if (is_type(step, "ByteLevel")) {
        const cJSON *use = get(step, "use_regex");

        *bytes = true;
        return !cJSON_IsTrue(get(step, "add_prefix_space")) &&
               cJSON_IsFalse(use) == (p->split != NULL);
    }
    if (is_type(step, "Digits")) {
        p->digits = true;
        return cJSON_IsTrue(get(step, "individual_digits")) && !p->split;
    }
    if (!is_type(step, "Split") || !cJSON_IsString(regex) || p->split ||
        p->digits || !cJSON_IsString(behavior) ||
        strcmp(behavior->valuestring, "Isolated") != 0 ||
        cJSON_IsTrue(get(step, "invert")))
        return false;
    p->split = regex->valuestring;
    return true;
}

/* No normalizer, or NFC alone. */
static bool read_normalizer(const cJSON *n, bool *nfc)
{
    const cJSON *list = get(n, "normalizers");

    *nfc = false;
    if (!n || cJSON_IsNull(n))
        return true;
    if (is_type(n, "Sequence") && cJSON_GetArraySize(list) <= 1) {
        n = cJSON_GetArrayItem(list, 0);
        if (!n)
            return true;
    }
    *nfc = is_type(n, "NFC");
    return *nfc;
}

static bool same_split(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

const struct hf_pretok *hf_pretok_match(const cJSON *tokenizer,
                                        const char **why)
{
    const cJSON *pre = get(tokenizer, "pre_tokenizer");
    const cJSON *steps = get(pre, "pretokenizers"), *step;
    struct hf_pretok p = {.ignore_merges = cJSON_IsTrue(
                              get(get(tokenizer, "model"), "ignore_merges"))};
    bool bytes = false, good = true;

    *why = "its normalizer";
    if (!read_normalizer(get(tokenizer, "normalizer"), &p.nfc))
        return NULL;
    *why = "its pre_tokenizer";
    if (is_type(pre, "Sequence")) {
        cJSON_ArrayForEach (step, steps)
            good = good && add_step(&p, step, &bytes);
    } else {
        good = add_step(&p, pre, &bytes);
    }
    if (!good || !bytes)
        return NULL;
    for (size_t i = 0; i < N_KNOWN; i++)
        if (same_split(known[i].split, p.split) &&
            known[i].digits == p.digits && known[i].nfc == p.nfc &&
            known[i].ignore_merges == p.ignore_merges)
            return &known[i];
    return NULL;
}

/* ---- writing --------------------------------------------------------------
 */

static cJSON *byte_level(bool use_regex)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "type", "ByteLevel");
    cJSON_AddFalseToObject(o, "add_prefix_space");
    cJSON_AddTrueToObject(o, "trim_offsets");
    cJSON_AddBoolToObject(o, "use_regex", use_regex);
    return o;
}

cJSON *hf_pretok_json(const struct hf_pretok *p)
{
    cJSON *all, *steps, *step, *pattern;

    if (!p->split && !p->digits)
        return byte_level(true);
    all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "type", "Sequence");
    steps = cJSON_AddArrayToObject(all, "pretokenizers");
    step = cJSON_CreateObject();
    if (p->digits) {
        cJSON_AddStringToObject(step, "type", "Digits");
        cJSON_AddTrueToObject(step, "individual_digits");
    } else {
        cJSON_AddStringToObject(step, "type", "Split");
        pattern = cJSON_AddObjectToObject(step, "pattern");
        cJSON_AddStringToObject(pattern, "Regex", p->split);
        cJSON_AddStringToObject(step, "behavior", "Isolated");
        cJSON_AddFalseToObject(step, "invert");
    }
    cJSON_AddItemToArray(steps, step);
    cJSON_AddItemToArray(steps, byte_level(p->digits));
    return all;
}
