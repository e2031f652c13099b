/*
 * params_generate.c - the fields of the generating routes.
 *
 * They take the same fields (chat: messages for a prompt, see params_chat.c);
 * what differs is the default of max_tokens and that OpenAI's route takes
 * batches of token ids. Fields nobody here knows are ignored, but those that
 * would change the answer are refused by name: an answer that silently is not
 * what was asked for is worse than none.
 */
#include "server/params.h"
#include "server/schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    MAX_STOP_IDS = 64,
    MAX_STOP_BYTES = 1024,
    MAX_BIAS = 4096,
    MAX_LOGPROBS = 20,
    MAX_USER_BYTES = 256,
    MAX_N = 128,
    OPENAI_MAX_TOKENS = 16 /* OpenAI's own default */
};

/* ---- sampling ------------------------------------------------------------ */

/* A float of struct infer_sampling and its bounds. */
struct range {
    const char *name;
    size_t member;
    double lowest, highest;
    bool above, below; /* the bound itself is excluded */
};

static const struct range ranges[] = {
#define M(name) offsetof(struct infer_sampling, name)
    {"temperature", M(temperature), 0, 100, false, false},
    {"top_p", M(top_p), 0, 1, true, false},
    {"min_p", M(min_p), 0, 1, false, true},
    {"typical_p", M(typical_p), 0, 1, true, false},
    {"repetition_penalty", M(repetition_penalty), 0, 100, true, false},
    {"presence_penalty", M(presence_penalty), -2, 2, false, false},
    {"frequency_penalty", M(frequency_penalty), -2, 2, false, false},
#undef M
};

static bool take_range(const cJSON *root, const struct range *r,
                       struct infer_sampling *s, struct problem *p)
{
    const cJSON *v = params_field(root, r->name);
    const double x = cJSON_IsNumber(v) ? v->valuedouble : (double)NAN;
    float f;

    if (!v)
        return true;
    if (!(x >= r->lowest && x <= r->highest) || (r->above && x <= r->lowest) ||
        (r->below && x >= r->highest))
        return problem(p, 400, r->name, "%s must be a number %s %g and %s %g",
                       r->name, r->above ? "above" : "from", r->lowest,
                       r->below ? "below" : "up to", r->highest);
    f = (float)x;
    /* rounding must not move a value onto an excluded bound */
    if (r->above && f <= (float)r->lowest)
        f = nextafterf((float)r->lowest, INFINITY);
    if (r->below && f >= (float)r->highest)
        f = nextafterf((float)r->highest, -INFINITY);
    memcpy((char *)s + r->member, &f, sizeof(f));
    return true;
}

static bool take_seed(const cJSON *root, uint64_t *seed, struct problem *p)
{
    const cJSON *v = params_field(root, "seed");
    const double x = cJSON_IsNumber(v) ? v->valuedouble : (double)NAN;

    if (!v) {
        while (getrandom(seed, sizeof(*seed), GRND_NONBLOCK) < 0)
            *seed = infer_clock_ns();
        return true;
    }
    if (!(x >= -0x1p63 && x <= 0x1p64) || floor(x) != x)
        return problem(p, 400, "seed",
                       "seed must be an integer from -2^63 to 2^64-1");
    if (x < 0)
        *seed = (uint64_t)(int64_t)x;
    else
        *seed = x < 0x1p64 ? (uint64_t)x : UINT64_MAX;
    return true;
}

/* A key of logit_bias: digits only, within the vocabulary. */
static bool bias_id(const char *text, uint32_t n_vocab, int32_t *id)
{
    const size_t len = strlen(text);
    unsigned long v;

    if (len == 0 || len > 9 || strspn(text, "0123456789") != len)
        return false;
    v = strtoul(text, NULL, 10);
    *id = (int32_t)v;
    return v < n_vocab;
}

static bool take_bias(const cJSON *root, uint32_t n_vocab,
                      struct infer_sampling *s, struct problem *p)
{
    const cJSON *v = params_field(root, "logit_bias"), *item;
    struct infer_logit_bias *bias;
    const int n = cJSON_GetArraySize(v);

