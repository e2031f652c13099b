/* draw.c - see draw.h. */
#include "trainer/enc/draw.h"

#include "trainer/enc/papers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 480, MARGIN = 60, NAMES_UP_TO = 40, MAX_EPOCHS = 4096 };

static void begin(FILE *f, double width, double height)
{
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f"
            "\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            width, height);
}

/* Text that is not markup. */
static void put_text(FILE *f, const char *s)
{
    for (; *s; s++)
        switch (*s) {
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '&':
            fputs("&amp;", f);
            break;
        default:
            if ((unsigned char)*s >= ' ')
                fputc(*s, f);
        }
}

/* ---- confusion --------------------------------------------------------------
 */

static void draw_names(FILE *f, const char *const *names, size_t c, double cell,
                       double left)
{
    for (size_t i = 0; i < c; i++) {
        const double at = MARGIN + cell * ((double)i + 0.5);

        fprintf(f,
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" font-size="
                "\"10\">",
                left - 6, at + 4);
        put_text(f, names[i]);
        fprintf(f,
                "</text>\n<text transform=\"translate(%.1f,%d) rotate(-60)\" "
                "font-size=\"10\">",
                left + cell * ((double)i + 0.5), MARGIN - 6);
        put_text(f, names[i]);
        fputs("</text>\n", f);
    }
}

static void draw_cells(FILE *f, const uint32_t *counts,
                       const char *const *names, size_t c, double cell,
                       double left)
{
    for (size_t i = 0; i < c; i++) {
        double row = 0.0;

        for (size_t k = 0; k < c; k++)
            row += counts[i * c + k];
        for (size_t k = 0; k < c; k++) {
            const uint32_t n = counts[i * c + k];

            if (!n)
                continue;
            fprintf(f,
                    "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f"
                    "\" fill=\"%s\" fill-opacity=\"%.3f\"><title>",
                    left + cell * (double)k, MARGIN + cell * (double)i, cell,
                    cell, i == k ? "#4878cf" : "#d65f5f",
                    0.1 + 0.9 * (double)n / row);
            put_text(f, names[i]);
            fputs(" as ", f);
            put_text(f, names[k]);
            fprintf(f, ": %u</title></rect>\n", n);
            if (cell >= 18.0)
                fprintf(f,
                        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
                        "font-size=\"9\">%u</text>\n",
                        left + cell * ((double)k + 0.5),
                        MARGIN + cell * ((double)i + 0.5) + 3, n);
        }
    }
}

int enc_draw_confusion(const char *run, const uint32_t *counts,
                       const char *const *names, size_t c,
                       struct infer_error *err)
{
    const double left = c <= NAMES_UP_TO ? 180.0 : MARGIN;
    const double cell = fmax(4.0, fmin(48.0, 800.0 / (double)c));
    const double side = cell * (double)c;
    FILE *f = enc_paper_open(run, "confusion.svg", "w");

    if (f) {
        begin(f, left + side + 80, MARGIN + side + 40);
        fprintf(f,
                "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%.1f\" "
                "fill=\"none\" stroke=\"#888\"/>\n",
                left, MARGIN, side, side);
        draw_cells(f, counts, names, c, cell, left);
        if (c <= NAMES_UP_TO)
            draw_names(f, names, c, cell, left);
        fprintf(f,
                "<text x=\"%.1f\" y=\"%.1f\">rows: the truth, columns: the "
                "answer</text>\n</svg>\n",
                left, MARGIN + side + 24);
    }
    return enc_paper_close(f, run, "confusion.svg", err);
}

/* ---- reliability ------------------------------------------------------------
 */

int enc_draw_reliability(const char *run, const struct enc_bins *b,
                         struct infer_error *err)
{
    const double bar = (double)SIDE / ENC_BINS;
    FILE *f = enc_paper_open(run, "reliability.svg", "w");

