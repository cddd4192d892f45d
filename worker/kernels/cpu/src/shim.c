// The kernels' own source as functions of the processor: one thread of the grid after another. Tests and benches on
// machines without a GPU run this; it shows that the arithmetic is right, not that it is fast.
#include <math.h>
#include <stddef.h>
#include <string.h>

typedef struct {
    unsigned x, y, z;
} Three;

// Each "stream" is a thread of its own.
static _Thread_local Three gridDim, blockDim, blockIdx, threadIdx;

#define KERNEL static void
#define DEVICE static inline
#include "../../kernels/all.cu"

#define RUN(name, Args)                                                                                                \
    static void run_##name(const void *args) {                                                                         \
        name(*(const Args *)args);                                                                                     \
    }
RUN(axes, AxesArgs)
RUN(prepare, PrepareArgs)
RUN(people, PeopleArgs)
RUN(rank, SuppressArgs)
RUN(overlap, SuppressArgs)
RUN(keep, SuppressArgs)
RUN(hash, HashArgs)
RUN(differ, DifferArgs)
RUN(standin, StandinArgs)

#define ENTRY(name, Args) {#name, run_##name, sizeof(Args)}
static const struct {
    const char *name;
    void (*run)(const void *);
    size_t size;
} KERNELS[] = {
    ENTRY(axes, AxesArgs),       ENTRY(prepare, PrepareArgs), ENTRY(people, PeopleArgs),
    ENTRY(rank, SuppressArgs),   ENTRY(overlap, SuppressArgs), ENTRY(keep, SuppressArgs),
    ENTRY(hash, HashArgs),       ENTRY(differ, DifferArgs),   ENTRY(standin, StandinArgs),
};

static int place(const char *name) {
    for (int i = 0; i < (int)(sizeof KERNELS / sizeof KERNELS[0]); i++) {
        if (strcmp(KERNELS[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

// Bytes of a kernel's argument; 0 of one that is not here.
size_t fulltime_kernels_args(const char *name) {
    int i = place(name);
    return i < 0 ? 0 : KERNELS[i].size;
}

// Runs every thread of the grid. False: there is no such kernel.
int fulltime_kernels_run(const char *name, const unsigned grid[3], const unsigned block[3], const void *args) {
    int kernel = place(name);
    if (kernel < 0) {
        return 0;
    }
    gridDim = (Three){grid[0], grid[1], grid[2]};
    blockDim = (Three){block[0], block[1], block[2]};
    for (unsigned b = 0; b < grid[0] * grid[1] * grid[2]; b++) {
        blockIdx = (Three){b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        for (unsigned t = 0; t < block[0] * block[1] * block[2]; t++) {
            threadIdx = (Three){t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
            KERNELS[kernel].run(args);
        }
    }
    return 1;
}
