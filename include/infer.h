/*
 * infer.h - the whole public interface of libinfer, the inference engine.
 *
 *   infer_model     a GGUF file, its tokenizer and its packed weights.
 * Read-only after infer_model_load(); any number of threads may share it.
 *   infer_team      compute threads. Shared by everything in the process;
 *                   callers take turns step by step.
 *   infer_session   bare forward passes: tokens in, logits out. For programs
 *                   that bring their own loop (benchmarks, evaluation).
 *   infer_engine    continuous batching: requests in, text events out. Owns the
 *                   KV cache, the schedule and the sampling of one model.
 *   infer_encoder   packed batches of whole sequences: ids in, embeddings or
 *                   class scores out, for models whose task is not generation.
 *   infer_batcher   the same for many clients: sequences in, results out.
 *
 * The engine never prints, exits, reads the environment or touches the network.
 * Functions that can fail return 0 or a negative INFER_E*; results go through
 * pointers and are untouched on failure; `err` (may be NULL) gets one sentence.
 *
 * Shapes read [T][D]: row-major, last index contiguous. B batch, T tokens, D
 * width, H heads, G KV heads, K head width, F hidden width, V vocabulary,
 * L layers.
 */
#ifndef INFER_H
#define INFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One table makes the enum and the texts; server/reply.c adds HTTP statuses. */
#define INFER_STATUS_MAP(X)                                                    \
    X(ENOMEM, -1, "out of memory")                                             \
    X(EINVAL, -2, "invalid argument")                                          \
    X(EFORMAT, -3, "malformed file")                                           \
    X(ETOOLONG, -4, "input exceeds the context")                               \
    X(EIO, -5, "file cannot be read")                                          \
    X(EUNSUPPORTED, -6, "not supported")                                       \
    X(EBUSY, -7, "queue is full")

enum infer_status {
    INFER_OK = 0,
#define X(name, value, text) INFER_##name = (value),
    INFER_STATUS_MAP(X)
#undef X
};

/* Why a call failed; lives on the caller's stack, owns nothing. */
struct infer_error {
    int status;     /* an enum infer_status */
    char text[256]; /* one sentence, ready to be logged */
};

const char *infer_status_text(int status);
const char *infer_version(void);

/* Monotonic clock, nanoseconds. The clock of every deadline here. */
uint64_t infer_clock_ns(void);

/* ---- processor ---------------------------------------------------------- */

/* Instruction sets kernels exist for, as bits of a CPU mask. */
enum infer_cpu {
    INFER_CPU_AVX2 = 1 << 0,       /* AVX2, FMA, F16C */
    INFER_CPU_AVX512VNNI = 1 << 1, /* AVX-512 F, BW, DQ, VL, VNNI */
    INFER_CPU_AVX512BF16 = 1 << 2, /* the above and AVX-512 BF16 */
    INFER_CPU_AMXINT8 = 1 << 3,    /* AVX512VNNI and AMX TILE, INT8 */
    INFER_CPU_AMXBF16 = 1 << 4,    /* AVX512BF16 and AMX TILE, BF16 */
    INFER_CPU_ALL = ~0
};

/* What this machine has (the OS must also save the registers). Where it has
 * AMX, the process asks the OS for its tiles, before any thread uses one. */
unsigned infer_cpu_detect(void);

/* "avx2,avx512vnni", "scalar", "all" → mask; EINVAL names the unknown word. */
int infer_cpu_parse(const char *text, unsigned *mask, struct infer_error *err);

/* ---- thread team -------------------------------------------------------- */

struct infer_team; /* opaque */

/*
 * Start n_threads - 1 helper threads; the calling thread of each step is the
 * remaining one.
 *
 *   n_threads  1..256; 0: one per processor this process may use
 *   nice       added to the helpers' niceness (0..19), so that an event loop in
 *              the same process always gets the processor first. A thread that
 *              calls into an engine should apply it to itself with
 *              infer_team_enter().
 * Errors  ENOMEM, EINVAL
 */
int infer_team_create(struct infer_team **team, int n_threads, int nice,
                      struct infer_error *err);
