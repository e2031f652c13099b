/*
 * params_chat.c - the fields that only /v1/chat/completions has: messages in
 * place of a prompt, and OpenAI's newer names. What this server cannot do
 * (tools, images, sound) is refused by name.
 */
#include "server/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 4096, MAX_TOP_LOGPROBS = 20 };

/* ---- messages ------------------------------------------------------------ */

static bool take_role(const cJSON *m, size_t i, enum chat_role *role,
                      struct problem *p)
{
    static const struct {
        const char *name;
        enum chat_role role;
    } roles[] = {
        {"system", CHAT_SYSTEM},
        {"developer", CHAT_SYSTEM},
        {"user", CHAT_USER},
        {"assistant", CHAT_ASSISTANT},
    };
    const cJSON *v = params_field(m, "role");

    for (size_t k = 0; k < sizeof(roles) / sizeof(roles[0]); k++)
        if (cJSON_IsString(v) && strcmp(v->valuestring, roles[k].name) == 0) {
            *role = roles[k].role;
            return true;
        }
    if (cJSON_IsString(v))
        return problem(p, 400, "messages",
                       "messages[%zu].role '%.32s' is not supported: system, "
                       "developer, user and assistant are",
                       i, v->valuestring);
    return problem(p, 400, "messages", "messages[%zu].role must be a string",
                   i);
}

/* [{type: "text", text}, ...], joined by line breaks. */
static bool take_parts(const cJSON *list, size_t i, struct buf *text,
                       struct problem *p)
{
    const cJSON *part;
    size_t k = 0;

    cJSON_ArrayForEach (part, list) {
        const cJSON *type =
            cJSON_IsObject(part) ? params_field(part, "type") : NULL;
        const cJSON *v = type ? params_field(part, "text") : NULL;

        if (!cJSON_IsString(type))
            return problem(p, 400, "messages",
                           "messages[%zu].content[%zu] must be an object with "
                           "a string 'type'",
                           i, k);
        if (strcmp(type->valuestring, "text") != 0)
            return problem(p, 400, "messages",
                           "messages[%zu].content[%zu].type '%.32s' is not "
                           "supported: 'text' is",
                           i, k, type->valuestring);
        if (!cJSON_IsString(v))
            return problem(p, 400, "messages",
                           "messages[%zu].content[%zu].text must be a string",
                           i, k);
        if (k++ > 0)
            buf_char(text, '\n');
        buf_str(text, v->valuestring);
    }
    return k > 0 ||
           problem(p, 400, "messages",
                   "messages[%zu].content must not be an empty list", i);
}

/* Contents go one after the other into text; their lengths into m. */
static bool take_message(const cJSON *v, size_t i, struct chat_message *m,
                         struct buf *text, struct problem *p)
{
    const cJSON *content =
        cJSON_IsObject(v) ? params_field(v, "content") : NULL;
    const size_t start = text->len;

    if (!cJSON_IsObject(v))
        return problem(p, 400, "messages", "messages[%zu] must be an object",
                       i);
    if (!take_role(v, i, &m->role, p))
        return false;
    if (params_field(v, "tool_calls") || params_field(v, "function_call"))
        return problem(p, 400, "messages",
                       "messages[%zu].tool_calls is not supported", i);
    if (cJSON_IsString(content))
        buf_str(text, content->valuestring);
    else if (!cJSON_IsArray(content))
        return problem(p, 400, "messages",
                       "messages[%zu].content must be a string or a list of "
                       "text parts",
                       i);
    else if (!take_parts(content, i, text, p))
        return false;
    m->len = text->len - start;
    return true;
}

static const char *token_text(const struct worker *w, int32_t id, char *out,
                              size_t size)
{
    size_t n = 0;
    const char *s = id >= 0 ? infer_token_bytes(w->model, id, true, &n) : NULL;

    snprintf(out, size, "%.*s", s ? (int)n : 0, s ? s : "");
    return out;
}

static bool render(struct job *job, struct chat_message *m, size_t n,
                   const struct buf *text, struct problem *p)
{
    const struct worker *w = job->worker;
    struct prompt *prompt = job->gen.prompts;
    struct infer_error err = {0};
    char bos[256], eos[256];
    size_t bad = 0, at = 0;
    int rc;

    for (size_t i = 0; i < n; i++) {
        m[i].text = text->data ? text->data + at : "";
        at += m[i].len;
    }
    rc = chat_render(&w->chat, token_text(w, w->info->bos_id, bos, sizeof(bos)),
                     token_text(w, w->info->eos_id, eos, sizeof(eos)), m, n,
                     &prompt->chat, &bad, &err);
    if (rc == INFER_ENOMEM)
        return problem(p, 503, NULL, "out of memory");
    if (rc)
        return problem(p, 400, "messages", "%s", err.text);
    prompt->is_chat = true;
    prompt->chat_bos = w->chat.bos;
    prompt->waiting = prompt->chat.text.len / 4 + 1;
    return true;
}

