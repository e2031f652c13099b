/* route_models.c - GET /v1/models and /v1/models/{id}, in OpenAI's shape, with
 * what a client may want to know beside it. */
#include "server/jsonout.h"
#include "server/reply.h"
#include "server/routes.h"

#include <string.h>

static const char *const tasks[] = {
    [INFER_TASK_GENERATE] = "generate",
    [INFER_TASK_EMBED] = "embed",
    [INFER_TASK_CLASSIFY] = "classify",
    [INFER_TASK_RERANK] = "rerank",
};

/* null: /v1/chat/completions would refuse this model. */
static void write_chat(struct json *j, const struct worker *w)
{
    const char *family = chat_family_name(w->chat.family);

    json_key(j, "chat");
    if (family)
        json_str(j, family);
    else
        json_null(j);
}

static void write_info(struct json *j, const struct worker *w)
{
    const struct infer_model_info *m = w->info;

    json_key(j, "meta");
    json_open(j, '{');
    json_key_str(j, "task", tasks[m->task]);
    json_key_str(j, "architecture", m->arch);
    json_key_str(j, "name", m->name);
    json_key_str(j, "quantization", m->type);
    json_key_uint(j, "parameters", m->n_params);
    json_key_uint(j, "vocabulary", m->n_vocab);
    json_key_uint(j, "context", w->n_ctx);
    json_key_uint(j, "context_trained", m->n_ctx_train);
    if (m->task == INFER_TASK_GENERATE)
        write_chat(j, w);
    if (m->task == INFER_TASK_EMBED)
        json_key_uint(j, "dimensions", m->n_out);
    if (m->n_classes)
        json_key_uint(j, "classes", m->n_classes);
    if (w->n_members > 1)
        json_key_uint(j, "members", w->n_members);
    json_close(j, '}');
}

static void write_model(struct json *j, const struct worker *w)
{
    json_open(j, '{');
    json_key_str(j, "id", w->config->name);
    json_key_str(j, "object", "model");
    json_key(j, "created");
    json_int(j, w->created);
    json_key_str(j, "owned_by", "inferd");
    if (w->ready)
        write_info(j, w);
    json_close(j, '}');
}

void route_models(struct request *r)
{
    const struct server *s = r->srv;
    struct buf body = {0};
    struct json j = json_into(&body);

    json_open(&j, '{');
    json_key_str(&j, "object", "list");
    json_key(&j, "data");
    json_open(&j, '[');
    for (size_t i = 0; i < s->n_workers; i++)
        if (key_allows_model(r->key, s->workers[i].config->name))
            write_model(&j, &s->workers[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    reply_json(r, &body);
}

void route_model(struct request *r)
{
    const struct server *s = r->srv;
    const char *id = r->path + strlen(routes[ROUTE_MODEL].path);
    struct buf body = {0};
    struct json j = json_into(&body);

    for (size_t i = 0; i < s->n_workers; i++) {
        const struct worker *w = &s->workers[i];

        if (strcmp(w->config->name, id) == 0 && key_allows_model(r->key, id)) {
            write_model(&j, w);
            reply_json(r, &body);
            return;
        }
    }
    reply_error(r, 404, "model", "model_not_found",
                "there is no model '%.128s'", id);
}