void infer_team_enter(const struct infer_team *team);
int infer_team_size(const struct infer_team *team);
void infer_team_free(struct infer_team *team);

/* ---- model -------------------------------------------------------------- */

struct infer_model; /* opaque */

/* What a file is for. */
enum infer_task {
    INFER_TASK_GENERATE,
    INFER_TASK_EMBED,    /* a vector per sequence */
    INFER_TASK_CLASSIFY, /* a score per class */
    INFER_TASK_RERANK    /* one score per pair of texts */
};

/* How an encoder makes one vector of the tokens' vectors. */
enum infer_pooling {
    INFER_POOLING_FILE, /* in parameters only: what the file says */
    INFER_POOLING_NONE, /* a vector per token */
    INFER_POOLING_MEAN,
    INFER_POOLING_CLS, /* the first token's */
    INFER_POOLING_LAST
};

enum infer_classifier_kind {
    INFER_CLASSIFIER_NONE,       /* the file has no classifier */
    INFER_CLASSIFIER_SINGLE,     /* softmax: one of the classes */
    INFER_CLASSIFIER_MULTI,      /* sigmoids: any of the classes */
    INFER_CLASSIFIER_REGRESSION, /* the score itself */
};

struct infer_model_params {
    unsigned cpu; /* mask of allowed instruction sets; INFER_CPU_ALL */
};

/* Everything is borrowed from the model and lives as long as it does. */
struct infer_model_info {
    const char *path;
    const char *arch;          /* "llama", "gpt2", ... */
    const char *name;          /* general.name, or the file's base name */
    const char *type;          /* of most weights: "Q8_0", ... */
    const char *kernels;       /* "avx512vnni", ... */
    const char *chat_template; /* Jinja text, or NULL */
    uint32_t n_vocab, n_ctx_train, n_layers, n_heads, n_kv_heads;
    uint32_t d_model, d_head, d_ff;
    uint64_t n_params;
    uint64_t file_bytes;
    uint64_t weight_bytes; /* packed, in memory */
    double load_seconds;
    int32_t bos_id, eos_id; /* -1: none */
    enum infer_task task;

    /* encoders only, else zero */
    enum infer_pooling pooling;
    uint32_t n_out;             /* floats of one result: D, or n_classes */
    const uint32_t *dimensions; /* [n_dimensions] widths that a result may be
                                   cut to (matryoshka), ascending */
    uint32_t n_dimensions;
    bool has_ngrams; /* sequences need ngrams: infer_encode() makes them */
    enum infer_classifier_kind classifier;
    uint32_t n_classes;        /* 0: no head */
    const char *const *labels; /* [n_classes]; "LABEL_0", ... without names */
    const float *thresholds;   /* [n_classes] of a multi-label one, else NULL */
    float oos_threshold;       /* of a single-label one: a best score below it
                                  is none of the classes; 0: off */
    const char *oos_label;     /* what such a text is called; else NULL */
    bool takes_pairs;          /* it was trained on pairs of texts */
};

/*
 * Map, validate and pack a GGUF file. Every count, offset, type and shape of
 * the file is checked here, and no later function distrusts them again.
 *
 *   params  NULL: defaults
 * Cost    reads each weight once
 * Errors  EIO, EFORMAT (names the key or tensor), EUNSUPPORTED, ENOMEM
 * Spec    GGUF v3
 */
int infer_model_load(struct infer_model **model, const char *path,
                     const struct infer_model_params *params,
                     struct infer_error *err);
const struct infer_model_info *infer_model_info(const struct infer_model *m);
void infer_model_free(struct infer_model *m);

/* ---- tokenizer (of a model; any thread) --------------------------------- */

struct infer_tokens { /* caller frees with infer_tokens_release() */
    int32_t *ids;     /* [n] */
    size_t n;
};

/*
 * Token ids of a UTF-8 text; invalid bytes are encoded as the reference
 * (llama.cpp) does, never refused.
 *
 *   add_special    prepend/append what the file asks for (BOS, EOS)
 *   parse_special  turn the text of control tokens into their ids
 * Cost    O(len); a 1 MB text takes about 0.3 s
 * Errors  ENOMEM, ETOOLONG (over 64 MiB)
 */
