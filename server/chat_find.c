/*
 * chat_find.c - which of the families a chat template is.
 *
 * The Jinja program is not run. A family is known by its marks, and variants
 * within it (where the system text goes, spaces around [INST], a default
 * system text) are read off the program's own string literals. A mark of what
 * no family does (dates, a thought begun for the model) makes it unknown: a
 * refusal can be mended by the operator, a prompt that is nearly right cannot
 * even be seen. tests/chat compares with Jinja on published templates.
 */
#include "server/chat.h"

#include <string.h>

const char *chat_family_name(enum chat_family family)
{
    static const char *const names[] = {
        [CHAT_CHATML] = "chatml",
        [CHAT_LLAMA2] = "llama-2",
        [CHAT_LLAMA3] = "llama-3",
        [CHAT_MISTRAL_V1] = "mistral-v1",
        [CHAT_MISTRAL_V3] = "mistral-v3",
        [CHAT_MISTRAL_TEKKEN] = "mistral-tekken",
        [CHAT_MISTRAL_V7] = "mistral-v7",
        [CHAT_GEMMA] = "gemma",
        [CHAT_PHI3] = "phi-3",
        [CHAT_ZEPHYR] = "zephyr",
        [CHAT_PLAIN] = "plain",
    };

    return names[family];
}

/* ---- recognition --------------------------------------------------------- */

static bool has(const char *text, const char *mark)
{
    return strstr(text, mark) != NULL;
}

static bool has_quoted(const char *text, const char *mark)
{
    char quoted[64];

    for (const char *q = "'\""; *q; q++) {
        const size_t n = strlen(mark);

        quoted[0] = *q;
        memcpy(quoted + 1, mark, n + 1);
        quoted[n + 1] = *q;
        quoted[n + 2] = '\0';
        if (has(text, quoted))
            return true;
    }
    return false;
}

static bool has_any(const char *text, const char *const *marks)
{
    for (; *marks; marks++)
        if (has(text, *marks))
            return true;
    return false;
}

/* What changes the prompt in a way that is not repeated here. */
static bool is_foreign(const char *text)
{
    static const char *const marks[] = {
        "<|im_sep|>",
        "strftime_now",
        "Cutting Knowledge",
        "Today Date",
        "date_string",
        "keep_past_thinking",
        "set system_message = '", /* a default that has to be computed */
        "set system_message = \"",
        "unsafe", /* Llama Guard: a task around the conversation */
        "function calling AI model", /* a text around the tools */
        NULL,
    };

    /* quoted alone it follows the beginning of the answer */
    return has_any(text, marks) || has_quoted(text, "<think>\\n") ||
           has_quoted(text, "<think>\n");
}

static enum chat_family find_family(const char *text)
{
    static const char *const llama2[] = {
        "bos_token + '[INST] ' + content.strip()",
        "bos_token + '[INST] ' + content | trim",
        "bos_token + '[INST] ' + content|trim", NULL};
    const bool inst = has(text, "[INST]") && has(text, "[/INST]");

    if (is_foreign(text))
        return CHAT_AUTO;
    if (has(text, "<|im_start|>") && has(text, "<|im_end|>"))
        return CHAT_CHATML;
    if (has(text, "<|start_header_id|>") && has(text, "<|eot_id|>"))
        return CHAT_LLAMA3;
    if (has(text, "<start_of_turn>") && has(text, "<end_of_turn>"))
        return CHAT_GEMMA;
    if (has(text, "[SYSTEM_PROMPT]"))
        return CHAT_MISTRAL_V7;
    if (inst && has(text, "<<SYS>>")) /* others neither strip nor repeat BOS */
        return has_any(text, llama2) ? CHAT_LLAMA2 : CHAT_AUTO;
    if (inst)
        return has(text, " [/INST]")        ? CHAT_MISTRAL_V1
               : has_quoted(text, "[INST]") ? CHAT_MISTRAL_TEKKEN
                                            : CHAT_MISTRAL_V3;
    if (has(text, "<|user|>") && has(text, "<|assistant|>") &&
        has(text, "<|end|>"))
        return CHAT_PHI3;
    if (has(text, "<|user|>") && has(text, "<|assistant|>") &&
        has(text, "eos_token"))
        return CHAT_ZEPHYR;
    return CHAT_AUTO;
}

/* Qwen and others write a system turn of their own when none is given: a
 * literal between the two markers, where line breaks are escapes or real. */
