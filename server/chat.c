/*
 * chat.c - the chat templates of the common families, written out.
 *
 * Each function repeats what the family's Jinja program writes, to the byte.
 * Texts of ours are marked as trusted, so that the tokenizer turns their
 * markers into control tokens; contents are not, so a message that holds the
 * text of a marker stays text. Which family and variant it is: chat_find.c.
 */
#include "server/chat.h"
#include "server/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ------------------------------------------------------------- */

struct writer {
    const struct chat_template *t;
    const char *bos, *eos;
    struct chat_prompt *out;
};

static void add(struct writer *w, const char *text, size_t len, bool trusted)
{
    struct buf *parts = &w->out->parts;
    struct infer_part part = {.len = len, .trusted = trusted};
    struct infer_part *last = NULL;

    if (len == 0)
        return;
    buf_add(&w->out->text, text, len);
    if (parts->len > 0)
        last = (void *)(parts->data + parts->len - sizeof(part));
    if (last && last->trusted == trusted)
        last->len += len;
    else
        buf_add(parts, &part, sizeof(part));
}

/* Texts of ours, up to NULL. */
static void ours(struct writer *w, const char *text, ...)
{
    va_list ap;

    va_start(ap, text);
    while (text) {
        add(w, text, strlen(text), true);
        text = va_arg(ap, const char *);
    }
    va_end(ap);
}

/* Bytes of the white space character (as Python's strip() has it) at s. */
static size_t space_at(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned c;

    if (n > 0 && (u[0] == ' ' || (u[0] >= 9 && u[0] <= 13) ||
                  (u[0] >= 28 && u[0] <= 31)))
        return 1;
    if (n > 1 && u[0] == 0xc2 && (u[1] == 0x85 || u[1] == 0xa0))
        return 2;
    if (n < 3 || (u[0] & 0xf0) != 0xe0)
        return 0;
    c = (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u);
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
                   c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000
               ? 3
               : 0;
}

static struct chat_message stripped(struct chat_message m)
{
    size_t n;

    while ((n = space_at(m.text, m.len)) > 0) {
        m.text += n;
        m.len -= n;
    }
    for (n = 1; n <= 3 && n <= m.len;)
        if (space_at(m.text + m.len - n, n) == n) {
            m.len -= n;
            n = 1;
        } else {
            n++;
        }
    return m;
}

static void theirs(struct writer *w, struct chat_message m)
{
    if (w->t->trim)
        m = stripped(m);
    add(w, m.text, m.len, false);
}

/* What follows the last </think>, without the line breaks after it. */
static struct chat_message thoughtless(struct chat_message m)
{
    static const char mark[] = "</think>";
    const char *end = m.text + m.len;

    for (const char *s = m.text;
         (s = memmem(s, (size_t)(end - s), mark, 8)) != NULL;) {
        s += 8;
        while (s < end && *s == '\n')
            s++;
        m.text = s;
        m.len = (size_t)(end - s);
    }
    return m;
}

/* ---- families ------------------------------------------------------------ */

static const char *const role_names[] = {"system", "user", "assistant"};

static void chatml(struct writer *w, const struct chat_message *m, size_t n)
{
    if (m[0].role != CHAT_SYSTEM && w->t->preset) {
        ours(w, "<|im_start|>system\n", NULL);
        add(w, w->t->preset, w->t->preset_len, true);
        ours(w, "<|im_end|>\n", NULL);
    }
    for (size_t i = 0; i < n; i++) {
        ours(w, "<|im_start|>", role_names[m[i].role], "\n", NULL);
        theirs(w, w->t->unthink && m[i].role == CHAT_ASSISTANT
                      ? thoughtless(m[i])
                      : m[i]);
        ours(w, "<|im_end|>\n", NULL);
    }
    ours(w, "<|im_start|>assistant\n", NULL);
}

