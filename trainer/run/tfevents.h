/*
 * tfevents.h - event files that TensorBoard reads: one for every process that
 * works on a run, beside the metrics.
 *
 *   file    records of   u64 length | u32 crc | bytes | u32 crc
 *           crc is CRC-32C of the 8 bytes of the length, and of the bytes,
 *           rotated right by 15 and increased by 0xa282ead8
 *   bytes   a protobuf message Event, written by hand
 *
 * Source  TensorFlow's record_writer.h and event.proto, summary.proto; CRC-32C
 *         is Castagnoli's polynomial (RFC 3720, B.4)
 */
#ifndef TRAINER_RUN_TFEVENTS_H
#define TRAINER_RUN_TFEVENTS_H

#include "infer.h"

#include <stdio.h>

struct train_events {
    FILE *file; /* NULL: closed */
};

struct train_scalar {
    const char *tag; /* "loss/train" */
    double value;    /* not finite: left out */
};

/*
 * Make a new file in the folder, named by time, host and process.
 *   next_step  the first that this process will do: what an earlier one wrote
 *              of it and later steps is no longer shown
 * Errors  EIO
 */
int train_events_open(struct train_events *e, const char *folder,
                      uint64_t next_step, struct infer_error *err);
int train_events_add(struct train_events *e, uint64_t step,
                     const struct train_scalar *scalars, size_t n,
                     struct infer_error *err);
void train_events_close(struct train_events *e);

#endif
