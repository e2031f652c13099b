/* table_parts.h - what the files of the table reader share. */
#ifndef TRAINER_DATA_TABLE_PARTS_H
#define TRAINER_DATA_TABLE_PARTS_H

#include "trainer/data/table.h"

/* The file as UTF-8 in t->text [len], with a NUL behind. Errors  EIO, EFORMAT
 * (bytes that are not UTF-8: where, and what to do), ENOMEM */
int train_table_load(struct train_table *t, enum train_encoding encoding,
                     size_t *len, struct infer_error *err);

int train_table_read_json(struct train_table *t, size_t len,
                          const char *const *columns, struct infer_error *err);

/* Cells [n_columns] of a new row; NULL: out of memory. */
struct train_cell *train_table_add(struct train_table *t, uint64_t line,
                                   struct infer_error *err);

int train_table_fail(const struct train_table *t, uint64_t line,
                     const char *what, struct infer_error *err);

#endif
