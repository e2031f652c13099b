/*
 * examples.h - files of labelled texts as what a classifier learns from: who is
 * in which class, in ids.
 */
#ifndef TRAINER_ENC_EXAMPLES_H
#define TRAINER_ENC_EXAMPLES_H

#include "core/format/names.h"
#include "trainer/data/table.h"
#include "trainer/enc/model.h"

enum enc_kind { ENC_SINGLE, ENC_MULTI, ENC_REGRESSION };

/* How the files are to be read. */
struct enc_columns {
    struct train_table_options table;
    const char *text, *pair, *label; /* columns; pair NULL: none */
    const char *separator; /* of several labels in one field, or NULL */
    const char *oos;       /* label of texts that belong to no class, or NULL */
    int kind;              /* an enum enc_kind */
};

struct enc_row {
    const char *a, *b; /* b NULL: no pair */
    size_t a_len, b_len;
    const struct train_cell *label;
    const struct train_table *table;
    size_t row; /* of it */
};

/* Rows of several files. Zero it to start. */
struct enc_rows {
    struct train_table *tables; /* [n_tables] */
    size_t n_tables;
    struct enc_row *rows; /* [n] */
    size_t n;
};

/* Errors  as train_table_read(); EFORMAT (an empty text) */
int enc_rows_read(struct enc_rows *r, const struct train_list *paths,
                  const struct enc_columns *c, struct infer_error *err);
void enc_rows_release(struct enc_rows *r);

/* Is a row of the held-out share? By a hash of its text: the same text always
 * falls on the same side. */
bool enc_row_held_out(const struct enc_row *row, double share, uint64_t seed);

/* The names of the classes, sorted. */
struct enc_labels {
    char **names; /* [n] */
    size_t n, cap;
    struct infer_names index;
};

/* Of all rows. Errors  EINVAL (fewer than two classes), ENOMEM */
int enc_labels_collect(struct enc_labels *l, const struct enc_rows *r,
                       const struct enc_columns *c, struct infer_error *err);
void enc_labels_release(struct enc_labels *l);

/* Examples ready for training. Zero it to start. */
struct enc_set {
    struct enc_texts texts;
    const struct enc_row **rows; /* [n], borrowed */
    int32_t *targets;            /* [n] classes, -1: out of scope; ENC_SINGLE */
    float *values;               /* [n][C] 0 or 1; [n] numbers: the others */
    size_t n, cap, n_classes;
};

/* Append a row. Errors  EFORMAT (file and line: an unknown label, not a
 * number), ENOMEM */
int enc_set_add(struct enc_set *s, struct enc_model *m,
                const struct enc_row *row, const struct enc_labels *l,
                const struct enc_columns *c, struct infer_error *err);
void enc_set_release(struct enc_set *s);

#endif
