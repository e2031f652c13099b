/*
 * table.h - examples with labels: CSV, TSV and JSONL files as rows of cells.
 *
 * Delimited files follow RFC 4180: fields in double quotes may hold delimiters,
 * line breaks and doubled quotes. In tab-separated files quotes are ordinary
 * characters. JSONL rows are objects; a value is a string, a number, true or
 * false, or a list of these. Everything becomes UTF-8: a byte order mark is
 * skipped, UTF-16 is converted, other bytes are refused, or taken as
 * Windows-1252 when asked. A file is read as a whole.
 */
#ifndef TRAINER_DATA_TABLE_H
#define TRAINER_DATA_TABLE_H

#include "trainer/options.h"

enum train_encoding { TRAIN_ENCODING_UTF8, TRAIN_ENCODING_CP1252 };
enum { TRAIN_TABLE_COLUMNS = 8 };

struct train_table_options {
    const char *delimiter; /* NULL or "auto": found out; one character or
                              "tab" */
    bool no_header;        /* columns are numbers from 1 */
    int encoding;          /* an enum train_encoding */
};

/* Items of a list follow each other, each ended by a NUL; all else is one. */
struct train_cell {
    const char *text; /* UTF-8 without NUL bytes inside an item */
    size_t len;       /* bytes, with the NULs between items */
    size_t n;         /* items; an empty list: 0 */
};

struct train_table {
    char *path;
    char *text;   /* the file, converted and cut up; cells point into it */
    char **extra; /* [n_extra] more memory of cells */
    size_t n_extra, extra_cap;
    struct train_cell *cells; /* [n_rows][n_columns] */
    uint64_t *lines;          /* [n_rows] where each begins, from 1 */
    size_t n_rows, n_columns, rows_cap;
    char note[120]; /* what was converted; "" nothing */
};

/*
 * Read the named columns of a file; zero *t first.
 *
 *   columns  [n]  names (of the header, or JSON fields), or numbers from 1 of a
 *                 delimited file
 * Errors  EIO, ENOMEM, EINVAL (no such column: the message lists those there
 *         are), EFORMAT (names file and line)
 */
int train_table_read(struct train_table *t, const char *path,
                     const struct train_table_options *o,
                     const char *const *columns, size_t n,
                     struct infer_error *err);
void train_table_release(struct train_table *t);

/* A row's cell. */
const struct train_cell *train_table_cell(const struct train_table *t,
                                          size_t row, size_t column);

/* "file:line" for messages, at most n bytes with the NUL. */
void train_table_where(const struct train_table *t, size_t row, char *to,
                       size_t n);

#endif
