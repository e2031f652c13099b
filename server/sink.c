/*
 * sink.c - lines on their way to a file or a pipe, off the loop.
 *
 * Two buffers: the loop fills one while a thread of the pool writes the other,
 * and they change places when it is done. write() to a disk may take seconds
 * (a full journal, a network file system), so the loop never calls it. A pipe
 * is asked first whether it has room (poll(), pieces of PIPE_BUF at most), so
 * that a reader that sleeps holds no thread: the rest is tried again later.
 *
 * A write that fails midway (the disk is full) leaves half a line; the next
 * one that succeeds ends it first, so that one line is lost and not two.
 */
#include "server/sink.h"
#include "server/log.h"
#include "server/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FLUSH_MS = 50,
    EAGER_BYTES = 64 << 10, /* this much does not wait for the timer */
    PENDING_BYTES = 1 << 20,
    LINE_BYTES = 4096, /* room that a line may need */
    POLL_MS = 100,
    LAST_POLL_MS = 1000
};

/* ---- in the pool --------------------------------------------------------- */

/* O_NONBLOCK: a FIFO that nobody reads is an error, not a wait. */
static int open_path(const char *path)
{
    return open(
        path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
        0640);
}

/* logrotate has renamed the file: go on in one of the old name. */
static void open_again(struct sink *s)
{
    const int fd = open_path(s->path);

    if (fd < 0) {
        s->error = errno;
        return;
    }
    close(s->fd);
    s->fd = fd;
    s->torn = false;
}

static size_t piece_bytes(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? EAGER_BYTES : PIPE_BUF;
}

/* At most n bytes, if they can be taken within wait_ms. 0: not now; -1: errno
 * says why not. */
static ssize_t put(int fd, const char *data, size_t n, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    ssize_t done;

    if (poll(&p, 1, wait_ms) != 1)
        return 0;
    done = write(fd, data, n);
    return done < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : done;
}

static void write_out(struct sink *s, int wait_ms)
{
    const size_t piece = piece_bytes(s->fd);
    ssize_t n = 1;

    if (s->torn) {
        n = put(s->fd, "\n", 1, wait_ms);
        s->torn = n != 1;
    }
    while (n > 0 && s->written < s->writing.len) {
        const size_t left = s->writing.len - s->written;

        n = put(s->fd, s->writing.data + s->written,
                left < piece ? left : piece, wait_ms);
        if (n > 0)
            s->written += (size_t)n;
    }
    if (n < 0)
        s->error = errno;
}

static void on_work(uv_work_t *work)
{
    struct sink *s = work->data;

    s->error = 0;
    if (s->reopening)
        open_again(s);
    write_out(s, POLL_MS);
}

/* ---- on the loop --------------------------------------------------------- */

static void on_timer(uv_timer_t *t);

static size_t lines_in(const char *data, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += data[i] == '\n';
    return count;
}

/* What could not be written is lost; what was begun stays half. */
static void lose_rest(struct sink *s)
{
    s->dropped +=
        lines_in(s->writing.data + s->written, s->writing.len - s->written);
    if (s->written)
        s->torn = s->writing.data[s->written - 1] != '\n';
    s->writing.len = s->written = 0;
}

/* Once per cause: a full disk would fill the other log, too. */
static void report(struct sink *s)
{
    if (s->error && s->error != s->failure)
        log_line(LEVEL_ERROR, "access_log_failed", "reason=%s",
                 uv_err_name(uv_translate_sys_error(s->error)));
    if (!s->error && s->failure)
        log_line(LEVEL_INFO, "access_log_resumed", "dropped=%llu",
                 (unsigned long long)s->dropped);
    s->failure = s->error;
}

static void wait_more(struct sink *s)
{
    if (!uv_is_closing((uv_handle_t *)&s->timer) &&
        !uv_is_active((uv_handle_t *)&s->timer))
        uv_timer_start(&s->timer, on_timer, FLUSH_MS, 0);
}

static void on_done(uv_work_t *work, int status)
{
    struct sink *s = work->data;

    (void)status;
    s->busy = s->reopening = false;
    report(s);
    if (s->error)
        lose_rest(s);
    if (s->written == s->writing.len)
        s->writing.len = s->written = 0;
    if (s->writing.len || s->pending.len || s->reopen)
        wait_more(s);
}

/* Hand over what waits, unless a piece of work has it all still to do. */
static void flush(struct sink *s)
{
    sigset_t before;

    if (s->busy || s->held)
        return;
    if (s->writing.len == 0) {
        const struct buf empty = s->writing;

        s->writing = s->pending;
        s->pending = empty;
    }
    if (s->writing.len == 0 && !s->reopen)
        return;
    s->reopening = s->reopen;
    s->reopen = false;
    s->work.data = s;
    signals_hold(&before); /* the first work begins the pool's threads */
    s->busy = uv_queue_work(s->loop, &s->work, on_work, on_done) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_timer(uv_timer_t *t)
{
    flush(t->data);
}

struct buf *sink_line(struct sink *s)
{
    if (!s->loop)
        return NULL;
    if (s->pending.len + LINE_BYTES > PENDING_BYTES ||
        !buf_reserve(&s->pending, LINE_BYTES)) {
        s->pending.failed = false;
        s->dropped++;
        return NULL;
    }
    s->line = s->pending.len;
    return &s->pending;
}

void sink_line_end(struct sink *s)
{
    struct buf *b = &s->pending;

    buf_char(b, '\n');
    if (b->failed) {
        b->failed = false;
        b->len = s->line;
        s->dropped++;
        return;
    }
    if (b->len >= EAGER_BYTES)
        flush(s);
    wait_more(s);
}

bool sink_reopen(struct sink *s)
{
    if (!s->loop || !s->path)
        return false;
    s->reopen = true;
    flush(s);
    return true;
}

void sink_release_hold(struct sink *s)
{
    s->held = false;
    if (s->loop && s->pending.len)
        wait_more(s);
}

/* ---- life ---------------------------------------------------------------- */

int sink_open(struct sink *s, uv_loop_t *loop, const char *to,
              struct infer_error *err)
{
    memset(s, 0, sizeof(*s));
    if (strcmp(to, "stdout") == 0) {
        s->fd = STDOUT_FILENO;
    } else if (strcmp(to, "stderr") == 0) {
        s->fd = STDERR_FILENO;
    } else {
        s->path = to;
        s->fd = open_path(to);
    }
    if (s->fd < 0)
        return config_fail(err, INFER_EIO, "cannot open '%s': %s", to,
                           strerror(errno));
    uv_timer_init(loop, &s->timer);
    s->timer.data = s;
    s->loop = loop;
    s->held = true;
    return 0;
}

void sink_close(struct sink *s)
{
    if (!s->loop)
        return;
    for (int i = 0; i < 2; i++) {
        write_out(s, LAST_POLL_MS);
        if (s->written < s->writing.len)
            break;
        buf_release(&s->writing);
        s->writing = s->pending;
        s->written = 0;
        memset(&s->pending, 0, sizeof(s->pending));
    }
    if (s->path)
        close(s->fd);
    buf_release(&s->writing);
    buf_release(&s->pending);
    memset(s, 0, sizeof(*s));
}