static void llama2(struct writer *w, const struct chat_message *m, size_t n,
                   const struct chat_message *system)
{
    for (size_t i = 0; i < n; i++) {
        if (m[i].role == CHAT_ASSISTANT) {
            ours(w, " ", NULL);
            theirs(w, m[i]);
            ours(w, " ", w->eos, NULL);
            continue;
        }
        if (i > 0) /* the first is the prompt's own */
            ours(w, w->bos, NULL);
        ours(w, "[INST] ", NULL);
        if (i == 0 && system) {
            const struct chat_message user = stripped(m[0]);

            /* strip() sees both texts as one: only the end can change */
            ours(w, "<<SYS>>\n", NULL);
            add(w, system->text, system->len, false);
            ours(w, "\n<</SYS>>", user.len ? "\n\n" : NULL, NULL);
            if (user.len)
                add(w, m[0].text, (size_t)(user.text - m[0].text) + user.len,
                    false);
        } else {
            theirs(w, m[i]);
        }
        ours(w, " [/INST]", NULL);
    }
}

static void llama3(struct writer *w, const struct chat_message *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ours(w, "<|start_header_id|>", role_names[m[i].role],
             "<|end_header_id|>\n\n", NULL);
        theirs(w, m[i]);
        ours(w, "<|eot_id|>", NULL);
    }
    ours(w, "<|start_header_id|>assistant<|end_header_id|>\n\n", NULL);
}

static void mistral(struct writer *w, const struct chat_message *m, size_t n,
                    const struct chat_message *system)
{
    const bool last = w->t->system == SYSTEM_LAST;

    for (size_t i = 0; i < n; i++) {
        if (m[i].role == CHAT_SYSTEM) {
            const char *gap = strcmp(w->t->open, "[INST] ") == 0 ? " " : "";

            ours(w, "[SYSTEM_PROMPT]", gap, NULL);
            theirs(w, m[i]);
            ours(w, "[/SYSTEM_PROMPT]", NULL);
        } else if (m[i].role == CHAT_ASSISTANT) {
            ours(w, w->t->before, NULL);
            theirs(w, w->t->trim_answer ? stripped(m[i]) : m[i]);
            ours(w, w->t->behind, w->eos, w->t->after, NULL);
        } else {
            ours(w, w->t->open, NULL);
            if (system && i == (last ? n - 1 : 0)) {
                theirs(w, *system);
                ours(w, "\n\n", NULL);
            }
            theirs(w, m[i]);
            ours(w, w->t->close, NULL);
        }
    }
}

static void gemma(struct writer *w, const struct chat_message *m, size_t n,
                  const struct chat_message *system)
{
    for (size_t i = 0; i < n; i++) {
        const bool answer = m[i].role == CHAT_ASSISTANT;

        ours(w, "<start_of_turn>", answer ? "model\n" : "user\n", NULL);
        if (i == 0 && system) {
            add(w, system->text, system->len, false);
            ours(w, "\n\n", NULL);
        }
        theirs(w, m[i]);
        ours(w, "<end_of_turn>\n", NULL);
    }
    ours(w, "<start_of_turn>model\n", NULL);
}

/* Phi-3 ends a turn with a token of its own, Zephyr with the end of text. */
static void phi3_or_zephyr(struct writer *w, const struct chat_message *m,
                           size_t n)
{
    const char *end = w->t->family == CHAT_PHI3 ? "<|end|>" : w->eos;

    for (size_t i = 0; i < n; i++) {
        ours(w, "<|", role_names[m[i].role], "|>\n", NULL);
        theirs(w, m[i]);
        ours(w, end, "\n", NULL);
    }
    ours(w, "<|assistant|>\n", NULL);
}

/* For models that know no markers. Not trusted: it has no control tokens. */
static void plain(struct writer *w, const struct chat_message *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (m[i].role == CHAT_SYSTEM) {
            theirs(w, m[i]);
            ours(w, "\n\n", NULL);
            continue;
        }
        ours(w, m[i].role == CHAT_USER ? "User: " : "Assistant: ", NULL);
        theirs(w, m[i]);
        ours(w, "\n", NULL);
    }
    ours(w, "Assistant:", NULL);
}

