/* web.h - the pages for people: playground and reference, in the binary. */
#ifndef SERVER_WEB_H
#define SERVER_WEB_H

#include <stddef.h>

struct web_file {
    const char *name; /* below /web/ */
    const char *type; /* Content-Type */
    const char *text, *end;
};

/* The file of this name, or NULL. */
const struct web_file *web_find(const char *name);

/* All files have one version: a quoted ETag that changes with any of them. */
extern const char web_etag[];

#endif
