/*
 * mpi.h - the few calls of MPI that a run needs, found in whichever library the
 * launcher belongs to when the program starts, so that one binary runs alone
 * without any MPI, under Open MPI and under MPICH, and is built without either.
 *
 * Two binary interfaces exist, both kept stable by those who make them: Open
 * MPI's (handles are addresses of its symbols) and the one that MPICH, Intel
 * MPI, Cray MPI and MVAPICH share (handles are ints). Here both are uintptr_t:
 * a handle is one argument register to either, of which int takes the half.
 */
#ifndef TRAINER_RUN_MPI_H
#define TRAINER_RUN_MPI_H

#include "infer.h"

struct train_mpi {
    void *library;
    uintptr_t world, byte, errors_return; /* handles */
    void *ignore;                         /* MPI_STATUS_IGNORE */

    /* MPI 3.1: 0 is success in all of them */
    int (*init_thread)(int *argc, char ***argv, int need, int *got);
    int (*comm_rank)(uintptr_t comm, int *rank);
    int (*comm_size)(uintptr_t comm, int *size);
    int (*set_errhandler)(uintptr_t comm, uintptr_t handler);
    int (*error_string)(int code, char *text, int *length);
    int (*iallgather)(const void *from, int n_from, uintptr_t from_type,
                      void *to, int n_to, uintptr_t to_type, uintptr_t comm,
                      uintptr_t *request);
    int (*ialltoall)(const void *from, int n_from, uintptr_t from_type,
                     void *to, int n_to, uintptr_t to_type, uintptr_t comm,
                     uintptr_t *request);
    int (*test)(uintptr_t *request, int *done, void *status);
    int (*finalize)(void);
    int (*abort)(uintptr_t comm, int code);
};

enum { TRAIN_MPI_FUNNELED = 1 }; /* one thread calls MPI; both number it so */

/* How many processes a launcher of MPI has started, by the environment: 0, this
 * one was started alone; 1, it does not tell. */
int train_mpi_launched(void);

/* Load the library, without initialising it. The library stays loaded.
 * Errors  EIO (none is there, or it lacks a call) */
int train_mpi_load(struct train_mpi *m, struct infer_error *err);

#endif
