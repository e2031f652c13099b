/*
 * infer-gemm.c - how much of the machine the trainer's matrix products use.
 *
 * The shapes are those of whole training steps: the three products of a linear
 * layer (forward, input gradient, weight gradient) of models from 0.8 to 124
 * million weights, and 2048^3 for comparison with libraries. Rates stand beside
 * the measured limit of the arithmetic units; each is the median of repeats,
 * warm: operands that fit the caches are in them.
 */
#include "bench/util.h"
#include "core/base/team.h"
#include "trainer/gemm/gemm.h"
#include "trainer/gemm/peak.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REPEATS = 64, MIN_REPEATS = 5 };

struct layer {
    const char *model;
    size_t tokens, in, out;
};

static const struct layer layers[] = {
    {"cube", 2048, 2048, 2048},          {"FINDINGS", 512, 384, 1536},
    {"124M T64 qkv", 256, 768, 2304},    {"124M T64 up", 256, 768, 3072},
    {"124M T64 down", 256, 3072, 768},   {"124M T64 out", 256, 768, 50257},
    {"124M T256 qkv", 2048, 768, 2304},  {"124M T256 up", 2048, 768, 3072},
    {"124M T256 down", 2048, 3072, 768}, {"10.7M qkv", 4096, 384, 1152},
    {"10.7M proj", 4096, 384, 384},      {"10.7M up", 4096, 384, 1536},
    {"10.7M down", 4096, 1536, 384},     {"0.8M qkv", 768, 128, 384},
    {"0.8M up", 768, 128, 512},          {"0.8M down", 768, 512, 128},
};

/* What one layer multiplies, and with what. */
struct bench {
    struct infer_team *team;
    struct train_gemm_ctx *ctx;
    double peak; /* operations per second */
    double max_seconds;
    float *x, *w, *y;
    struct train_packed *packed, *packed_t;
};

static const char usage_text[] =
    "usage: infer-gemm [options]\n"
    "  -t, --threads N   (1 and 2)\n"
    "  -p, --precision P f32 or bf16 (both)\n"
    "  -l, --layer TEXT  only layers whose name contains TEXT\n"
    "  -s, --seconds S   at most, for each product (0.1)\n";

static float *numbers(size_t n, uint64_t seed)
{
    struct bench_rng rng = {seed};
    float *x = malloc(n * sizeof(*x));

    for (size_t i = 0; x && i < n; i++)
        x[i] = (float)bench_rng_below(&rng, 1000) * 0.002f - 1.0f;
    return x;
}

/* Median rate of a product, operations per second. */
static double rate(const struct bench *b, const struct train_product *p)
{
    double seconds[MAX_REPEATS];
    double total = 0.0;
    size_t n = 0;

    train_gemm_run(b->ctx, p);
    while (n < MAX_REPEATS && (n < MIN_REPEATS || total < b->max_seconds)) {
        const uint64_t start = infer_clock_ns();

        train_gemm_run(b->ctx, p);
        seconds[n] = (double)(infer_clock_ns() - start) * 1e-9;
        total += seconds[n++];
    }
    return 2.0 * (double)p->m * (double)p->n * (double)p->k /
           bench_median(seconds, n);
}

static void print_rate(const struct bench *b, double flops)
{
    printf(" %8.0f %3.0f%%", flops * 1e-9, 100.0 * flops / b->peak);
}

/* Y = X W^T, dX = dY W with packed weights; dW += dY^T X. */
static void measure(const struct bench *b, const struct layer *l)
{
    const struct train_product forward = {.tb = true,
                                          .m = l->tokens,
                                          .n = l->out,
                                          .k = l->in,
                                          .alpha = 1.0f,
                                          .a = b->x,
                                          .lda = l->in,
                                          .b = b->w,
                                          .ldb = l->in,
                                          .packed = b->packed,
                                          .c = b->y,
                                          .ldc = l->out};
    const struct train_product input = {.m = l->tokens,
                                        .n = l->in,
                                        .k = l->out,
                                        .alpha = 1.0f,
                                        .a = b->y,
                                        .lda = l->out,
                                        .b = b->w,
                                        .ldb = l->in,
                                        .packed = b->packed_t,
                                        .c = b->x,
                                        .ldc = l->in};
    const struct train_product weight = {.ta = true,
                                         .m = l->out,
                                         .n = l->in,
                                         .k = l->tokens,
                                         .alpha = 1.0f,
                                         .a = b->y,
                                         .lda = l->out,
                                         .b = b->x,
                                         .ldb = l->in,
                                         .beta = 1.0f,
                                         .c = b->w,
                                         .ldc = l->in};
    struct train_product bare = forward;

    bare.packed = NULL;
    printf("%-16s %6zu %5zu %6zu", l->model, l->tokens, l->in, l->out);
    print_rate(b, rate(b, &forward));
    print_rate(b, rate(b, &bare));
    memset(b->y, 0, l->tokens * l->out * sizeof(float));
    print_rate(b, rate(b, &input));
    print_rate(b, rate(b, &weight));
    printf("\n");
    fflush(stdout);
}

