/*
 * peak.inc.h - a loop of independent multiply-adds in registers. The file that
 * includes it defines PEAK_VECTOR, PEAK_OP(sum, x), PEAK_OPS (operations of one
 * PEAK_OP) and PEAK_NAME. 12 sums cover a latency of 6 clocks, two a clock.
 */
enum { PEAK_SUMS = 12, PEAK_LOOPS = 2000 };

double PEAK_NAME(void)
{
    PEAK_VECTOR sum[PEAK_SUMS] = {0};
    PEAK_VECTOR x = {0};

    for (int i = 0; i < PEAK_LOOPS; i++) {
        EACH (s, PEAK_SUMS)
            sum[s] = PEAK_OP(sum[s], x);
        /* the compiler must not see that nothing changes */
        __asm__ volatile("" : "+v"(x));
    }
    EACH (s, PEAK_SUMS)
        __asm__ volatile("" : : "v"(sum[s]));
    return (double)PEAK_LOOPS * PEAK_SUMS * PEAK_OPS;
}
