/* histogram.c - counts of measurements by size, in Prometheus' text form. */
#include "server/histogram.h"

#include <inttypes.h>

static const double seconds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                 0.05,   0.1,   0.25,   0.5,   1,    2.5,
                                 5,      10,    30,     60,    300};
static const double rows[] = {1,  2,   4,   8,   16,   32,
                              64, 128, 256, 512, 1024, 4096};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void init(struct histogram *h, const double *bounds, size_t n,
                 double unit)
{
    h->bounds = bounds;
    h->n = n;
    h->unit = unit;
}

void histogram_init_seconds(struct histogram *h)
{
    init(h, seconds, COUNT(seconds), 1e-9);
}

void histogram_init_rows(struct histogram *h)
{
    init(h, rows, COUNT(rows), 1);
}

void histogram_add(struct histogram *h, double v)
{
    size_t i = 0;

    if (!(v >= 0))
        v = 0;
    while (i < h->n && v > h->bounds[i])
        i++;
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, (uint64_t)(v / h->unit + 0.5),
                              memory_order_relaxed);
}

void histogram_print(struct buf *out, const char *name, const char *labels,
                     const struct histogram *h)
{
    const char *comma = *labels ? "," : "";
    uint64_t total = 0;

    for (size_t i = 0; i <= h->n; i++) {
        total += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
        if (i < h->n)
            buf_printf(out, "%g", h->bounds[i]);
        else
            buf_str(out, "+Inf");
        buf_printf(out, "\"} %" PRIu64 "\n", total);
    }
    buf_printf(out, "%s_sum{%s} %.9g\n%s_count{%s} %" PRIu64 "\n", name, labels,
               (double)atomic_load_explicit(&h->sum, memory_order_relaxed) *
                   h->unit,
               name, labels, total);
}
