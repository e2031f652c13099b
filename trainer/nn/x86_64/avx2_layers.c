/* avx2_layers.c - the layers, compiled for this instruction set. */
#include "trainer/nn/layers.inc.h"

#include "trainer/nn/layers_sets.h"

const struct nn_layers *nn_layers_avx2(void)
{
    return &layers_table;
}