    if (!v)
        return true;
    if (!cJSON_IsObject(v) || n > MAX_BIAS)
        return problem(p, 400, "logit_bias",
                       "logit_bias must be an object of at most %d token ids",
                       MAX_BIAS);
    bias = calloc((size_t)n + 1, sizeof(*bias));
    if (!bias)
        return problem(p, 503, NULL, "out of memory");
    s->bias = bias;
    cJSON_ArrayForEach (item, v) {
        const double x = cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;

        if (!bias_id(item->string, n_vocab, &bias[s->n_bias].id))
            return problem(p, 400, "logit_bias",
                           "logit_bias: key '%.32s' must be a token id from 0 "
                           "to %u",
                           item->string, n_vocab - 1);
        if (!(x >= -100 && x <= 100))
            return problem(p, 400, "logit_bias",
                           "logit_bias['%.32s'] must be a number from -100 to "
                           "100",
                           item->string);
        bias[s->n_bias++].bias = (float)x;
    }
    return true;
}

static bool take_sampling(const cJSON *root, uint32_t n_vocab,
                          struct infer_sampling *s, struct problem *p)
{
    int64_t top_k = s->top_k;

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (!take_range(root, &ranges[i], s, p))
            return false;
    if (!params_int(root, "top_k", 0, INT32_MAX, &top_k, p))
        return false;
    s->top_k = (int32_t)top_k;
    return take_seed(root, &s->seed, p) && take_bias(root, n_vocab, s, p);
}

/* ---- stopping ------------------------------------------------------------ */

static bool add_stop(struct generate *g, const cJSON *v, struct problem *p)
{
    if (!cJSON_IsString(v) || !*v->valuestring ||
        strlen(v->valuestring) > MAX_STOP_BYTES)
        return problem(p, 400, "stop",
                       "stop must be a string or a list of strings of 1 to %d "
                       "bytes",
                       MAX_STOP_BYTES);
    g->stop[g->n_stop] = strdup(v->valuestring);
    if (!g->stop[g->n_stop])
        return problem(p, 503, NULL, "out of memory");
    g->n_stop++;
    return true;
}

/* turn_stop: ends every answer, whatever the request says; or NULL */
static bool take_stop(const cJSON *root, size_t max, const char *turn_stop,
                      struct generate *g, struct problem *p)
{
    const cJSON *v = params_field(root, "stop"), *item;
    const size_t n = cJSON_IsArray(v) ? (size_t)cJSON_GetArraySize(v) : 1;

    if (n > max)
        return problem(p, 400, "stop", "stop must have at most %zu strings",
                       max);
    g->stop = calloc(n + 1, sizeof(*g->stop));
    if (!g->stop)
        return problem(p, 503, NULL, "out of memory");
    if (turn_stop) {
        g->stop[0] = strdup(turn_stop);
        if (!g->stop[0])
            return problem(p, 503, NULL, "out of memory");
        g->n_stop = 1;
    }
    if (!v || (cJSON_IsString(v) && !*v->valuestring))
        return true;
    if (!cJSON_IsArray(v))
        return add_stop(g, v, p);
    cJSON_ArrayForEach (item, v) {
        if (!add_stop(g, item, p))
            return false;
    }
    return true;
}

static bool take_stop_ids(const cJSON *root, uint32_t n_vocab,
                          struct generate *g, struct problem *p)
{
    const cJSON *v = params_field(root, "stop_token_ids");

    if (v && !cJSON_IsArray(v))
        return problem(p, 400, "stop_token_ids",
                       "stop_token_ids must be a list of token ids");
    return !v || params_ids(v, "stop_token_ids", MAX_STOP_IDS, n_vocab,
                            &g->stop_ids, &g->n_stop_ids, p);
}

/* ---- prompts ------------------------------------------------------------- */

static bool text_prompt(struct prompt *t, const cJSON *v, struct problem *p)
{
    if (!*v->valuestring)
        return problem(p, 400, "prompt", "prompt must not be empty");
    t->len = strlen(v->valuestring);
    t->text = strdup(v->valuestring);
    /* for admission, until the tokenizer knows better */
    t->waiting = t->len / 4 + 1;
    return t->text || problem(p, 503, NULL, "out of memory");
}

static bool ids_prompt(struct prompt *t, const cJSON *v, uint32_t n_vocab,
                       struct problem *p)
{
    if (!params_ids(v, "prompt", SIZE_MAX, n_vocab, &t->tokens.ids,
                    &t->tokens.n, p))
        return false;
    t->waiting = t->tokens.n;
    return t->tokens.n > 0 ||
           problem(p, 400, "prompt", "prompt must not be empty");
}