int infer_tokenize(const struct infer_model *m, const char *text, size_t len,
                   bool add_special, bool parse_special,
                   struct infer_tokens *out, struct infer_error *err);
void infer_tokens_release(struct infer_tokens *tokens);

/* Bytes [begin, end) of a text that a token came from. */
struct infer_span {
    uint32_t begin, end; /* equal: none (a token that was added) */
};

/*
 * The same, and where each token came from.
 *
 *   spans  [out->n] malloc'd; bytes of a character that several tokens share
 *          belong to all of them
 */
int infer_tokenize_spans(const struct infer_model *m, const char *text,
                         size_t len, bool add_special, bool parse_special,
                         struct infer_tokens *out, struct infer_span **spans,
                         struct infer_error *err);

/* A stretch of a prompt made of several. */
struct infer_part {
    const char *text; /* [len], UTF-8 */
    size_t len;
    bool trusted; /* the text of a control token stands for that token */
};

/*
 * Token ids of parts that follow one another: those of the whole text, except
 * that nothing in an untrusted part, nor across a border of it, becomes a
 * control token, one that ends an answer, or one written like <this> or [this].
 * So a chat template can hold what a stranger wrote.
 *
 *   bos  begin with BOS even if the file does not ask for it
 * Errors  ENOMEM, ETOOLONG (over 64 MiB)
 */
int infer_tokenize_parts(const struct infer_model *m,
                         const struct infer_part *parts, size_t n, bool bos,
                         struct infer_tokens *out, struct infer_error *err);

/*
 * Text of ids, as one whole: the reference's detokenize with special tokens
 * removed (or shown). *text is malloc'd, NUL-terminated, may hold bytes that
 * are not UTF-8.
 * Errors  ENOMEM, EINVAL (an id outside the vocabulary)
 */
int infer_detokenize(const struct infer_model *m, const int32_t *ids, size_t n,
                     bool show_special, char **text, size_t *len,
                     struct infer_error *err);

/*
 * Bytes that one token stands for in the middle of a text ("\xe2\x96\x81" is a
 * space, <0x41> is "A"); control tokens give none unless show_special.
 * Borrowed from the model. NULL: id outside the vocabulary.
 */
const char *infer_token_bytes(const struct infer_model *m, int32_t id,
                              bool show_special, size_t *len);

/* Where text[0..len) may be cut so that no UTF-8 character is split: the
 * largest n <= len such that the bytes after n are an incomplete but so far
 * valid character. Invalid bytes count as complete. */
size_t infer_utf8_complete(const char *text, size_t len);

bool infer_token_is_eog(const struct infer_model *m, int32_t id);

/* ---- session: bare forward passes --------------------------------------- */

enum infer_kv_type { INFER_KV_F16, INFER_KV_F32 };

struct infer_session; /* opaque; one thread at a time */

struct infer_session_params {
    uint32_t n_seqs; /* independent sequences; 0: 1 */
    uint32_t n_ctx;  /* tokens each may hold; 0: the model's training context */
    uint32_t max_rows; /* rows of one call; 0: 512 */
    enum infer_kv_type kv_type;
};

/* One token to append to one sequence. */
struct infer_row {
    int32_t token;
    uint32_t seq;
    bool logits; /* wanted for this row */
};

int infer_session_create(struct infer_session **s, const struct infer_model *m,
                         struct infer_team *team,
                         const struct infer_session_params *params,
                         struct infer_error *err);

/*
 * Append rows to their sequences and compute next-token logits.
 *
 *   rows    [n]           in   1 <= n <= max_rows; rows of one sequence are
 *                              neighbours, in order
 *   logits  [n_wanted][V] out  in the order of the rows that want them; may be
 *                              NULL (use infer_session_logits())
 * Cost    no allocation
 * Errors  EINVAL (id, sequence), ETOOLONG
 */
int infer_session_eval(struct infer_session *s, const struct infer_row *rows,
                       size_t n, float *logits, struct infer_error *err);

/* Logits of the i-th wanted row of the last call; [V], borrowed until the next.
 */
