/* util.c - see util.h. The only place of bench/ that reads the environment. */
#include "bench/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int bench_parse_u64(const char *option, const char *text, uint64_t lo,
                    uint64_t hi, uint64_t *out)
{
    char *end = NULL;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 ||
        v < lo || v > hi) {
        fprintf(stderr, "%s: '%s' is not a number from %llu to %llu\n", option,
                text, (unsigned long long)lo, (unsigned long long)hi);
        return -1;
    }
    *out = v;
    return 0;
}

int bench_parse_u32(const char *option, const char *text, uint32_t lo,
                    uint32_t hi, uint32_t *out)
{
    uint64_t v;

    if (bench_parse_u64(option, text, lo, hi, &v) != 0)
        return -1;
    *out = (uint32_t)v;
    return 0;
}

int bench_parse_double(const char *option, const char *text, double lo,
                       double hi, double *out)
{
    char *end = NULL;
    const double v = strtod(text, &end);

    /* written so that a NaN fails */
    if (end == text || *end != '\0' || !(v >= lo && v <= hi)) {
        fprintf(stderr, "%s: '%s' is not a number from %g to %g\n", option,
                text, lo, hi);
        return -1;
    }
    *out = v;
    return 0;
}

int bench_parse_list(const char *option, const char *text, uint32_t lo,
                     uint32_t hi, struct bench_list *out)
{
    struct bench_list list = {0};
    const char *p = text;

    for (;;) {
        char *end = NULL;
        unsigned long long v;

        errno = 0;
        v = strtoull(p, &end, 10);
        if (p[0] < '0' || p[0] > '9' || errno != 0 || v < lo || v > hi ||
            (*end != '\0' && *end != ',') || list.n == BENCH_LIST_MAX) {
            fprintf(stderr,
                    "%s: '%s' is not a list of at most %d numbers from %lu to "
                    "%lu\n",
                    option, text, BENCH_LIST_MAX, (unsigned long)lo,
                    (unsigned long)hi);
            return -1;
        }
        list.v[list.n++] = (uint32_t)v;
        if (*end == '\0')
            break;
        p = end + 1;
    }
    *out = list;
    return 0;
}

uint32_t bench_list_max(const struct bench_list *list)
{
    uint32_t max = 0;

    for (size_t i = 0; i < list->n; i++)
        max = list->v[i] > max ? list->v[i] : max;
    return max;
}

uint64_t bench_rng_next(struct bench_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t bench_rng_below(struct bench_rng *rng, uint32_t n)
{
    return (uint32_t)((bench_rng_next(rng) >> 32) * n >> 32);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *v, size_t n)
{
    qsort(v, n, sizeof(v[0]), compare_doubles);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

void bench_warn_environment(void)
{
    static const char *const traps[] = {"OPENBLAS_CORETYPE",
                                        "OPENBLAS_L2_SIZE"};
    double load[1];

    for (size_t i = 0; i < sizeof(traps) / sizeof(traps[0]); i++) {
        const char *value = getenv(traps[i]);

        if (value != NULL)
            fprintf(stderr,
                    "warning: %s=%s is set: libraries and peers that obey it "
                    "run with the wrong kernels; unset it\n",
                    traps[i], value);
    }
    if (getloadavg(load, 1) == 1 && load[0] > 0.5)
        fprintf(stderr,
                "warning: load average %.1f: other processes use the machine, "
                "trust ratios of interleaved runs only\n",
                load[0]);
}
