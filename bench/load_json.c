/*
 * load_json.c - what a load test says and understands: requests out of options,
 * and token counts out of replies, native or OpenAI's.
 */
#include "bench/load.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids below this are special or single bytes in the usual vocabularies. */
enum { FIRST_ID = 300 };

/* The shared ids come first and from a stream of their own, so that prefix
 * caches see the same start; the rest differ, so that nothing else is cached.
 */
static cJSON *random_prompt(const struct load_options *opt,
                            struct bench_rng *rng)
{
    const uint32_t first = opt->n_vocab > 2 * FIRST_ID ? FIRST_ID : 3;
    struct bench_rng shared = {1};
    cJSON *ids = cJSON_CreateArray();

    for (uint32_t i = 0; i < opt->prompt_tokens; i++) {
        struct bench_rng *from = i < opt->shared_tokens ? &shared : rng;
        const uint32_t id = first + bench_rng_below(from, opt->n_vocab - first);

        cJSON_AddItemToArray(ids, cJSON_CreateNumber(id));
    }
    return ids;
}

/* Words of two letters, which the usual vocabularies have as one token. */
static cJSON *random_text(const struct load_options *opt, struct bench_rng *rng)
{
    const size_t len = 3 * (size_t)opt->prompt_tokens;
    char *text = malloc(len + 1);
    cJSON *item = NULL;

    for (size_t i = 0; text != NULL && i < len; i++)
        text[i] = (char)(i % 3 == 2 ? ' ' : 'a' + bench_rng_below(rng, 26));
    if (text != NULL) {
        text[len] = '\0';
        item = cJSON_CreateString(text);
    }
    free(text);
    return item;
}

static void add_texts(cJSON *o, const struct load_options *opt,
                      struct bench_rng *rng)
{
    cJSON *list;

    if (opt->base64)
        cJSON_AddStringToObject(o, "encoding_format", "base64");
    if (opt->n_texts == 1) {
        cJSON_AddItemToObject(o, "input", random_text(opt, rng));
        return;
    }
    list = cJSON_AddArrayToObject(o, "input");
    for (uint32_t i = 0; i < opt->n_texts; i++)
        cJSON_AddItemToArray(list, random_text(opt, rng));
}

static char *request_body(const struct load_options *opt, struct bench_rng *rng)
{
    cJSON *o = cJSON_CreateObject();
    char *text;

    if (opt->model != NULL)
        cJSON_AddStringToObject(o, "model", opt->model);
    if (opt->n_texts > 0) {
        add_texts(o, opt, rng);
        goto print;
    }
    if (opt->prompt != NULL)
        cJSON_AddStringToObject(o, "prompt", opt->prompt);
    else
        cJSON_AddItemToObject(o, "prompt", random_prompt(opt, rng));
    cJSON_AddNumberToObject(o, "max_tokens", opt->max_tokens);
    cJSON_AddNumberToObject(o, "temperature", opt->temperature);
    cJSON_AddNumberToObject(o, "seed", bench_rng_below(rng, 1u << 30));
    /* no field of OpenAI's, but both kinds of server know it: every reply must
     * have the same length for figures to compare */
    cJSON_AddBoolToObject(o, "ignore_eos", true);
    cJSON_AddBoolToObject(o, "stream", opt->stream);
    if (opt->stream) {
        cJSON *so = cJSON_AddObjectToObject(o, "stream_options");

        cJSON_AddBoolToObject(so, "include_usage", true);
        if (!opt->openai)
            cJSON_AddBoolToObject(o, "return_token_ids", true);
    }
print:
    text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

char *load_request(const struct load_options *opt, struct bench_rng *rng,
                   size_t *len)
{
    char *body = request_body(opt, rng);
    char *text = NULL;
    int n;

    if (body == NULL)
        return NULL;
    n = asprintf(&text,
                 "POST %s HTTP/1.1\r\nHost: %s\r\n%s%s%s"
                 "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                 "\r\n%s",
                 opt->url.path, opt->url.host,
                 opt->key != NULL ? "Authorization: Bearer " : "",
                 opt->key != NULL ? opt->key : "",
                 opt->key != NULL ? "\r\n" : "", strlen(body), body);
    cJSON_free(body);
    if (n < 0)
        return NULL;
    *len = (size_t)n;
    return text;
}

/* Tokens of one choice: its ids if the server lists them, else a piece of text
 * counts as one. */
static uint32_t count_choice(const cJSON *choice)
{
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(choice, "token_ids");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(choice, "text");

    if (cJSON_IsArray(ids))
        return (uint32_t)cJSON_GetArraySize(ids);
    return cJSON_IsString(text) && text->valuestring[0] != '\0' ? 1 : 0;
}

static bool read_count(const cJSON *usage, const char *name, uint64_t *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(usage, name);

    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble < 1e12))
        return false;
    *out = (uint64_t)v->valuedouble;
    return true;
}

int load_read_json(const char *text, size_t len, struct load_delta *delta)
{
    cJSON *o = cJSON_ParseWithLength(text, len);
    const cJSON *choice, *usage;

    *delta = (struct load_delta){0};
    if (!cJSON_IsObject(o)) {
        cJSON_Delete(o);
        return -1;
    }
    cJSON_ArrayForEach (choice, cJSON_GetObjectItemCaseSensitive(o, "choices"))
        delta->n_tokens += count_choice(choice);
    cJSON_ArrayForEach (choice, cJSON_GetObjectItemCaseSensitive(o, "data"))
        delta->n_tokens += cJSON_HasObjectItem(choice, "embedding") ? 1 : 0;
    usage = cJSON_GetObjectItemCaseSensitive(o, "usage");
    delta->has_usage =
        read_count(usage, "prompt_tokens", &delta->prompt_tokens) &&
        read_count(usage, "completion_tokens", &delta->completion_tokens);
    delta->error = cJSON_HasObjectItem(o, "error");
    cJSON_Delete(o);
    return 0;
}