static bool one_prompt(struct prompt *t, const cJSON *v, uint32_t n_vocab,
                       bool openai, struct problem *p)
{
    if (cJSON_IsString(v))
        return text_prompt(t, v, p);
    if (cJSON_IsArray(v) && openai)
        return ids_prompt(t, v, n_vocab, p);
    return problem(p, 400, "prompt",
                   openai ? "prompt must be a string, a list of strings, a "
                            "list of token ids, or a list of such lists"
                          : "prompt must be a string, a list of strings, or "
                            "a list of token ids");
}

static bool take_prompts(const struct config *c, const cJSON *root,
                         uint32_t n_vocab, struct job *job, struct problem *p)
{
    const bool openai = job->gen.shape == SHAPE_COMPLETION;
    const cJSON *v = params_field(root, "prompt"), *item;
    const bool ids = cJSON_IsArray(v) && cJSON_IsNumber(v->child);
    const bool list = cJSON_IsArray(v) && !ids;
    size_t n = list ? (size_t)cJSON_GetArraySize(v) : 1;
    struct generate *g = &job->gen;

    if (!v)
        return problem(p, 400, "prompt", "prompt is required");
    if (n == 0)
        return problem(p, 400, "prompt", "prompt must not be empty");
    if (n > (size_t)c->max_batch)
        return problem(p, 413, "prompt", "prompt must have at most %lld texts",
                       (long long)c->max_batch);
    g->prompts = calloc(n, sizeof(*g->prompts));
    if (!g->prompts)
        return problem(p, 503, NULL, "out of memory");
    g->n_prompts = n;
    for (size_t i = 0; i < n; i++) {
        g->prompts[i].job = job;
        g->prompts[i].index = (uint32_t)i;
    }
    if (ids)
        return ids_prompt(&g->prompts[0], v, n_vocab, p);
    if (!list)
        return one_prompt(&g->prompts[0], v, n_vocab, false, p);
    n = 0;
    cJSON_ArrayForEach (item, v) {
        if (!one_prompt(&g->prompts[n++], item, n_vocab, openai, p))
            return false;
    }
    return true;
}

/* ---- the rest ------------------------------------------------------------ */

/* Fields of other servers that would change the answer. */
static bool refuse_unsupported(const cJSON *root, struct problem *p)
{
    static const char *const names[] = {
        "grammar",
        "json_schema",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "logits_processors",
        "prompt_embeds",
        "truncate_prompt_tokens",
        "min_tokens",
        "bad_words",
    };
    const cJSON *suffix = params_field(root, "suffix");
    const cJSON *beam = params_field(root, "use_beam_search");

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (params_field(root, names[i]))
            return problem(p, 400, names[i], "%s is not supported", names[i]);
    if (suffix && !(cJSON_IsString(suffix) && !*suffix->valuestring))
        return problem(p, 400, "suffix", "suffix is not supported");
    if (beam && !cJSON_IsFalse(beam))
        return problem(p, 400, "use_beam_search",
                       "use_beam_search is not supported");
    return true;
}

/* response_format.json_schema: {name, schema, strict, description} */
static bool take_schema(const cJSON *format, struct generate *g,
                        struct problem *p)
{
    const cJSON *v = params_field(format, "json_schema");
    const cJSON *name = cJSON_IsObject(v) ? params_field(v, "name") : NULL;
    const cJSON *schema = cJSON_IsObject(v) ? params_field(v, "schema") : NULL;
    struct infer_error err = {0};
    bool strict;
    int rc;

    if (!cJSON_IsObject(v) || (name && !cJSON_IsString(name)) ||
        !cJSON_IsObject(schema))
        return problem(p, 400, "response_format",
                       "response_format.json_schema must be an object with an "
                       "object 'schema'");
    if (!params_bool(v, "strict", &strict, p))
        return problem(p, 400, "response_format",
                       "response_format.json_schema.strict must be true or "
                       "false");
    rc = schema_compile(&g->grammar, schema, &err);
    if (rc == INFER_ENOMEM)
        return problem(p, 503, NULL, "out of memory");
    if (rc == 0)
        return true;
    problem(p, 400, "response_format", "response_format.json_schema.schema: %s",
            err.text);
    p->code = "invalid_schema";
    return false;
}

static bool take_format(const cJSON *root, struct generate *g,
                        struct problem *p)
{
    const cJSON *v = params_field(root, "response_format");
    const cJSON *type = cJSON_IsObject(v) ? params_field(v, "type") : NULL;