    if (!f)
        return enc_paper_close(f, run, "reliability.svg", err);
    begin(f, SIDE + 2 * MARGIN, SIDE + 2 * MARGIN);
    for (int i = 0; i < ENC_BINS; i++) {
        const double n = (double)b->n[i];
        const double height = n > 0.0 ? b->right[i] / n * SIDE : 0.0;

        fprintf(f,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                "fill=\"#4878cf\" fill-opacity=\"0.7\"><title>%.0f answers, "
                "mean probability %.3f, right %.3f</title></rect>\n",
                MARGIN + bar * i, MARGIN + SIDE - height, bar - 1, height, n,
                n > 0.0 ? b->sure[i] / n : 0.0,
                n > 0.0 ? b->right[i] / n : 0.0);
    }
    fprintf(f,
            "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#888\" "
            "stroke-dasharray=\"4\"/>\n"
            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" "
            "stroke=\"#888\"/>\n"
            "<text x=\"%d\" y=\"%d\">share of right answers over their "
            "probability; ECE %.2f %%</text>\n</svg>\n",
            MARGIN, MARGIN + SIDE, MARGIN + SIDE, MARGIN, MARGIN, MARGIN, SIDE,
            SIDE, MARGIN, MARGIN + SIDE + 30, 100.0 * enc_bins_ece(b));
    return enc_paper_close(f, run, "reliability.svg", err);
}

/* ---- the learning curve -----------------------------------------------------
 */

struct curve {
    double train[MAX_EPOCHS], val[MAX_EPOCHS], score[MAX_EPOCHS];
    size_t n;
};

static void read_curve(const char *run, struct curve *c)
{
    FILE *f = enc_paper_open(run, "metrics.csv", "r");
    char line[256];

    while (f && c->n < MAX_EPOCHS && fgets(line, sizeof(line), f))
        if (sscanf(line, "%*u,%*u,%*f,%lf,%lf,%lf", &c->train[c->n],
                   &c->val[c->n], &c->score[c->n]) == 3)
            c->n++;
    if (f)
        fclose(f);
}

static void draw_line(FILE *f, const double *v, size_t n, double low,
                      double high, const char *colour)
{
    fprintf(f,
            "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" "
            "points=\"",
            colour);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%.1f,%.1f ",
                MARGIN + SIDE * (n > 1 ? (double)i / (double)(n - 1) : 0.5),
                MARGIN + SIDE * (high - v[i]) / (high - low));
    fputs("\"/>\n", f);
}

static void range_of(const double *v, size_t n, double *low, double *high)
{
    for (size_t i = 0; i < n; i++) {
        *low = fmin(*low, v[i]);
        *high = fmax(*high, v[i]);
    }
    if (!(*high > *low))
        *high = *low + 1.0;
}

int enc_draw_learning(const char *run, struct infer_error *err)
{
    struct curve *c = calloc(1, sizeof(*c));
    const double inf = (double)INFINITY;
    double low = inf, high = -inf, worst = inf, best = -inf;
    FILE *f = NULL;

    if (c) {
        read_curve(run, c);
        range_of(c->train, c->n, &low, &high);
        range_of(c->val, c->n, &low, &high);
        range_of(c->score, c->n, &worst, &best);
        f = enc_paper_open(run, "learning.svg", "w");
    }
    if (f) {
        begin(f, SIDE + 2 * MARGIN, SIDE + 2 * MARGIN);
        draw_line(f, c->train, c->n, low, high, "#4878cf");
        draw_line(f, c->val, c->n, low, high, "#d65f5f");
        draw_line(f, c->score, c->n, worst, best, "#6acc65");
        fprintf(f,
                "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" "
                "fill=\"none\" stroke=\"#888\"/>\n<text x=\"%d\" y=\"%d\">over "
                "%zu epochs: <tspan fill=\"#4878cf\">training loss</tspan>, "
                "<tspan fill=\"#d65f5f\">validation loss</tspan> (%.3f to "
                "%.3f), <tspan fill=\"#6acc65\">score</tspan> (%.4f to %.4f)"
                "</text>\n</svg>\n",
                MARGIN, MARGIN, SIDE, SIDE, 10, MARGIN + SIDE + 30, c->n, low,
                high, worst, best);
    }
    free(c);
    return enc_paper_close(f, run, "learning.svg", err);
}
