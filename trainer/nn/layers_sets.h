/* layers_sets.h - the table of each instruction set, for nn_layers() and for
 * the test that compares them. The machine must have the set. */
#ifndef TRAINER_NN_LAYERS_SETS_H
#define TRAINER_NN_LAYERS_SETS_H

#include "trainer/nn/layers.h"

const struct nn_layers *nn_layers_plain(void);
const struct nn_layers *nn_layers_avx2(void);
const struct nn_layers *nn_layers_avx512(void);

#endif
