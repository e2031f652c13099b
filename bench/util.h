/*
 * util.h - what the measuring programs share: option values, a seeded
 * generator, medians and the warnings that belong beside every figure.
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <stddef.h>
#include <stdint.h>

enum { BENCH_LIST_MAX = 16 };

/* Values of a comma-separated option. */
struct bench_list {
    size_t n;
    uint32_t v[BENCH_LIST_MAX];
};

/*
 * Parse an option's value. On failure they print one line that names the
 * option, the value and the range to stderr, and return -1.
 */
int bench_parse_u64(const char *option, const char *text, uint64_t lo,
                    uint64_t hi, uint64_t *out);
int bench_parse_u32(const char *option, const char *text, uint32_t lo,
                    uint32_t hi, uint32_t *out);
int bench_parse_double(const char *option, const char *text, double lo,
                       double hi, double *out);
int bench_parse_list(const char *option, const char *text, uint32_t lo,
                     uint32_t hi, struct bench_list *out);

/* Largest value of a list; 0 when it is empty. */
uint32_t bench_list_max(const struct bench_list *list);

/* SplitMix64 (Steele, Lea, Flood 2014): every seed gives a full-period stream,
 * so streams may be derived by adding anything to a seed. */
struct bench_rng {
    uint64_t state;
};
uint64_t bench_rng_next(struct bench_rng *rng);
uint32_t bench_rng_below(struct bench_rng *rng, uint32_t n); /* 0 .. n-1 */

/* Median of v[n], n >= 1; sorts v. */
double bench_median(double *v, size_t n);

/* Say on stderr what would spoil the figures: variables that hobble peers and
 * libraries, and other load on the machine. */
void bench_warn_environment(void);

#endif
