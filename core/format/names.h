/*
 * names.h - a set of names, each with a number: the index of keys and tensors.
 */
#ifndef INFER_FORMAT_NAMES_H
#define INFER_FORMAT_NAMES_H

#include "infer.h"

struct infer_names {
    struct infer_name *slots; /* [cap], open addressing; NULL when empty */
    size_t cap;               /* 0 or a power of two, at most half full */
    size_t n;
};

/*
 * Add a name; its bytes are borrowed.
 * Returns  0, or 1 when it is there already (nothing changes)
 * Errors   ENOMEM
 */
int infer_names_add(struct infer_names *names, const char *name, size_t len,
                    uint32_t id);

/* The number of a name, -1: absent. O(1) expected. */
int64_t infer_names_find(const struct infer_names *names, const char *name,
                         size_t len);

void infer_names_release(struct infer_names *names);

#endif
