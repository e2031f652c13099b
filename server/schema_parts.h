/*
 * schema_parts.h - what the files of the schema compiler share.
 *
 *   schema.c         keywords, types, literals
 *   schema_ref.c     references
 *   schema_union.c   anyOf, oneOf, allOf
 *   schema_struct.c  objects and arrays
 *   schema_text.c    strings: characters, formats, literals
 *   schema_regex.c   patterns
 *   schema_number.c  numbers within bounds
 *
 * A function that makes a part returns 0 after schema_fail(); whoever called
 * it may go on, since 0 is a part that the grammar never finishes with.
 */
#ifndef SERVER_SCHEMA_PARTS_H
#define SERVER_SCHEMA_PARTS_H

#include "server/schema.h"

enum {
    SCHEMA_MAX_PROPERTIES = 1000,
    SCHEMA_MAX_OPTIONAL = 200, /* in a row */
    SCHEMA_MAX_ENUM = 4096,
    SCHEMA_MAX_BRANCHES = 200, /* of a union */
    SCHEMA_MAX_TYPES = 7,
    SCHEMA_MAX_REFS = 1024, /* different texts */
    SCHEMA_REF_SLOTS = 2 * SCHEMA_MAX_REFS,
    SCHEMA_MAX_WORK = 1 << 22, /* steps of schema_charge(): some 10 ms */
    SCHEMA_MAX_NAME = 256,     /* bytes of a property's name */
    SCHEMA_MAX_PATTERN = 4096,
    SCHEMA_MAX_GROUPS = 64, /* of a pattern, inside one another */
    SCHEMA_MAX_DIGITS = 15  /* all such decimals differ as doubles */
};

/* A place in the schema: the keys from the root. */
struct place {
    const struct place *up;
    const char *key; /* NULL: index */
    int index;
};

/* A text of $ref that was resolved. */
struct pointer {
    const char *text; /* NULL: a free slot */
    const cJSON *target;
    uint32_t rule; /* 0: none yet */
};

/* A rule for the target of some $ref. */
struct reference {
    const char *text; /* the first that named it */
    const cJSON *target;
    uint32_t rule;
};

struct compiler {
    struct infer_grammar *g;
    const cJSON *root;
    struct infer_error *err;
    bool failed;
    struct pointer pointers[SCHEMA_REF_SLOTS]; /* by hash */
    struct reference refs[SCHEMA_MAX_REFS];    /* in the order of their rules */
    size_t n_pointers, n_refs;
    uint64_t work; /* steps done, of SCHEMA_MAX_WORK */
    /* parts that are made once; 0: not yet */
    uint32_t space, character, free_string, free_number, free_integer, any;
    uint32_t digit;
};

/* Remember the first failure; 0. */
uint32_t schema_fail(struct compiler *c, const struct place *at, int status,
                     const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Steps about to be done that the size of the schema does not bound. false:
 * failed. The loop serves nobody else meanwhile. */
bool schema_charge(struct compiler *c, const struct place *at, size_t steps);
/* A member, its search charged. NULL: none, or failed. */
const cJSON *schema_member(struct compiler *c, const cJSON *s, const char *name,
                           const struct place *at);

/* The part of a schema. */
uint32_t schema_value(struct compiler *c, const cJSON *s,
                      const struct place *at);
uint32_t schema_any(struct compiler *c);
/* A whole number from 0 up; absent: as it was. */
bool schema_count(struct compiler *c, const cJSON *s, const char *key,
                  const struct place *at, uint32_t *out);
/* Optional white space: none, a space, or a line break and up to 20 spaces. */
uint32_t schema_space(struct compiler *c);
/* Small tools. */
uint32_t schema_word(struct compiler *c, const char *text);
uint32_t schema_range(struct compiler *c, unsigned lo, unsigned hi);
uint32_t schema_pair(struct compiler *c, uint32_t a, uint32_t b);
uint32_t schema_either(struct compiler *c, uint32_t a, uint32_t b);

/* schema_ref.c */
uint32_t schema_reference(struct compiler *c, const cJSON *s,
                          const struct place *at);
/* What s stands for behind its $ref; NULL: failed, or 16 of them. */
const cJSON *schema_follow(struct compiler *c, const cJSON *s,
                           const struct place *at);
/* Compile what was referred to, and what that refers to. */
void schema_define_refs(struct compiler *c);

/* schema_union.c */
uint32_t schema_union(struct compiler *c, const cJSON *s,
                      const struct place *at);

/* schema_struct.c */
uint32_t schema_object(struct compiler *c, const cJSON *s,
                       const struct place *at);
uint32_t schema_array(struct compiler *c, const cJSON *s,
                      const struct place *at);

/* schema_text.c */
uint32_t schema_string(struct compiler *c, const cJSON *s,
                       const struct place *at);
uint32_t schema_character(struct compiler *c);
uint32_t schema_free_string(struct compiler *c);
/* One of n texts. They are sorted here. */
uint32_t schema_literals(struct compiler *c, char **texts, size_t n);
/* A string of printable ASCII, not empty, that is none of n names. */
uint32_t schema_other_key(struct compiler *c, const char **names, size_t n);
/* A JSON value as text; NULL: failed. The caller frees it. */
char *schema_print(struct compiler *c, const cJSON *v, const struct place *at);
/* A string with its quotes. */
char *schema_quote(const char *text);

/* schema_regex.c: what is between the quotes. */
uint32_t schema_pattern(struct compiler *c, const char *pattern,
                        const struct place *at);

/* schema_number.c */
uint32_t schema_number(struct compiler *c, const cJSON *s, bool integer,
                       const struct place *at);

#endif
