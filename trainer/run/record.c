/*
 * record.c - see record.h. Rows are kept in memory too (a run has some
 * thousands), since the picture is drawn from them.
 */
#include "trainer/run/record.h"

#include "core/base/error.h"
#include "core/format/replace.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char head[] = "step,tokens,seconds,loss,val_loss,lr,norm,speed\n";

enum { WIDTH = 800, HEIGHT = 400, LEFT = 60, BOTTOM = 40, TOP = 20 };

static int io_fail(const struct train_record *r, const char *name,
                   struct infer_error *err)
{
    return infer_fail(err, INFER_EIO, "cannot write '%.120s/%s': %s", r->folder,
                      name, strerror(errno));
}

static FILE *open_in(const struct train_record *r, const char *name,
                     const char *mode)
{
    char *path = NULL;
    FILE *f = NULL;

    if (asprintf(&path, "%s/%s", r->folder, name) >= 0)
        f = fopen(path, mode);
    free(path);
    return f;
}

/* Close a stream in memory and put what it holds in the file's place. */
static int replace_stream(const struct train_record *r, const char *name,
                          FILE *f, char **text, const size_t *size,
                          struct infer_error *err)
{
    char *path = NULL;
    int status;

    if (!f || fclose(f) != 0 || asprintf(&path, "%s/%s", r->folder, name) < 0)
        status = infer_fail(err, INFER_ENOMEM, "out of memory");
    else
        status = infer_replace_file(path, *text, *size, err);
    free(path);
    free(*text);
    *text = NULL;
    return status;
}

static int keep(struct train_record *r, const struct train_row *row)
{
    if (r->n == r->cap) {
        const size_t cap = r->cap ? r->cap * 2 : 256;
        struct train_row *rows = realloc(r->rows, cap * sizeof(*rows));

        if (!rows)
            return INFER_ENOMEM;
        r->rows = rows;
        r->cap = cap;
    }
    r->rows[r->n++] = *row;
    return 0;
}

/* An absent number is an empty field. */
static void csv_number(FILE *f, double v, char end)
{
    if (isfinite(v))
        fprintf(f, "%.9g", v);
    fputc(end, f);
}

static void json_number(FILE *f, const char *name, double v)
{
    if (isfinite(v))
        fprintf(f, ",\"%s\":%.9g", name, v);
}

static void write_csv(FILE *c, const struct train_row *row)
{
    fprintf(c, "%llu,%llu,", (unsigned long long)row->step,
            (unsigned long long)row->tokens);
    csv_number(c, row->seconds, ',');
    csv_number(c, row->loss, ',');
    csv_number(c, row->val_loss, ',');
    csv_number(c, row->lr, ',');
    csv_number(c, row->norm, ',');
    csv_number(c, row->speed, '\n');
}

static void write_jsonl(FILE *j, const struct train_row *row)
{
    fprintf(j, "{\"step\":%llu,\"tokens\":%llu", (unsigned long long)row->step,
            (unsigned long long)row->tokens);
    json_number(j, "seconds", row->seconds);
    json_number(j, "loss", row->loss);
    json_number(j, "val_loss", row->val_loss);
    json_number(j, "lr", row->lr);
    json_number(j, "norm", row->norm);
    json_number(j, "speed", row->speed);
    fputs("}\n", j);
}

static int write_row(struct train_record *r, const struct train_row *row,
                     struct infer_error *err)
{
    write_csv(r->csv, row);
    write_jsonl(r->jsonl, row);
    if (fflush(r->csv) != 0)
        return io_fail(r, "metrics.csv", err);
    if (fflush(r->jsonl) != 0)
        return io_fail(r, "metrics.jsonl", err);
    return 0;
}

/* The file with the rows that are kept, so that a kill never finds fewer; then
 * open it to append. */
static int begin_file(const struct train_record *r, const char *name,
                      const char *first,
                      void (*write)(FILE *f, const struct train_row *row),
                      FILE **out, struct infer_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int status;

    if (f)
        fputs(first, f);
    for (size_t i = 0; f && i < r->n; i++)
        write(f, &r->rows[i]);
    status = replace_stream(r, name, f, &text, &size, err);
    if (status != 0)
        return status;
    *out = open_in(r, name, "a");
    return *out ? 0 : io_fail(r, name, err);
}

static double field(char **s)
{
    char *end;
    const double v = strtod(*s, &end);
    const bool none = end == *s;

    *s = end + (*end == ',');
    return none ? (double)NAN : v;
}

