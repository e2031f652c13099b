/*
 * mpi.c - see mpi.h. The numbers below are those of MPICH's mpi.h, fixed since
 * 2013 by the agreement of its relatives; Open MPI's handles have names.
 */
#include "trainer/run/mpi.h"

#include "core/base/error.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    MPICH_WORLD = 0x44000000,
    MPICH_BYTE = 0x4c00010d,
    MPICH_ERRORS_RETURN = 0x54000001
};

static const char *const open_mpi[] = {"libmpi.so.40", "libmpi.so.80", NULL};
static const char *const mpich[] = {"libmpich.so.12", "libmpi.so.12", NULL};

static const struct {
    const char *name;
    size_t at; /* in struct train_mpi */
} calls[] = {
    {"MPI_Init_thread", offsetof(struct train_mpi, init_thread)},
    {"MPI_Comm_rank", offsetof(struct train_mpi, comm_rank)},
    {"MPI_Comm_size", offsetof(struct train_mpi, comm_size)},
    {"MPI_Comm_set_errhandler", offsetof(struct train_mpi, set_errhandler)},
    {"MPI_Error_string", offsetof(struct train_mpi, error_string)},
    {"MPI_Iallgather", offsetof(struct train_mpi, iallgather)},
    {"MPI_Ialltoall", offsetof(struct train_mpi, ialltoall)},
    {"MPI_Test", offsetof(struct train_mpi, test)},
    {"MPI_Finalize", offsetof(struct train_mpi, finalize)},
    {"MPI_Abort", offsetof(struct train_mpi, abort)},
};

static bool from_open_mpi(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL;
}

int train_mpi_launched(void)
{
    const char *n = getenv("OMPI_COMM_WORLD_SIZE");

    if (!n)
        n = getenv("PMI_SIZE");
    if (n && atoi(n) > 0)
        return atoi(n);
    return getenv("PMI_RANK") || getenv("PMIX_RANK");
}

/* Global: Open MPI's plug-ins look for its symbols there. */
static void *open_first(const char *const *names)
{
    void *library = NULL;

    for (; *names && !library; names++)
        library = dlopen(*names, RTLD_NOW | RTLD_GLOBAL);
    return library;
}

static void set_handles(struct train_mpi *m)
{
    void *world = dlsym(m->library, "ompi_mpi_comm_world");

    m->world = MPICH_WORLD;
    m->byte = MPICH_BYTE;
    m->errors_return = MPICH_ERRORS_RETURN;
    m->ignore = (void *)(uintptr_t)1;
    if (!world)
        return;
    m->world = (uintptr_t)world;
    m->byte = (uintptr_t)dlsym(m->library, "ompi_mpi_byte");
    m->errors_return = (uintptr_t)dlsym(m->library, "ompi_mpi_errors_return");
    m->ignore = NULL;
}

int train_mpi_load(struct train_mpi *m, struct infer_error *err)
{
    const bool ompi = from_open_mpi();

    *m = (struct train_mpi){.library = open_first(ompi ? open_mpi : mpich)};
    if (!m->library) /* Slurm's srun names neither */
        m->library = open_first(ompi ? mpich : open_mpi);
    if (!m->library)
        return infer_fail(err, INFER_EIO,
                          "started by an MPI launcher, but there is no MPI "
                          "library: install libopenmpi3 or libmpich12, "
                          "whichever the launcher belongs to");
    set_handles(m);
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        void *call = dlsym(m->library, calls[i].name);

        if (!call || !m->byte || !m->errors_return)
            return infer_fail(err, INFER_EIO, "the MPI library lacks %s",
                              call ? "its handles" : calls[i].name);
        memcpy((char *)m + calls[i].at, &call, sizeof(call));
    }
    return 0;
}
