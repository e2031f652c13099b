/*
 * unroll.h - loops over registers: constant bounds, unrolled whole.
 *
 * Not where a sanitizer instruments each access: that multiplies the code until
 * compiling a file takes minutes.
 */
#ifndef INFER_UNROLL_H
#define INFER_UNROLL_H

#if defined(INFER_NO_UNROLL)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* EACH (i, n) statement: for i = 0 .. n - 1 */
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

#endif
