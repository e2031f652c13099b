/*
 * auth.c - API keys: who may use what, and how much of it.
 *
 * Comparing with every key, over the full length, keeps the time from telling
 * how much of a guess was right. Rates are buckets that refill evenly; tokens
 * are charged when a request is over, since nobody knows the number before, so
 * that bucket may go below zero and then has to recover.
 */
#include "server/auth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEY_BYTES = 256 };

int keys_init(struct keys *keys, const struct config *c,
              struct infer_error *err)
{
    keys->n = c->n_api_keys;
    if (keys->n == 0)
        return 0;
    keys->items = calloc(keys->n, sizeof(*keys->items));
    if (!keys->items)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    for (size_t i = 0; i < keys->n; i++) {
        struct key *k = &keys->items[i];

        k->config = &c->api_keys[i];
        k->index = (uint32_t)i;
        k->requests = (double)k->config->rate;
        k->tokens = (double)k->config->tokens;
        k->refilled_ns = infer_clock_ns();
    }
    return 0;
}

void keys_release(struct keys *keys)
{
    free(keys->items);
    keys->items = NULL;
    keys->n = 0;
}

static bool same_key(const char *configured, const char guess[KEY_BYTES])
{
    char padded[KEY_BYTES] = {0};
    unsigned char differ = 0;

    memcpy(padded, configured, strlen(configured));
    for (size_t i = 0; i < KEY_BYTES; i++)
        differ |= (unsigned char)(padded[i] ^ guess[i]);
    explicit_bzero(padded, sizeof(padded));
    return differ == 0;
}

struct key *keys_find(struct keys *keys, const char *authorization)
{
    char guess[KEY_BYTES] = {0};
    struct key *found = NULL;
    size_t len;

    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    authorization += 7;
    while (*authorization == ' ')
        authorization++;
    len = strlen(authorization);
    if (len == 0 || len >= KEY_BYTES)
        return NULL;
    memcpy(guess, authorization, len);
    for (size_t i = 0; i < keys->n; i++)
        if (same_key(keys->items[i].config->key, guess))
            found = &keys->items[i];
    explicit_bzero(guess, sizeof(guess));
    return found;
}

static bool listed(const struct strings *list, const char *text)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return list->n == 0;
}

bool key_allows_route(const struct key *k, const char *path)
{
    return !k || listed(&k->config->routes, path);
}

bool key_allows_model(const struct key *k, const char *model)
{
    return !k || listed(&k->config->models, model);
}

static void refill(double *bucket, int64_t per_minute, double seconds)
{
    *bucket += seconds * (double)per_minute / 60;
    if (*bucket > (double)per_minute)
        *bucket = (double)per_minute;
}

/* Seconds until a bucket of so many a minute has gained `missing`. */
static unsigned seconds_until(double missing, int64_t per_minute)
{
    const double s = ceil(missing * 60 / (double)per_minute);

    return s < 1 ? 1 : s > 3600 ? 3600 : (unsigned)s;
}

unsigned key_take(struct key *k, uint64_t now_ns, const char **what)
{
    const struct key_config *c = k->config;
    const double seconds = (double)(now_ns - k->refilled_ns) * 1e-9;

    k->refilled_ns = now_ns;
    refill(&k->requests, c->rate, seconds);
    refill(&k->tokens, c->tokens, seconds);
    if (c->concurrency && k->active >= c->concurrency) {
        *what = "concurrency";
        return 1;
    }
    if (c->rate && k->requests < 1) {
        *what = "rate";
        return seconds_until(1 - k->requests, c->rate);
    }
    if (c->tokens && k->tokens <= 0) {
        *what = "token budget";
        return seconds_until(1 - k->tokens, c->tokens);
    }
    if (c->rate)
        k->requests -= 1;
    return 0;
}

void key_charge(struct key *k, uint64_t n_tokens)
{
    if (k && k->config->tokens)
        k->tokens -= (double)n_tokens;
}
