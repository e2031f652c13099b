/* openapi.h - openapi.yaml, inside the binary. */
#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H

extern const char openapi_text[];
extern const char openapi_end[]; /* one past the last byte */

#endif
