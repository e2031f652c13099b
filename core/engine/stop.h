/*
 * stop.h - from token bytes to text that may be shown: whole UTF-8 characters
 * that cannot become part of a stop string any more.
 */
#ifndef INFER_ENGINE_STOP_H
#define INFER_ENGINE_STOP_H

#include "infer.h"

enum { INFER_MAX_STOPS = 256, INFER_MAX_STOP_BYTES = 1024 };

/* Stop strings of a request; any bytes, none empty. */
struct infer_stops {
    const char *const *text; /* [n] */
    const uint32_t *len;     /* [n] bytes */
    uint32_t n;
    uint32_t longest; /* max(len), 0 when n is 0 */
};

/*
 * The text of one choice in the making. Two coordinates: raw bytes, as the
 * tokens spell them, and text bytes, where each invalid byte sequence has
 * become U+FFFD. On valid UTF-8 they are the same.
 */
struct infer_text {
    const struct infer_stops *stops; /* borrowed */
    char *raw;                       /* [cap] not yet dropped */
    char *out;                       /* [3 * cap] text of raw[0..ready) */
    uint32_t cap, len;               /* bytes of raw */
    uint32_t exempt; /* leading bytes of raw that no stop may touch */
    uint32_t ready;  /* leading bytes of raw shown by out; dropped next */
    uint32_t out_len;
    uint64_t raw_base, out_base; /* bytes before raw[0] and out[0] */
    bool stopped;                /* a stop string was found and cut off */
};

/* Bytes that `raw` and `out` need together when a token has at most n bytes. */
size_t infer_text_bytes(const struct infer_stops *stops, size_t n);
/* memory: infer_text_bytes(stops, n), borrowed. */
void infer_text_init(struct infer_text *t, const struct infer_stops *stops,
                     size_t n, char *memory);

/*
 * Append the bytes of a token. Afterwards out[0..out_len) is new text to show.
 * When a stop string ends in these bytes, the text ends before it (the match
 * that ends first, of these the longest) and `stopped` is set: feed no more.
 *
 *   exempt  these bytes (an echoed prompt) are not searched for stops
 */
void infer_text_feed(struct infer_text *t, const char *bytes, size_t n,
                     bool exempt);

/* No more bytes: what was held back joins out; a cut character, as U+FFFD. */
void infer_text_finish(struct infer_text *t);

/* out was consumed: forget it (a feed implies this). */
void infer_text_drop(struct infer_text *t);

/* Raw bytes seen, shown or held back. */
uint64_t infer_text_raw_end(const struct infer_text *t);
/* Raw bytes that were shown, with out. */
uint64_t infer_text_raw_shown(const struct infer_text *t);
/* Text coordinate of a raw one in raw[0..ready]; later ones: the end of out. */
uint64_t infer_text_offset(const struct infer_text *t, uint64_t raw_pos);

#endif
