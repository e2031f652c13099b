/* auth.h - API keys: who may use what, and how much of it. */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include "server/config.h"

/* A configured key and what it has used. */
struct key {
    const struct key_config *config;
    uint32_t index;
    uint32_t active; /* requests in progress */
    double requests; /* left in this minute's budget */
    double tokens;   /* likewise; negative after a large answer */
    uint64_t refilled_ns;
};

struct keys {
    struct key *items; /* [n] */
    size_t n;          /* 0: open to all */
};

int keys_init(struct keys *keys, const struct config *c,
              struct infer_error *err);
void keys_release(struct keys *keys);

/* The key of an Authorization header (may be NULL), or NULL. Takes the same
 * time whichever key it is, and if it is none. */
struct key *keys_find(struct keys *keys, const char *authorization);

bool key_allows_route(const struct key *k, const char *path);
bool key_allows_model(const struct key *k, const char *model);

/* Take one request from the budget. 0, or the seconds to wait; *what says
 * which limit it was. */
unsigned key_take(struct key *k, uint64_t now_ns, const char **what);
void key_charge(struct key *k, uint64_t n_tokens);

#endif