const float *infer_session_logits(const struct infer_session *s, size_t i);

/* Forget all but the first n_tokens of a sequence. */
void infer_session_rewind(struct infer_session *s, uint32_t seq,
                          uint32_t n_tokens);
void infer_session_free(struct infer_session *s);

/* ---- grammars: constrained output --------------------------------------- */

/*
 * What a text may be, byte by byte. A grammar is built of parts, bottom up,
 * and knows nothing of any model; once finished it never changes, and any
 * number of threads and requests may share it.
 *
 * A builder that fails (out of memory, too large) returns 0, as do all after
 * it, and infer_grammar_finish() tells; so only that needs to be checked.
 */
struct infer_grammar; /* opaque */

int infer_grammar_create(struct infer_grammar **g, struct infer_error *err);

/* One byte of a set: byte b is bit b % 8 of set[b / 8]. */
uint32_t infer_grammar_bytes(struct infer_grammar *g, const uint8_t set[32]);
uint32_t infer_grammar_text(struct infer_grammar *g, const char *text,
                            size_t len);
/* All of n parts, one after the other; none: the empty text. */
uint32_t infer_grammar_sequence(struct infer_grammar *g, const uint32_t *parts,
                                size_t n);
/* One of n parts. Of more than 512 that begin alike, the later may get lost:
 * make a tree of them. */
uint32_t infer_grammar_choice(struct infer_grammar *g, const uint32_t *parts,
                              size_t n);
/* A part that is not empty, `least` to `most` times; UINT32_MAX: no end. */
uint32_t infer_grammar_repeat(struct infer_grammar *g, uint32_t part,
                              uint32_t least, uint32_t most);
/* A name for a part that is made later; so a grammar may recurse. */
uint32_t infer_grammar_rule(struct infer_grammar *g);
void infer_grammar_define(struct infer_grammar *g, uint32_t rule,
                          uint32_t part);

/*
 * The text is a `start`. culprit (may be NULL) gets the part at fault.
 * Cost    O(parts)
 * Errors  EINVAL (something can never end, recurses before it has taken a
 *         byte, or repeats what may be empty), ETOOLONG (over 131,071 parts,
 *         1 MiB of text, 4096 rules), ENOMEM
 */
int infer_grammar_finish(struct infer_grammar *g, uint32_t start,
                         uint32_t *culprit, struct infer_error *err);
void infer_grammar_free(struct infer_grammar *g);

/* ---- engine: continuous batching ---------------------------------------- */

struct infer_engine; /* opaque; all calls from one thread */

struct infer_engine_params { /* 0 means the default in brackets */
    uint32_t n_ctx;       /* tokens of one sequence [training context, at most
                             4096] */
    uint32_t max_running; /* sequences in one step [32] */
    uint32_t max_waiting; /* requests queued behind them [1024]; then EBUSY */
    uint32_t step_tokens; /* token budget of one step [512] */
    uint64_t kv_tokens;   /* capacity of the KV cache, all sequences
                             [max_running * n_ctx, at most 1 GiB] */
    enum infer_kv_type kv_type;
    bool no_prefix_cache;
};

struct infer_logit_bias {
    int32_t id;
    float bias; /* added to the logit, -100..100 */
};

struct infer_sampling {
    float temperature;        /* 0: greedy; else 0 < t <= 100 */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1); 0: off */
    float typical_p;          /* (0, 1]; 1: off */
    int32_t top_k;            /* 0: off */
    float repetition_penalty; /* > 0; 1: off (prompt and output) */
    float presence_penalty;   /* -2..2; 0: off (output only) */
    float frequency_penalty;  /* -2..2; 0: off (output only) */
    uint64_t seed;            /* choice i of a request draws from (seed, i) */
    const struct infer_logit_bias *bias; /* [n_bias], copied */
    size_t n_bias;
};

/* The neutral settings: greedy off, temperature 1, everything else off. */
void infer_sampling_default(struct infer_sampling *s);

