/*
 * replace.h - write a file so that readers see the old one or the new one.
 *
 *   begin    a temporary file beside the path
 *   write    any number of times
 *   commit   fsync, rename over the path, fsync of the folder
 *   abort    removes the temporary file; nothing after commit
 *   file     all of that, for bytes that are in memory
 */
#ifndef INFER_FORMAT_REPLACE_H
#define INFER_FORMAT_REPLACE_H

#include "infer.h"

struct infer_replace {
    const char *path; /* borrowed */
    char *temp;       /* owned; NULL when there is no temporary file */
    int fd;           /* -1: closed */
};

/* All: EIO (says what failed); begin also ENOMEM. */
int infer_replace_begin(struct infer_replace *r, const char *path,
                        struct infer_error *err);
int infer_replace_write(struct infer_replace *r, const void *data, size_t n,
                        struct infer_error *err);
int infer_replace_commit(struct infer_replace *r, struct infer_error *err);
void infer_replace_abort(struct infer_replace *r);
int infer_replace_file(const char *path, const void *data, size_t n,
                       struct infer_error *err);

#endif
