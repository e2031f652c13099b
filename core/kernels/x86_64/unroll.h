/* unroll.h - unroll the next loop, whose bounds are constants. */
#ifndef INFER_UNROLL_H
#define INFER_UNROLL_H

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#endif
