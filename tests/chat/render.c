/*
 * render.c - what the server makes of messages, for the comparison with Jinja.
 *
 * Reads a line of JSON per conversation, {"template", "bos", "eos",
 * "messages"}, and answers with a line each: {"family", "prompt"}, the prompt
 * with the text of BOS where the template writes one, or {"family", "error"}.
 * family null: the template is none that is known.
 */
#include "server/chat.h"
#include "server/jsonout.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 16 };

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsString(item) ? item->valuestring : "";
}

static size_t read_messages(const cJSON *list, struct chat_message *m)
{
    const cJSON *item;
    size_t n = 0;

    cJSON_ArrayForEach (item, list) {
        const char *role = text_of(item, "role");

        if (n == MAX_MESSAGES)
            break;
        m[n].role = strcmp(role, "system") == 0 ? CHAT_SYSTEM
                    : strcmp(role, "user") == 0 ? CHAT_USER
                                                : CHAT_ASSISTANT;
        m[n].text = text_of(item, "content");
        m[n].len = strlen(m[n].text);
        n++;
    }
    return n;
}

static void write_answer(struct json *j, const cJSON *ask)
{
    const char *bos = text_of(ask, "bos");
    struct chat_message messages[MAX_MESSAGES];
    const size_t n = read_messages(
        cJSON_GetObjectItemCaseSensitive(ask, "messages"), messages);
    struct chat_template t;
    struct chat_prompt p = {0};
    struct infer_error err = {0};
    struct buf whole = {0};
    size_t bad = 0;

    chat_recognise(&t, CHAT_AUTO, text_of(ask, "template"));
    json_key(j, "family");
    if (t.family == CHAT_AUTO) {
        json_null(j);
        return;
    }
    json_str(j, chat_family_name(t.family));
    if (chat_render(&t, bos, text_of(ask, "eos"), messages, n, &p, &bad,
                    &err)) {
        json_key_str(j, "error", err.text);
    } else {
        buf_str(&whole, t.bos ? bos : "");
        buf_add(&whole, p.text.data, p.text.len);
        json_key(j, "prompt");
        json_text(j, whole.data, whole.len);
    }
    buf_release(&whole);
    chat_prompt_release(&p);
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, stdin) > 0) {
        cJSON *ask = cJSON_Parse(line);
        struct buf out = {0};
        struct json j = json_into(&out);

        if (!ask)
            return 1;
        json_open(&j, '{');
        write_answer(&j, ask);
        json_close(&j, '}');
        printf("%.*s\n", (int)out.len, out.data);
        buf_release(&out);
        cJSON_Delete(ask);
    }
    free(line);
    return 0;
}