enum infer_finish {
    INFER_FINISH_NONE,      /* still running */
    INFER_FINISH_STOP,      /* end of text, a stop string or a stop id */
    INFER_FINISH_LENGTH,    /* max_tokens or the context is used up, or a
                               grammar's text is cut short */
    INFER_FINISH_CANCELLED, /* the cancel flag was raised */
    INFER_FINISH_DEADLINE,  /* deadline_ns passed */
    INFER_FINISH_ERROR      /* NaN logits: the model is broken */
};

struct infer_logprob {
    int32_t id;
    float logprob; /* natural logarithm, of the model's own distribution
                      (before temperature, penalties and cuts) */
};

/* One sampled (or, with echo, given) token. */
struct infer_token_info {
    int32_t id;
    uint32_t text_offset; /* bytes of the choice's text before this token */
    float logprob;        /* NAN: none (not asked, or first prompt token) */
    uint32_t n_top;       /* alternatives, best first */
    const struct infer_logprob *top; /* [n_top] */
};

/* Something happened to one choice of a request. All pointers are borrowed for
 * the duration of the callback. */
struct infer_event {
    uint32_t choice;  /* 0 .. n-1 */
    const char *text; /* new text, whole UTF-8 characters */
    size_t text_len;  /* may be 0 */
    const struct infer_token_info *tokens; /* the tokens that this text ends */
    size_t n_tokens;
    enum infer_finish finish; /* not NONE: the last event of this choice */
    bool request_done;        /* the last event of the request */
    uint32_t n_prompt;        /* prompt tokens */
    uint32_t n_cached;        /* of these, found in the prefix cache */
    uint32_t n_generated;     /* by this choice so far */
    uint64_t submitted_ns, started_ns, first_token_ns, now_ns; /* 0: not yet */
};

/* Called by infer_engine_step(), on its thread. Must not call the engine. */
typedef void infer_event_fn(void *user, const struct infer_event *event);

struct infer_request {     /* copied by submit, but for user and cancel */
    const int32_t *prompt; /* [n_prompt], n_prompt >= 1 */
    size_t n_prompt;
    uint32_t max_tokens; /* 0: none, only evaluate (with echo) the prompt */
    uint32_t n;          /* choices; 0: 1 */
    struct infer_sampling sampling;
    int32_t logprobs; /* -1: none; else number of alternatives, at most 20 */
    bool echo;        /* prompt text (and logprobs) come first */
    bool text_start;  /* the output is a text of its own: a space that a
                         SentencePiece word brings to its beginning goes */
    bool ignore_eos;
    const char *const *stop; /* [n_stop] stop strings, not empty */
    size_t n_stop;
    const int32_t *stop_ids; /* [n_stop_ids] */
    size_t n_stop_ids;
    /* The output is a text of this grammar, or finish is LENGTH (also where a
     * stop string or id cuts it short). It ends by itself when nothing can
     * follow; ignore_eos has no effect. NULL: any text. Must live until
     * request_done. Errors of submit: EUNSUPPORTED, if the vocabulary lacks a
     * character of ASCII. */
    const struct infer_grammar *grammar;
    uint64_t cache_scope;  /* prefixes are shared within one scope only */
    int32_t priority;      /* higher starts first; ties by arrival */
    uint64_t deadline_ns;  /* infer_clock_ns() time; 0: none */
    const int32_t *cancel; /* read atomically between steps; not 0: stop. NULL:
                              never. Must live until request_done. */
    infer_event_fn *on_event;
    void *user;
};

struct infer_engine_stats {
    uint32_t n_running, n_waiting;
    uint32_t kv_blocks_used, kv_blocks_total; /* of kv_block_tokens each */
    uint32_t kv_block_tokens;
    uint64_t waiting_tokens; /* prompt tokens not yet computed */
    uint64_t n_steps;
    uint64_t prompt_tokens; /* computed, so without the cached */
    uint64_t cached_tokens;
    uint64_t generated_tokens;
    uint64_t n_preempted;
    uint32_t step_rows; /* rows of the last step */
    uint64_t step_ns;   /* duration of the last step */
};

/* Bytes an engine with these params will hold (KV cache and workspaces). */
uint64_t infer_engine_bytes(const struct infer_model *m,
                            const struct infer_engine_params *params);
