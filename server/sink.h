/*
 * sink.h - a file, or a pipe, that takes lines and never stops the loop.
 *
 * Loop thread only. Lines collect in memory; a thread of libuv's pool writes
 * them out in large pieces, a twentieth of a second after the first or as soon
 * as there are many. A disk or a reader that does not keep up loses lines,
 * which are counted, not requests.
 */
#ifndef SERVER_SINK_H
#define SERVER_SINK_H

#include "server/buf.h"
#include "server/config.h"

#include <stdint.h>
#include <uv.h>

struct sink {
    uv_loop_t *loop; /* NULL: closed, takes nothing */
    uv_timer_t timer;
    uv_work_t work;
    const char *path;   /* borrowed; NULL: a stream that cannot be reopened */
    struct buf pending; /* whole lines that wait */
    size_t line;        /* where the line being written begins in it */
    bool busy;          /* work is in the pool's hands, and so is what follows
                           the next comment */
    bool held;          /* collect, but do not write yet */
    bool reopen;        /* asked for; the next work does it */
    int failure;        /* errno last reported; 0: all is well */
    uint64_t dropped;   /* lines lost so far */

    /* the pool's while busy */
    int fd;
    struct buf writing;
    size_t written; /* bytes of writing that are done */
    bool reopening, torn;
    int error; /* errno of this piece of work, or 0 */
};

/*
 * Open `to`: "stdout", "stderr", or a file that lines are appended to. What
 * comes is held until sink_release_hold(). `to` outlives s.
 * Errors  EIO; err names the file
 */
int sink_open(struct sink *s, uv_loop_t *loop, const char *to,
              struct infer_error *err);
void sink_release_hold(struct sink *s);

/* The end of a buffer to write one line into; NULL: there is no room, or s is
 * closed. sink_line_end() adds the line feed. */
struct buf *sink_line(struct sink *s);
void sink_line_end(struct sink *s);

/* Is there a file that can be opened anew? Then do so, with the next lines. */
bool sink_reopen(struct sink *s);

/* After the loop has run out (its handles are closed, no work is left): write
 * what waits, for a second at most, and free. A sink never opened is fine. */
void sink_close(struct sink *s);

#endif
