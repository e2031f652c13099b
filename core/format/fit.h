/*
 * fit.h - the scale, or scale and minimum, that lose least when values become
 * small integers. Private to the quantizers.
 */
#ifndef INFER_FORMAT_FIT_H
#define INFER_FORMAT_FIT_H

#include "infer.h"

#include <math.h>

/* Nearest integer, clamped; NaN becomes lo. */
static inline int infer_nearest(float v, int lo, int hi)
{
    const float up = v > (float)lo ? v : (float)lo;

    return (int)lrintf(up < (float)hi ? up : (float)hi);
}

/*
 * x[i] ~ scale * q[i], q in lo .. hi (-lo >= hi > 0). Returns the scale, which
 * may be negative; 0 when every x is.
 *   w  [n]  importance, not negative
 */
float infer_fit_scale(const float *x, const float *w, int n, int lo, int hi);

/*
 * x[i] ~ scale * q[i] + min, q in 0 .. top, scale >= 0, n <= 32.
 *   any_min  false: min <= 0
 */
void infer_fit_affine(const float *x, const float *w, int n, int top,
                      bool any_min, float *scale, float *min);

#endif
