/*
 * config.h - what the operator decided: flags over INFERD_* variables over the
 * configuration file over the defaults of options.def.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "infer.h"

struct strings {
    char **items; /* [n], owned */
    size_t n;
};

/* Options that may differ between models. */
struct engine_config {
    int64_t ctx, max_running, max_waiting, max_waiting_tokens;
    int64_t max_waiting_inputs;
    int64_t step_tokens, kv_tokens, kv_type, prefix_cache;
    int64_t default_max_tokens, max_tokens, chat_template;
};

struct model_config {
    char *name, *path;   /* owned */
    struct strings more; /* models averaged with it, owned */
    struct engine_config engine;
    uint64_t own; /* bit i: option i is set for this model only */
};

struct key_config {
    char *name, *key;    /* owned */
    int64_t concurrency; /* requests at once; 0: no limit */
    int64_t rate;        /* requests a minute; 0: no limit */
    int64_t tokens;      /* prompt and generated tokens a minute; 0: none */
    struct strings models, routes; /* allowed; empty: all */
};

enum { ENSEMBLE_MAX = 16 }; /* models behind one name */

enum option_source { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };

enum { CONFIG_MAX_OPTIONS = 64 };

struct config {
    char *listen, *cpu, *api_keys_file, *access_log_file;
    struct engine_config engine;
    int64_t threads, nice;
    int64_t max_n, max_batch, max_inputs, max_stop;
    int64_t max_body_bytes, max_pending_bytes, max_header_bytes;
    int64_t max_stream_bytes, request_timeout_ms;
    int64_t max_connections, header_timeout_ms, body_timeout_ms;
    int64_t idle_timeout_ms, write_timeout_ms, ping_ms;
    int64_t drain_ms, worker_hang_ms;
    int64_t log_level, access_log, vllm_aliases;
    struct strings cors_origins;
    struct model_config *models; /* [n_models] */
    size_t n_models;
    struct key_config *api_keys; /* [n_api_keys] */
    size_t n_api_keys;
    enum option_source source[CONFIG_MAX_OPTIONS]; /* by option */
    const char *probe; /* --healthcheck: the path asked for; borrowed */
};

enum option_kind {
    OPTION_INT,
    OPTION_BOOL,
    OPTION_WORD,
    OPTION_STR,
    OPTION_STRINGS,
    OPTION_MODELS,
    OPTION_KEYS
};

struct option {
    const char *name; /* as in the file: words joined by '_' */
    enum option_kind kind;
    size_t member;      /* offset in struct config */
    const char *preset; /* default, as text; NULL: empty list */
    int64_t lowest, highest;
    const char *words; /* "f16|f32" */
    const char *help;
};

enum config_action {
    CONFIG_RUN,
    CONFIG_HELP,
    CONFIG_VERSION,
    CONFIG_HEALTHCHECK
};

/*
 * Defaults, file, variables, flags; then every model gets its own settings.
 *
 *   argv, env  as main() has them, NULL-terminated
 *   action     what the flags ask for; --healthcheck needs no model or key
 * Errors  EINVAL, EIO, ENOMEM; err names the flag, variable or key
 */
int config_load(struct config *c, const char *const *argv,
                const char *const *env, enum config_action *action,
                struct infer_error *err);
void config_release(struct config *c);
void config_help(void); /* on stdout */

/* The table, for the file reader and the tests. */
size_t config_n_options(void);
const struct option *config_option(size_t i);
const struct option *config_find(const char *name, size_t len);

/* Defaults only. */
int config_init(struct config *c, struct infer_error *err);

/* One value as text; lists get one more item. `what` names it in errors. */
int config_set(struct config *c, const struct option *o,
               enum option_source from, const char *what, const char *text,
               struct infer_error *err);

/* Merge a JSON file with comments (config_file.c). */
int config_read_file(struct config *c, const char *path,
                     struct infer_error *err);
int config_read_text(struct config *c, const char *path, char *text, size_t len,
                     struct infer_error *err);
/* Add the keys of a file that holds one JSON list. */
int config_read_keys(struct config *c, const char *path,
                     struct infer_error *err);

/* Make room for one more, all zero; NULL: out of memory. */
struct model_config *config_add_model(struct config *c);
struct key_config *config_add_key(struct config *c);
int config_add_string(struct strings *list, const char *text,
                      struct infer_error *err);
/* Text → number, within the option's bounds. */
int config_number(const struct option *o, const char *what, const char *text,
                  int64_t *out, struct infer_error *err);
int config_fail(struct infer_error *err, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
