/*
 * chat.h - from messages to the prompt that a model was trained on.
 *
 * Models carry a Jinja program for this. It is not run: there are a handful of
 * families, each known by its marks, and whatever is none of them is refused,
 * so a prompt is either exactly what the program would make, or an error.
 */
#ifndef SERVER_CHAT_H
#define SERVER_CHAT_H

#include "infer.h"
#include "server/buf.h"

/* In the order of the words of the option chat_template. */
enum chat_family {
    CHAT_AUTO, /* not decided: the file's own, if it is known */
    CHAT_CHATML,
    CHAT_LLAMA2,
    CHAT_LLAMA3,
    CHAT_MISTRAL_V1,
    CHAT_MISTRAL_V3,
    CHAT_MISTRAL_TEKKEN,
    CHAT_MISTRAL_V7,
    CHAT_GEMMA,
    CHAT_PHI3,
    CHAT_ZEPHYR,
    CHAT_PLAIN
};

enum chat_system {
    SYSTEM_OWN,   /* a turn of its own */
    SYSTEM_FIRST, /* goes into the first user's turn */
    SYSTEM_LAST,  /* into the last */
    SYSTEM_NONE   /* the model knows none */
};

struct chat_template {
    enum chat_family family; /* AUTO: none that is known */
    enum chat_system system;
    bool bos;                 /* writes BOS, whatever the file's flag says */
    bool trim;                /* strips white space around contents */
    bool trim_answer;         /* Mistral: around answers only */
    bool unthink;             /* drops what earlier answers thought */
    bool absent;              /* the file has no template */
    bool alternates;          /* roles must, beyond what the family asks */
    bool ends_user;           /* the last message must be the user's */
    bool starts_user;         /* the first must not be an answer */
    const char *open, *close; /* Mistral: around a user's turn */
    const char *before;       /* Mistral: before an answer */
    const char *behind;       /* between an answer and its end of text */
    const char *after;        /* after that */
    const char *preset;       /* system text when none is given; borrowed */
    size_t preset_len;
};

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

struct chat_message {
    enum chat_role role;
    const char *text; /* [len], borrowed */
    size_t len;
};

/* The word of the option; NULL for CHAT_AUTO. Static. */
const char *chat_family_name(enum chat_family family);

/*
 * What a model's template is.
 *
 *   family    the operator's choice; AUTO: look at the text
 *   template  the file's Jinja text, or NULL
 */
void chat_recognise(struct chat_template *t, enum chat_family family,
                    const char *text);

/* A prompt in the making: text, and which stretches of it are ours. */
struct chat_prompt {
    struct buf text;
    struct buf parts; /* struct infer_part[]; text is set by chat_parts() */
};

/*
 * Render messages, and the beginning of the answer.
 *
 *   bos, eos  texts of the model's tokens
 * Errors  EINVAL: *bad is the message at fault, err says why; ENOMEM
 */
int chat_render(const struct chat_template *t, const char *bos, const char *eos,
                const struct chat_message *messages, size_t n,
                struct chat_prompt *out, size_t *bad, struct infer_error *err);

/* A string that ends an answer where no token does, or NULL. */
const char *chat_turn_stop(const struct chat_template *t);

/* The parts, pointing into out->text. */
const struct infer_part *chat_parts(struct chat_prompt *p, size_t *n);
void chat_prompt_release(struct chat_prompt *p);

#endif