int infer_engine_create(struct infer_engine **e, const struct infer_model *m,
                        struct infer_team *team,
                        const struct infer_engine_params *params,
                        struct infer_error *err);

/*
 * Queue a request. Its events come from later steps.
 * Errors  EINVAL (a field out of range, an id outside the vocabulary),
 *         ETOOLONG (prompt leaves no room in n_ctx), EBUSY, ENOMEM
 */
int infer_engine_submit(struct infer_engine *e, const struct infer_request *req,
                        struct infer_error *err);

/*
 * One step: honour cancels and deadlines, admit, run a batch, sample, emit.
 * Returns the number of unfinished requests (0: idle, nothing was done).
 */
size_t infer_engine_step(struct infer_engine *e);

void infer_engine_stats(const struct infer_engine *e,
                        struct infer_engine_stats *stats);

/* Context limit in tokens that submit enforces. */
uint32_t infer_engine_n_ctx(const struct infer_engine *e);

/* Free; unfinished requests get a CANCELLED event first. */
void infer_engine_free(struct infer_engine *e);

/* ---- encoder: embeddings and classes ------------------------------------ */

struct infer_encoder; /* opaque; one thread at a time */

struct infer_encoder_params {   /* 0 means the default in brackets */
    uint32_t max_tokens;        /* of one batch [the context, at least 2048] */
    uint32_t max_seqs;          /* of one batch [256] */
    enum infer_pooling pooling; /* other than the file's: no head then */
};

/* One text, or pair of texts, as ids with the special tokens in place. */
struct infer_sequence {
    const int32_t *ids; /* [n], 1 <= n <= the model's context */
    uint32_t n;
    const uint32_t *ngrams; /* [n_words + n_chars] rows of the n-gram embedding:
                               of word n-grams, then of character n-grams */
    uint32_t n_words, n_chars;
};

/* Errors  ENOMEM, EINVAL (a generator, a size out of range) */
int infer_encoder_create(struct infer_encoder **e, const struct infer_model *m,
                         struct infer_team *team,
                         const struct infer_encoder_params *params,
                         struct infer_error *err);
uint32_t infer_encoder_max_tokens(const struct infer_encoder *e);
uint32_t infer_encoder_max_seqs(const struct infer_encoder *e);

/*
 * Raw results of a packed batch: pooled vectors (not normalized) or the
 * outputs of the head (logits). A sequence's result is the same bits alone or
 * in any batch, in any place of it, on any number of threads.
 *
 *   seqs  [n_seqs]         in   n_seqs <= max_seqs, tokens <= max_tokens in all
 *   out   [n_seqs][n_out]  out  n_out as in the model's info; pooling NONE:
 *                               [tokens][D]
 * Cost    no allocation
 * Errors  EINVAL (an id or n-gram outside its table, an empty or too large
 *         batch), ETOOLONG (a sequence exceeds the context); both name the
 *         sequence
 */
int infer_encoder_run(struct infer_encoder *e,
                      const struct infer_sequence *seqs, size_t n_seqs,
                      float *out, struct infer_error *err);
/* What _run() would refuse of one sequence. */
int infer_encoder_check(const struct infer_encoder *e,
                        const struct infer_sequence *seq,
                        struct infer_error *err);
void infer_encoder_free(struct infer_encoder *e);

/* ---- batcher: an encoder for many clients -------------------------------- */

struct infer_batcher; /* opaque; all calls from one thread */

struct infer_batcher_params { /* 0 means the default in brackets */
    uint32_t max_tokens;      /* of one step [as of an encoder] */
    uint32_t max_seqs;        /* of one step [256] */
    uint32_t max_waiting;     /* sequences queued [8192]; then EBUSY */
    uint32_t max_delay_ms;    /* shorter ones overtake for so long [50] */
};

/* Called by infer_batcher_step(), on its thread; must not call the batcher.
 *   result  [n_out] as of infer_encoder_run(), borrowed; NULL unless STOP */
typedef void infer_result_fn(void *user, enum infer_finish finish,
                             const float *result);