static int run_layer(struct bench *b, const struct layer *l,
                     struct infer_error *err)
{
    int status = INFER_ENOMEM;

    b->x = numbers(l->tokens * l->in, 1);
    b->w = numbers(l->out * l->in, 2);
    b->y = numbers(l->tokens * l->out, 3);
    if (!b->x || !b->w || !b->y)
        goto out;
    status = train_packed_create(&b->packed, b->ctx, l->in, l->out, err);
    if (status)
        goto out;
    status = train_packed_create(&b->packed_t, b->ctx, l->out, l->in, err);
    if (status)
        goto out;
    train_packed_fill(b->ctx, b->packed, true, b->w, l->in);
    train_packed_fill(b->ctx, b->packed_t, false, b->w, l->in);
    measure(b, l);
out:
    train_packed_free(b->packed);
    train_packed_free(b->packed_t);
    b->packed = b->packed_t = NULL;
    free(b->x);
    free(b->w);
    free(b->y);
    b->x = b->w = b->y = NULL;
    return status;
}

static int run_precision(enum train_precision precision, int n_threads,
                         double seconds, const char *only,
                         struct infer_error *err)
{
    const size_t n = sizeof(layers) / sizeof(layers[0]);
    struct bench b = {.max_seconds = seconds};
    int status = infer_team_create(&b.team, n_threads, 0, err);

    if (status == 0)
        status = train_gemm_create(&b.ctx, precision, b.team,
                                   (unsigned)INFER_CPU_ALL, err);
    if (status)
        goto out;
    b.peak = train_peak(b.team, train_gemm_precision(b.ctx));
    printf("\n%s, %d thread%s, limit %.0f GFLOP/s\n%-16s %6s %5s %6s %13s "
           "%13s %13s %13s\n",
           train_gemm_precision(b.ctx) == TRAIN_BF16 ? "bf16" : "f32",
           n_threads, n_threads > 1 ? "s" : "", b.peak * 1e-9, "layer",
           "tokens", "in", "out", "forward", "not packed", "d input",
           "d weight");
    for (size_t i = 0; i < n && status == 0; i++)
        if (strstr(layers[i].model, only))
            status = run_layer(&b, &layers[i], err);
out:
    train_gemm_free(b.ctx);
    infer_team_free(b.team);
    return status;
}

struct options {
    uint32_t threads; /* 0: 1 and 2 */
    const char *precision, *layer;
    double seconds;
};

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"threads", required_argument, NULL, 't'},
        {"precision", required_argument, NULL, 'p'},
        {"layer", required_argument, NULL, 'l'},
        {"seconds", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int c;

    *o = (struct options){.precision = "", .layer = "", .seconds = 0.1};
    while ((c = getopt_long(argc, argv, "t:p:l:s:h", names, NULL)) != -1) {
        if (c == 't' &&
            bench_parse_u32("--threads", optarg, 1, 256, &o->threads))
            return -1;
        if (c == 's' &&
            bench_parse_double("--seconds", optarg, 0.0, 100.0, &o->seconds))
            return -1;
        if (c == 'p')
            o->precision = optarg;
        if (c == 'l')
            o->layer = optarg;
        if (c == 'h' || c == '?') {
            fputs(usage_text, c == 'h' ? stdout : stderr);
            return c == 'h' ? 1 : -1;
        }
    }
    if (optind < argc || (*o->precision && strcmp(o->precision, "f32") != 0 &&
                          strcmp(o->precision, "bf16") != 0)) {
        fputs(usage_text, stderr);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const precisions[] = {"f32", "bf16"};
    struct infer_error err = {INFER_OK, "out of memory"};
    struct options o;
    const int parsed = parse(argc, argv, &o);

    if (parsed)
        return parsed < 0 ? 2 : 0;
    bench_warn_environment();
    printf("OpenBLAS core %s\n", train_blas_core());
    if (train_blas_warning())
        fprintf(stderr, "warning: %s\n", train_blas_warning());
    for (int p = 0; p < 2; p++) {
        const int first = o.threads ? (int)o.threads : 1;
        const int last = o.threads ? (int)o.threads : 2;

        if (*o.precision && strcmp(o.precision, precisions[p]) != 0)
            continue;
        for (int t = first; t <= last; t++) {
            if (run_precision((enum train_precision)p, t, o.seconds, o.layer,
                              &err)) {
                fprintf(stderr, "infer-gemm: %s\n", err.text);
                return 1;
            }
        }
    }
    return 0;
}