/* ---- the whole ----------------------------------------------------------- */

static int fail(struct infer_error *err, size_t *bad, size_t i, const char *why)
{
    *bad = i;
    return config_fail(err, INFER_EINVAL, "messages[%zu]: %s", i, why);
}

/* As the programs themselves refuse; `first` messages were a system's. */
static int check_turns(const struct chat_template *t,
                       const struct chat_message *m, size_t n, size_t first,
                       size_t *bad, struct infer_error *err)
{
    const bool strict =
        t->alternates || t->family == CHAT_LLAMA2 ||
        (t->family >= CHAT_MISTRAL_V1 && t->family <= CHAT_MISTRAL_TEKKEN) ||
        t->family == CHAT_GEMMA;

    if (t->system == SYSTEM_NONE)
        for (size_t i = 0; i < n + first; i++)
            if (m[i].role == CHAT_SYSTEM)
                return fail(err, bad, i,
                            "the model's chat template has no system role");
    if (t->starts_user && m[0].role == CHAT_ASSISTANT)
        return fail(err, bad, 0, "the first message must not be an answer");
    if (t->ends_user && m[n + first - 1].role != CHAT_USER)
        return fail(err, bad, n + first - 1,
                    "the last message must be the user's");
    if (!strict)
        return 0;
    if (n == 0)
        return fail(err, bad, 0, "the system message needs a user's after it");
    for (size_t i = 0; i < n; i++)
        if (m[first + i].role != (i % 2 ? CHAT_ASSISTANT : CHAT_USER))
            return fail(err, bad, first + i,
                        "after an optional system message, this model's "
                        "roles must alternate user, assistant, user, ...");
    return 0;
}

int chat_render(const struct chat_template *t, const char *bos, const char *eos,
                const struct chat_message *m, size_t n, struct chat_prompt *out,
                size_t *bad, struct infer_error *err)
{
    struct writer w = {.t = t, .bos = bos, .eos = eos, .out = out};
    const bool merged = t->system == SYSTEM_FIRST || t->system == SYSTEM_LAST;
    const size_t first = merged && m[0].role == CHAT_SYSTEM;
    const struct chat_message *system = first ? m : NULL;
    const int rc = check_turns(t, m, n - first, first, bad, err);

    if (rc)
        return rc;
    switch (t->family) {
    case CHAT_CHATML:
        chatml(&w, m, n);
        break;
    case CHAT_LLAMA2:
        llama2(&w, m + first, n - first, system);
        break;
    case CHAT_LLAMA3:
        llama3(&w, m, n);
        break;
    case CHAT_MISTRAL_V1:
    case CHAT_MISTRAL_V3:
    case CHAT_MISTRAL_TEKKEN:
    case CHAT_MISTRAL_V7:
        mistral(&w, m + first, n - first, system);
        break;
    case CHAT_GEMMA:
        gemma(&w, m + first, n - first, system);
        break;
    case CHAT_PHI3:
    case CHAT_ZEPHYR:
        phi3_or_zephyr(&w, m, n);
        break;
    case CHAT_PLAIN:
    case CHAT_AUTO:
        plain(&w, m, n);
        break;
    }
    if (out->text.failed || out->parts.failed)
        return config_fail(err, INFER_ENOMEM, "out of memory");
    return 0;
}

const char *chat_turn_stop(const struct chat_template *t)
{
    return t->family == CHAT_PLAIN ? "\nUser:" : NULL;
}

const struct infer_part *chat_parts(struct chat_prompt *p, size_t *n)
{
    struct infer_part *parts = (void *)p->parts.data;
    size_t at = 0;

    *n = p->parts.len / sizeof(*parts);
    for (size_t i = 0; i < *n; i++) {
        parts[i].text = p->text.data + at;
        at += parts[i].len;
    }
    return parts;
}

void chat_prompt_release(struct chat_prompt *p)
{
    buf_release(&p->text);
    buf_release(&p->parts);
}