static int read_back(struct train_record *r, uint64_t last_step)
{
    FILE *f = open_in(r, "metrics.csv", "r");
    char line[512];
    int status = 0;

    while (f && status == 0 && fgets(line, sizeof(line), f)) {
        struct train_row row;
        char *s = line;

        if (line[0] < '0' || line[0] > '9' || !strchr(line, '\n'))
            continue;
        row.step = (uint64_t)field(&s);
        row.tokens = (uint64_t)field(&s);
        row.seconds = field(&s);
        row.loss = field(&s);
        row.val_loss = field(&s);
        row.lr = field(&s);
        row.norm = field(&s);
        row.speed = field(&s);
        if (row.step <= last_step)
            status = keep(r, &row);
    }
    if (f)
        fclose(f);
    return status;
}

int train_record_open(struct train_record *r, const char *folder,
                      uint64_t last_step, struct infer_error *err)
{
    int status;

    *r = (struct train_record){.folder = strdup(folder)};
    if (!r->folder || (last_step > 0 && read_back(r, last_step) != 0))
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = begin_file(r, "metrics.csv", head, write_csv, &r->csv, err);
    if (status == 0)
        status =
            begin_file(r, "metrics.jsonl", "", write_jsonl, &r->jsonl, err);
    if (status == 0)
        status = train_events_open(&r->events, folder, last_step + 1, err);
    return status;
}

int train_record_add(struct train_record *r, const struct train_row *row,
                     struct infer_error *err)
{
    const struct train_scalar scalars[] = {
        {"loss/training", row->loss}, {"loss/validation", row->val_loss},
        {"learning rate", row->lr},   {"gradient length", row->norm},
        {"tokens/s", row->speed},     {"tokens", (double)row->tokens},
    };
    int status;

    if (keep(r, row) != 0)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    status = write_row(r, row, err);
    if (status == 0)
        status = train_events_add(&r->events, row->step, scalars,
                                  sizeof(scalars) / sizeof(*scalars), err);
    return status;
}

void train_record_close(struct train_record *r)
{
    if (r->csv)
        fclose(r->csv);
    if (r->jsonl)
        fclose(r->jsonl);
    train_events_close(&r->events);
    free(r->rows);
    free(r->folder);
    *r = (struct train_record){0};
}

/* ---- the picture ------------------------------------------------------------
 */

struct range {
    double low, high, last; /* losses, and the last step */
};

static struct range find_range(const struct train_record *r)
{
    struct range g = {(double)INFINITY, -(double)INFINITY, 1.0};

    for (size_t i = 0; i < r->n; i++) {
        const double values[] = {r->rows[i].loss, r->rows[i].val_loss};

        for (int k = 0; k < 2; k++) {
            if (!isfinite(values[k]))
                continue;
            g.low = fmin(g.low, values[k]);
            g.high = fmax(g.high, values[k]);
        }
        g.last = fmax(g.last, (double)r->rows[i].step);
    }
    if (!(g.high > g.low)) {
        g.low = isfinite(g.low) ? g.low - 0.5 : 0.0;
        g.high = g.low + 1.0;
    }
    return g;
}

static void draw_line(FILE *f, const struct train_record *r,
                      const struct range *g, bool val, const char *colour)
{
    fprintf(f,
            "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" "
            "points=\"",
            colour);
    for (size_t i = 0; i < r->n; i++) {
        const double v = val ? r->rows[i].val_loss : r->rows[i].loss;

        if (isfinite(v))
            fprintf(f, "%.1f,%.1f ",
                    LEFT +
                        (WIDTH - LEFT - 20) * (double)r->rows[i].step / g->last,
                    TOP + (HEIGHT - TOP - BOTTOM) * (g->high - v) /
                              (g->high - g->low));
    }
    fputs("\"/>\n", f);
}

static void draw_axes(FILE *f, const struct range *g)
{
    for (int i = 0; i <= 4; i++) {
        const double y = TOP + (HEIGHT - TOP - BOTTOM) * i / 4.0;
        const double x = LEFT + (WIDTH - LEFT - 20) * i / 4.0;

        fprintf(f,
                "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" "
                "stroke=\"#ddd\"/>\n<text x=\"8\" y=\"%.1f\">%.3f</text>\n",
                LEFT, y, WIDTH - 20, y, y + 4,
                g->high - (g->high - g->low) * i / 4.0);
        fprintf(f,
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f"
                "</text>\n",
                x, HEIGHT - BOTTOM + 18, g->last * i / 4.0);
    }
}

int train_record_draw(const struct train_record *r, struct infer_error *err)
{
    const struct range g = find_range(r);
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return infer_fail(err, INFER_ENOMEM, "out of memory");
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, HEIGHT);
    draw_axes(f, &g);
    draw_line(f, r, &g, false, "#4878cf");
    draw_line(f, r, &g, true, "#d65f5f");
    fprintf(f,
            "<text x=\"%d\" y=\"%d\">nats per token over steps: "
            "<tspan fill=\"#4878cf\">training</tspan>, "
            "<tspan fill=\"#d65f5f\">validation</tspan></text>\n</svg>\n",
            LEFT + 120, HEIGHT - 6);
    return replace_stream(r, "loss.svg", f, &text, &size, err);
}
