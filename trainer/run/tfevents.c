/* tfevents.c - see tfevents.h. A message is a few dozen bytes, so it is put
 * together in a buffer of fixed size. */
#include "trainer/run/tfevents.h"

#include "core/base/error.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1024, MAX_TAG = 64 };

/* Fields by number; a key is number << 3 | wire type. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { EVENT_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5 };
enum { EVENT_SESSION = 7, SESSION_STATUS = 1, SESSION_START = 1 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2 };

struct message {
    uint8_t data[ROOM];
    size_t n;
};

static void put_varint(struct message *m, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        m->data[m->n++] = (uint8_t)(v | 0x80);
    m->data[m->n++] = (uint8_t)v;
}

static void put_key(struct message *m, unsigned field, unsigned type)
{
    put_varint(m, field << 3 | type);
}

static void put_fixed(struct message *m, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        m->data[m->n++] = (uint8_t)(v >> 8 * i);
}

static void put_bytes(struct message *m, unsigned field, const void *data,
                      size_t n)
{
    put_key(m, field, BYTES);
    put_varint(m, n);
    memcpy(m->data + m->n, data, n);
    m->n += n;
}

static struct message event_at(uint64_t step)
{
    struct message m = {.n = 0};
    struct timespec now;
    double seconds;
    uint64_t bits;

    clock_gettime(CLOCK_REALTIME, &now);
    seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    memcpy(&bits, &seconds, sizeof(bits));
    put_key(&m, EVENT_TIME, FIXED64);
    put_fixed(&m, bits, 8);
    put_key(&m, EVENT_STEP, VARINT);
    put_varint(&m, step);
    return m;
}

/* A bit at a time: some hundred bytes a row. */
static uint32_t masked_crc(const uint8_t *data, size_t n)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static int write_record(struct train_events *e, const struct message *m,
                        struct infer_error *err)
{
    struct message record = {.n = 0};

    put_fixed(&record, m->n, 8);
    put_fixed(&record, masked_crc(record.data, 8), 4);
    fwrite(record.data, 1, record.n, e->file);
    fwrite(m->data, 1, m->n, e->file);
    record.n = 0;
    put_fixed(&record, masked_crc(m->data, m->n), 4);
    fwrite(record.data, 1, record.n, e->file);
    if (fflush(e->file) != 0)
        return infer_fail(err, INFER_EIO, "cannot write TensorBoard events: %s",
                          strerror(errno));
    return 0;
}

int train_events_open(struct train_events *e, const char *folder,
                      uint64_t next_step, struct infer_error *err)
{
    static const uint8_t start[] = {SESSION_STATUS << 3 | VARINT,
                                    SESSION_START};
    struct message m = event_at(0);
    char path[4096], host[65] = "host";
    int status;

    gethostname(host, sizeof(host) - 1);
    snprintf(path, sizeof(path), "%s/events.out.tfevents.%010lld.%s.%ld",
             folder, (long long)time(NULL), host, (long)getpid());
    e->file = fopen(path, "wx");
    if (!e->file)
        return infer_fail(err, INFER_EIO, "cannot create '%.150s': %s", path,
                          strerror(errno));
    put_bytes(&m, EVENT_VERSION, "brain.Event:2", 13);
    status = write_record(e, &m, err);
    if (status != 0)
        return status;
    m = event_at(next_step);
    put_bytes(&m, EVENT_SESSION, start, sizeof(start));
    return write_record(e, &m, err);
}

static void put_scalar(struct message *summary, const struct train_scalar *s)
{
    const float value = (float)s->value;
    struct message m = {.n = 0};
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_bytes(&m, VALUE_TAG, s->tag, strnlen(s->tag, MAX_TAG));
    put_key(&m, VALUE_SIMPLE, FIXED32);
    put_fixed(&m, bits, 4);
    put_bytes(summary, SUMMARY_VALUE, m.data, m.n);
}

int train_events_add(struct train_events *e, uint64_t step,
                     const struct train_scalar *scalars, size_t n,
                     struct infer_error *err)
{
    struct message m = event_at(step), summary = {.n = 0};

    for (size_t i = 0; i < n && summary.n < ROOM / 2; i++)
        if (isfinite(scalars[i].value))
            put_scalar(&summary, &scalars[i]);
    put_bytes(&m, EVENT_SUMMARY, summary.data, summary.n);
    return write_record(e, &m, err);
}

void train_events_close(struct train_events *e)
{
    if (e->file)
        fclose(e->file);
    e->file = NULL;
}