static bool take_messages(const cJSON *root, struct job *job, struct problem *p)
{
    const cJSON *v = params_field(root, "messages"), *item;
    const size_t n = (size_t)cJSON_GetArraySize(v);
    struct chat_message *m;
    struct buf text = {0};
    size_t i = 0;
    bool ok = true;

    if (!v)
        return problem(p, 400, "messages", "messages is required");
    if (!cJSON_IsArray(v) || n == 0 || n > MAX_MESSAGES)
        return problem(p, 400, "messages",
                       "messages must be a list of 1 to %d messages",
                       MAX_MESSAGES);
    m = calloc(n, sizeof(*m));
    job->gen.prompts = calloc(1, sizeof(*job->gen.prompts));
    if (!m || !job->gen.prompts) {
        free(m);
        return problem(p, 503, NULL, "out of memory");
    }
    job->gen.n_prompts = 1;
    job->gen.prompts[0].job = job;
    cJSON_ArrayForEach (item, v) {
        ok = ok && take_message(item, i, &m[i], &text, p);
        i++;
    }
    if (ok && text.failed)
        ok = problem(p, 503, NULL, "out of memory");
    if (ok)
        ok = render(job, m, n, &text, p);
    buf_release(&text);
    free(m);
    return ok;
}

/* ---- what is refused ----------------------------------------------------- */

static bool refuse_lists(const cJSON *root, struct problem *p)
{
    static const char *const lists[] = {"tools", "functions"};
    const cJSON *choice = params_field(root, "tool_choice");
    const cJSON *call = params_field(root, "function_call");

    for (size_t i = 0; i < 2; i++) {
        const cJSON *v = params_field(root, lists[i]);

        if (v && !(cJSON_IsArray(v) && cJSON_GetArraySize(v) == 0))
            return problem(p, 400, lists[i], "%s are not supported", lists[i]);
    }
    if (choice &&
        !(cJSON_IsString(choice) && (strcmp(choice->valuestring, "none") == 0 ||
                                     strcmp(choice->valuestring, "auto") == 0)))
        return problem(p, 400, "tool_choice",
                       "tool_choice is not supported: there are no tools");
    if (call &&
        !(cJSON_IsString(call) && (strcmp(call->valuestring, "none") == 0 ||
                                   strcmp(call->valuestring, "auto") == 0)))
        return problem(
            p, 400, "function_call",
            "function_call is not supported: there are no functions");
    return true;
}

static bool refuse_media(const cJSON *root, struct problem *p)
{
    static const char *const names[] = {"audio", "prediction",
                                        "web_search_options"};
    const cJSON *v = params_field(root, "modalities"), *item;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (params_field(root, names[i]))
            return problem(p, 400, names[i], "%s is not supported", names[i]);
    if (v && !cJSON_IsArray(v))
        return problem(p, 400, "modalities", "modalities must be a list");
    cJSON_ArrayForEach (item, v) {
        if (!cJSON_IsString(item) || strcmp(item->valuestring, "text") != 0)
            return problem(p, 400, "modalities",
                           "modalities other than 'text' are not supported");
    }
    return true;
}

/* Fields of the other routes that would change the answer. */
static bool refuse_others(const cJSON *root, struct problem *p)
{
    const cJSON *echo = params_field(root, "echo");

    if (params_field(root, "prompt"))
        return problem(p, 400, "prompt",
                       "prompt is not a field of this route: use messages");
    if (echo && !cJSON_IsBool(echo))
        return problem(p, 400, "echo", "echo must be true or false");
    if (cJSON_IsTrue(echo))
        return problem(p, 400, "echo", "echo is not supported in a chat");
    return true;
}

static bool check_template(const struct worker *w, struct problem *p)
{
    if (w->chat.family != CHAT_AUTO)
        return true;
    p->code = "no_chat_template";
    if (w->chat.absent)
        return problem(p, 400, "model",
                       "the model '%.64s' has no chat template: set the "
                       "server's option chat_template ('plain' suits any "
                       "model), or use /v1/completions",
                       w->config->name);
    return problem(p, 400, "model",
                   "the chat template of the model '%.64s' is of no known "
                   "family: set the server's option chat_template, or use "
                   "/v1/completions",
                   w->config->name);
}

bool params_chat(const cJSON *root, struct job *job, struct problem *p)
{
    return refuse_lists(root, p) && refuse_media(root, p) &&
           refuse_others(root, p) && check_template(job->worker, p) &&
           take_messages(root, job, p);
}

/* ---- numbers ------------------------------------------------------------- */

bool params_chat_logprobs(const cJSON *root, int64_t *logprobs,
                          struct problem *p)
{
    bool wanted = false;
    int64_t top = 0;

    if (!params_bool(root, "logprobs", &wanted, p) ||
        !params_int(root, "top_logprobs", 0, MAX_TOP_LOGPROBS, &top, p))
        return false;
    if (params_field(root, "top_logprobs") && !wanted)
        return problem(p, 400, "top_logprobs",
                       "top_logprobs needs logprobs to be true");
    *logprobs = wanted ? top : -1;
    return true;
}

bool params_max_completion_tokens(const cJSON *root, int64_t *tokens,
                                  struct problem *p)
{
    if (params_field(root, "max_tokens") &&
        params_field(root, "max_completion_tokens"))
        return problem(p, 400, "max_completion_tokens",
                       "max_completion_tokens and max_tokens cannot both be "
                       "set");
    return params_int(root, "max_completion_tokens", 1, INT64_MAX, tokens, p);
}