static void find_preset(struct chat_template *t, const char *text,
                        const char *open)
{
    const char *s = text;

    while ((s = strstr(s, open)) != NULL) {
        size_t n;

        s += strlen(open);
        n = strcspn(s, "<'\"{\\");
        if (n > 0 && strncmp(s + n, "<|im_end|>", 10) == 0) {
            t->preset = s;
            t->preset_len = n;
            return;
        }
    }
}

static void read_mistral(struct chat_template *t, const char *text)
{
    static const char *const before[] = {
        "' ' + message['content']", "\" \" + message[\"content\"]",
        "' '  + message['content']", "' ' + message.content", NULL};
    static const char *const after[] = {"+ ' ' + eos_token",
                                        "+ \" \" + eos_token", NULL};
    const bool spaced = has_any(text, before);

    t->system = !has(text, "system_message")        ? SYSTEM_NONE
                : has(text, "loop.last and system") ? SYSTEM_LAST
                                                    : SYSTEM_FIRST;
    if (t->family == CHAT_MISTRAL_V7) {
        t->system = SYSTEM_OWN;
        t->open = has(text, "[SYSTEM_PROMPT] ") ? "[INST] " : "[INST]";
    } else if (t->family == CHAT_MISTRAL_V1) {
        t->open = has_quoted(text, " [INST] ") ? " [INST] " : "[INST] ";
    }
    t->before = spaced ? " " : "";
    t->behind = has_any(text, after) ? " " : "";
    t->trim_answer =
        has(text, "content']|trim") || has(text, "content\"]|trim");
    t->after = has(text, "eos_token + ' '") || has(text, "eos_token + \" \"")
                   ? " "
                   : "";
}

static void read_text(struct chat_template *t, const char *text)
{
    t->bos = has(text, "bos_token");
    switch (t->family) {
    case CHAT_CHATML:
        find_preset(t, text, "<|im_start|>system\\n");
        if (!t->preset)
            find_preset(t, text, "<|im_start|>system\n");
        t->unthink = has(text, "</think>");
        /* an answer at the end is gone on with, or gets an empty thought */
        t->ends_user =
            t->unthink || has(text, "messages[-1]['role'] != 'assistant'");
        t->starts_user = has(text, "{{ bos_token }}{% endif %}");
        t->trim = has(text, "content'] | trim") || has(text, "content']|trim");
        break;
    case CHAT_GEMMA:
        t->system = has(text, "first_user_prefix") ? SYSTEM_FIRST : SYSTEM_NONE;
        break;
    case CHAT_PHI3: /* the first one begins the answer in the user's turn */
        t->alternates = !has(text, "add_generation_prompt");
        t->ends_user = t->alternates;
        t->system = has(text, "<|system|>") ? SYSTEM_OWN : SYSTEM_NONE;
        break;
    case CHAT_ZEPHYR:
        t->system = has(text, "<|system|>") ? SYSTEM_OWN : SYSTEM_NONE;
        break;
    case CHAT_MISTRAL_V1:
    case CHAT_MISTRAL_V3:
    case CHAT_MISTRAL_TEKKEN:
    case CHAT_MISTRAL_V7:
        read_mistral(t, text);
        break;
    default:
        break;
    }
}

void chat_recognise(struct chat_template *t, enum chat_family family,
                    const char *text)
{
    const bool given = family != CHAT_AUTO;

    memset(t, 0, sizeof(*t));
    t->absent = text == NULL;
    t->family = given || !text ? family : find_family(text);
    t->bos = t->family >= CHAT_LLAMA2 && t->family <= CHAT_GEMMA;
    t->trim = t->family == CHAT_LLAMA2 || t->family == CHAT_LLAMA3 ||
              t->family == CHAT_GEMMA;
    t->open = t->family == CHAT_MISTRAL_V1   ? " [INST] "
              : t->family == CHAT_MISTRAL_V3 ? "[INST] "
                                             : "[INST]";
    if (t->family == CHAT_MISTRAL_V7)
        t->open = "[INST] ";
    t->close = t->family == CHAT_MISTRAL_V1 ? " [/INST]" : "[/INST]";
    t->before = t->family == CHAT_MISTRAL_TEKKEN ? "" : " ";
    t->after = t->behind = "";
    if (t->family == CHAT_MISTRAL_V1 || t->family == CHAT_LLAMA2 ||
        t->family == CHAT_GEMMA)
        t->system = SYSTEM_FIRST;
    else if (t->family == CHAT_MISTRAL_V3 || t->family == CHAT_MISTRAL_TEKKEN)
        t->system = SYSTEM_LAST;
    if (!given && text)
        read_text(t, text);
}
