/* layers.c - the layers for any machine, and the choice among the tables. */
#include "trainer/nn/layers.inc.h"

#include "infer.h"
#include "trainer/nn/layers_sets.h"

const struct nn_layers *nn_layers(void)
{
#if defined(__x86_64__)
    const unsigned cpu = infer_cpu_detect();

    if (cpu & INFER_CPU_AVX512VNNI)
        return nn_layers_avx512();
    if (cpu & INFER_CPU_AVX2)
        return nn_layers_avx2();
#endif
    return nn_layers_plain();
}

const struct nn_layers *nn_layers_plain(void)
{
    return &layers_table;
}