    if (!v)
        return true;
    if (!cJSON_IsString(type))
        return problem(p, 400, "response_format",
                       "response_format must be an object with a string "
                       "'type'");
    if (strcmp(type->valuestring, "text") == 0)
        return true;
    if (strcmp(type->valuestring, "json_schema") == 0)
        return take_schema(v, g, p);
    if (strcmp(type->valuestring, "json_object") == 0)
        return schema_compile(&g->grammar, NULL, NULL) == 0 ||
               problem(p, 503, NULL, "out of memory");
    return problem(p, 400, "response_format",
                   "response_format.type '%.32s' is not supported; 'text', "
                   "'json_object' and 'json_schema' are",
                   type->valuestring);
}

static bool take_stream(const cJSON *root, struct generate *g,
                        struct problem *p)
{
    const cJSON *v = params_field(root, "stream_options");

    if (!params_bool(root, "stream", &g->stream, p))
        return false;
    if (!v)
        return true;
    if (!cJSON_IsObject(v))
        return problem(p, 400, "stream_options",
                       "stream_options must be an object");
    if (!g->stream)
        return problem(p, 400, "stream_options",
                       "stream_options needs stream to be true");
    return params_bool(v, "include_usage", &g->include_usage, p);
}

static bool check_user(const cJSON *root, struct problem *p)
{
    const cJSON *v = params_field(root, "user");

    return !v ||
           (cJSON_IsString(v) && strlen(v->valuestring) <= MAX_USER_BYTES) ||
           problem(p, 400, "user", "user must be a string of at most %d bytes",
                   MAX_USER_BYTES);
}

/* n, best_of, max_tokens, logprobs, priority, deadline_ms */
static bool take_numbers(const struct config *c, const struct worker *w,
                         const cJSON *root, struct generate *g,
                         struct problem *p)
{
    const bool chat = g->shape == SHAPE_CHAT;
    const struct engine_config *e = &w->config->engine;
    const int64_t cap = e->max_tokens && e->max_tokens < w->n_ctx
                            ? e->max_tokens
                            : (int64_t)w->n_ctx;
    const int64_t max_n = c->max_n < MAX_N ? c->max_n : MAX_N;
    int64_t tokens = g->shape == SHAPE_COMPLETION ? OPENAI_MAX_TOKENS
                                                  : e->default_max_tokens;
    int64_t n = 1, logprobs = -1, priority = 0, deadline = 0, best;

    if (!params_int(root, "n", 1, max_n, &n, p))
        return false;
    best = n;
    if (!params_int(root, "best_of", 1, MAX_N, &best, p) ||
        !params_int(root, "max_tokens", chat, INT64_MAX, &tokens, p) ||
        (chat && !params_max_completion_tokens(root, &tokens, p)) ||
        !(chat ? params_chat_logprobs(root, &logprobs, p)
               : params_int(root, "logprobs", 0, MAX_LOGPROBS, &logprobs, p)) ||
        !params_int(root, "priority", -100, 100, &priority, p) ||
        !params_int(root, "deadline_ms", 1, 86400000, &deadline, p))
        return false;
    if (best != n)
        return problem(p, 400, "best_of",
                       "best_of is not supported unless it equals n");
    g->n = (uint32_t)n;
    g->max_tokens = (uint32_t)(tokens < cap ? tokens : cap);
    g->logprobs = (int32_t)logprobs;
    g->priority = (int32_t)priority;
    g->deadline_ms = (uint64_t)deadline;
    return true;
}

bool params_generate(const struct config *c, const cJSON *root, struct job *job,
                     struct problem *p)
{
    const struct worker *w = job->worker;
    const uint32_t n_vocab = w->info->n_vocab;
    struct generate *g = &job->gen;
    const char *turn_stop =
        g->shape == SHAPE_CHAT ? chat_turn_stop(&w->chat) : NULL;

    return refuse_unsupported(root, p) &&
           (g->shape == SHAPE_CHAT ? params_chat(root, job, p)
                                   : take_prompts(c, root, n_vocab, job, p)) &&
           take_numbers(c, w, root, g, p) &&
           take_sampling(root, n_vocab, &g->sampling, p) &&
           take_stop(root, (size_t)c->max_stop, turn_stop, g, p) &&
           take_stop_ids(root, n_vocab, g, p) &&
           params_bool(root, "echo", &g->echo, p) &&
           params_bool(root, "ignore_eos", &g->ignore_eos, p) &&
           params_bool(root, "return_token_ids", &g->return_token_ids, p) &&
           take_stream(root, g, p) && take_format(root, g, p) &&
           check_user(root, p);
}
