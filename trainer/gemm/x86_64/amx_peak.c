/*
 * amx_peak.c - the rate of tdpbf16ps: four sums, operands that stay.
 *
 * peak.inc.h has it for vectors; tiles are named by number, not held in
 * variables.
 */
#include "trainer/gemm/bf16.h"
#include "trainer/gemm/peak.h"

#include <immintrin.h>

enum { LOOPS = 2000, OPS = 16 * 16 * 32 * 2 };

double train_peak_amx(void)
{
    train_amx_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int i = 0; i < LOOPS; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    train_amx_end();
    return (double)LOOPS * 4.0 * OPS;
}