/* The caller's memory, as are the ids; both live until on_result was called. */
struct infer_encode_request {
    struct infer_sequence seq;
    bool background;       /* goes when others leave room; a share is its own */
    uint64_t deadline_ns;  /* infer_clock_ns() time; 0: none */
    const int32_t *cancel; /* read atomically; not 0: stop. NULL: never */
    infer_result_fn *on_result;
    void *user;
    /* the batcher's own */
    struct infer_encode_request *prev, *next;
    uint64_t arrived_ns;
};

struct infer_batcher_stats {
    uint32_t n_waiting, n_running;
    uint64_t waiting_tokens;
    uint64_t n_steps, n_tokens, n_texts; /* computed */
    uint32_t step_seqs, step_tokens;     /* of the last step */
    uint64_t step_ns;
};

/* A file that pools nothing is pooled by its mean.
 * Errors  ENOMEM, EINVAL (a generator, a size out of range) */
int infer_batcher_create(struct infer_batcher **b, const struct infer_model *m,
                         struct infer_team *team,
                         const struct infer_batcher_params *params,
                         struct infer_error *err);

/*
 * Queue a sequence; its result comes from a later step.
 * Errors  EINVAL, ETOOLONG (see infer_encoder_run()), EBUSY
 */
int infer_batcher_submit(struct infer_batcher *b,
                         struct infer_encode_request *r,
                         struct infer_error *err);

/* What _submit() would refuse of a sequence. */
int infer_batcher_check(const struct infer_batcher *b,
                        const struct infer_sequence *seq,
                        struct infer_error *err);

/* One step: end what was cancelled or is late, run a batch, give results.
 * Returns the number of sequences that wait or were run (0: idle). */
size_t infer_batcher_step(struct infer_batcher *b);
void infer_batcher_stats(const struct infer_batcher *b,
                         struct infer_batcher_stats *stats);

/* Free; waiting sequences end as CANCELLED first. */
void infer_batcher_free(struct infer_batcher *b);

/* ---- texts for encoders ---------------------------------------------------
 */

struct infer_text_piece { /* UTF-8, borrowed */
    const char *text;
    size_t len;
};

enum infer_truncate {
    INFER_TRUNCATE_NO,    /* ETOOLONG */
    INFER_TRUNCATE_RIGHT, /* keep the beginning */
    INFER_TRUNCATE_LEFT   /* keep the end */
};

enum { INFER_TEXT_NONE = 255 }; /* a special token is of no text */

/* A sequence that owns its memory; infer_encoded_release(). */
struct infer_encoded {
    int32_t *ids;             /* [n] */
    struct infer_span *spans; /* [n] into the text that the token is of */
    uint8_t *text; /* [n] 0: the first text's, 1: the second's, or: */
    uint32_t n;
    uint32_t n_full;  /* before truncation */
    uint32_t *ngrams; /* [n_words + n_chars], of the whole text */
    uint32_t n_words, n_chars;
};

/*
 * A text, or a pair of texts, as an encoder was trained to read it: special
 * tokens around and between ([CLS] a [SEP] b [SEP]), n-grams if it has them.
 *
 *   pair        NULL: none
 *   max_tokens  at most so many ids, the special ones among them; 0: the
 *               model's context. Of a pair the longer text is cut first.
 * Thread  any
 * Errors  ETOOLONG (says the limit), ENOMEM
 */
int infer_encode(const struct infer_model *m,
                 const struct infer_text_piece *text,
                 const struct infer_text_piece *pair, uint32_t max_tokens,
                 enum infer_truncate truncate, struct infer_encoded *out,
                 struct infer_error *err);
void infer_encoded_release(struct infer_encoded *encoded);

/* Scale v[n] to length 1; all zero stays so. Sums in double. */
void infer_normalize(float *v, size_t n);

/*
 * Calibrated scores of one result: softmax or sigmoids of raw over the file's
 * temperature (sigmoid for a reranker), raw itself for regression.
 *   raw  [n_classes] in    scores  [n_classes] out, may be raw
 */
void infer_classifier_scores(const struct infer_model *m, const float *raw,
                             float *scores);

#ifdef __cplusplus
}
#endif
#endif
