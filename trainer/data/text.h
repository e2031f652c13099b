/*
 * text.h - the texts a model learns from: files, folders and JSONL, cleaned
 * and handed out piece by piece.
 *
 * Files are mapped and walked once, in a fixed order, so the corpus may be
 * larger than memory. A document is a JSONL row, or a file of plain text (or
 * each of its paragraphs or lines); it comes in parts of at most about
 * TRAIN_PART bytes that end behind a newline where there is one.
 */
#ifndef TRAINER_DATA_TEXT_H
#define TRAINER_DATA_TEXT_H

#include "trainer/data/sha256.h"
#include "trainer/options.h"

enum { TRAIN_PART = 1 << 18 };

enum train_unit { TRAIN_UNIT_FILE, TRAIN_UNIT_PARAGRAPH, TRAIN_UNIT_LINE };
enum train_normal { TRAIN_NORMAL_NONE, TRAIN_NORMAL_NFC, TRAIN_NORMAL_NFKC };
enum train_invalid { TRAIN_INVALID_STOP, TRAIN_INVALID_REPLACE };

struct train_text {
    struct train_list paths;       /* files and folders */
    const char *field;             /* of JSONL rows; NULL: "text" */
    int unit;                      /* an enum train_unit; of plain text */
    int normal;                    /* an enum train_normal */
    int invalid;                   /* an enum train_invalid */
    bool dedupe;                   /* drop documents seen before */
    uint64_t min_bytes, max_bytes; /* of a document; max 0: no limit */
    double val_share; /* part of the documents set apart, 0..1; of a file that
                         is one document, its end */
    uint64_t seed;    /* which documents those are */
};

/* Rows of the options above for a command's table; t must outlive it. */
#define TRAIN_TEXT_OPTIONS(t)                                                  \
    {"field",                                                                  \
     TRAIN_OPT_TEXT,                                                           \
     &(t)->field,                                                              \
     "NAME",                                                                   \
     0,                                                                        \
     0,                                                                        \
     "text field of JSONL rows (text)"},                                       \
        {"unit",                                                               \
         TRAIN_OPT_CHOICE,                                                     \
         &(t)->unit,                                                           \
         "file|paragraph|line",                                                \
         0,                                                                    \
         0,                                                                    \
         "what is a document in plain text (file)"},                           \
        {"normalize",                                                          \
         TRAIN_OPT_CHOICE,                                                     \
         &(t)->normal,                                                         \
         "none|nfc|nfkc",                                                      \
         0,                                                                    \
         0,                                                                    \
         "Unicode normalisation (none)"},                                      \
        {"invalid",                                                            \
         TRAIN_OPT_CHOICE,                                                     \
         &(t)->invalid,                                                        \
         "stop|replace",                                                       \
         0,                                                                    \
         0,                                                                    \
         "at bytes that are not UTF-8 (stop)"},                                \
        {"dedupe",                                                             \
         TRAIN_OPT_FLAG,                                                       \
         &(t)->dedupe,                                                         \
         "",                                                                   \
         0,                                                                    \
         0,                                                                    \
         "drop documents that came before"},                                   \
        {"min-bytes",                                                          \
         TRAIN_OPT_COUNT,                                                      \
         &(t)->min_bytes,                                                      \
         "N",                                                                  \
         0,                                                                    \
         1e15,                                                                 \
         "drop shorter documents (0)"},                                        \
    {                                                                          \
        "max-bytes", TRAIN_OPT_COUNT, &(t)->max_bytes, "N", 0, 1e15,           \
            "drop longer documents (0: keep all)"                              \
    }

struct train_part {
    const char *text; /* UTF-8, borrowed for the call; len may be 0 */
    size_t len;
    bool first, last; /* of its document */
    bool val;         /* the document is set apart for validation */
};

/* A negative status ends the walk and is its result. */
typedef int train_part_fn(void *user, const struct train_part *part,
                          struct infer_error *err);

struct train_text_file {
    char *path;
    uint64_t bytes;
    char sha256[TRAIN_SHA256_TEXT]; /* of the file as it is */
};

struct train_text_stats {
    struct train_text_file *files; /* [n_files], in the order they are read */
    size_t n_files;
    uint64_t docs, bytes;                       /* handed out */
    uint64_t duplicates, short_docs, long_docs; /* dropped */
    uint64_t replaced;                          /* bytes that were not UTF-8 */
};

/*
 * Walk all documents. stats may be NULL; the caller releases it, also after a
 * failure. Its checksums cost a pass over the files.
 * Errors  EIO (a path), EFORMAT (names file and line, and says what to do),
 *         EINVAL (nothing to read, or nothing is left), ENOMEM, fn's
 */
int train_text_each(const struct train_text *t, train_part_fn *fn, void *user,
                    struct train_text_stats *stats, struct infer_error *err);
void train_text_stats_release(struct train_text_stats *stats);

#endif
