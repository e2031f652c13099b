/* peak.h - what the arithmetic units of this machine can do at most. */
#ifndef TRAINER_GEMM_PEAK_H
#define TRAINER_GEMM_PEAK_H

#include "trainer/gemm/gemm.h"

/*
 * Floating-point operations per second of the whole team with operands in
 * registers, the best of a few tries: what shares of the peak are shares of.
 *
 * Returns 0 if the processor has no vector unit that we use
 * Cost    30 milliseconds of every member
 */
double train_peak(struct infer_team *team, enum train_precision precision);

/* Bf16 if the processor multiplies it faster than f32: some split one vdpbf16ps
 * into more work than two multiply-adds. Cost  60 ms */
enum train_precision train_precision_best(struct infer_team *team);

/* Operations of one call; the units run at full rate during all of it. */
typedef double train_peak_fn(void);

#if defined(__x86_64__)
train_peak_fn train_peak_avx2, train_peak_avx512, train_peak_avx512bf16;
train_peak_fn train_peak_amx;
#endif

#endif
