// A CUDA driver for tests: the functions that `fulltime-kernels` calls, doing at once on the processor what a GPU does later.
// Kernels are those of shim.c. It is stricter than the real one: handles, contexts, addresses and lengths are checked, and
// whatever is made is counted until it is destroyed. `double_fail` scripts a failure.
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim.c"

#define EXPORT __attribute__((visibility("default")))

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
};

// Live things of one kind: address and length, or a handle and its number.
typedef struct {
    uint64_t at, len;
} Thing;
enum { MEMORY, PINNED, STREAMS, EVENTS, CONTEXTS, MODULES, KINDS };
static Thing things[KINDS][4096];
static int counts[KINDS];
static int initialised;
static _Thread_local void *current;
static void *const CONTEXT = (void *)0xc0de;

static const char *failing;
static int failing_code, failing_after;

// The next call of a function after `after` others fails with the code.
EXPORT void double_fail(const char *function, int code, int after) {
    failing = function;
    failing_code = code;
    failing_after = after;
}

// How many of a kind are alive: 0 device memory, 1 pinned memory, 2 streams, 3 events, 4 contexts, 5 modules.
EXPORT int double_alive(int kind) {
    return counts[kind];
}

static int driver_version = 13000;
EXPORT void double_version(int version) {
    driver_version = version;
}

static int scripted(const char *function) {
    if (failing && strcmp(failing, function) == 0 && failing_after-- == 0) {
        failing = NULL;
        return failing_code;
    }
    return OK;
}

#define ENTER                                                                                                          \
    do {                                                                                                               \
        int code = scripted(__func__);                                                                                 \
        if (code) return code;                                                                                         \
        if (!initialised) return NOT_INITIALIZED;                                                                      \
    } while (0)
#define ENTER_BOUND                                                                                                    \
    do {                                                                                                               \
        ENTER;                                                                                                         \
        if (current != CONTEXT || counts[CONTEXTS] == 0) return INVALID_CONTEXT;                                       \
    } while (0)

static void add(int kind, uint64_t at, uint64_t len) {
    if (counts[kind] == 4096) abort();
    things[kind][counts[kind]++] = (Thing){at, len};
}

// The thing that holds all of the range.
static Thing *find(int kind, uint64_t at, uint64_t len) {
    for (int i = 0; i < counts[kind]; i++) {
        Thing *thing = &things[kind][i];
        if (at >= thing->at && at + len <= thing->at + thing->len) return thing;
    }
    return NULL;
}

static int forget(int kind, uint64_t at) {
    for (int i = 0; i < counts[kind]; i++) {
        if (things[kind][i].at == at) {
            things[kind][i] = things[kind][--counts[kind]];
            return OK;
        }
    }
    return INVALID_HANDLE;
}

EXPORT int cuInit(unsigned flags) {
    int code = scripted(__func__);
    initialised = code == OK && flags == 0;
    return code;
}
EXPORT int cuDriverGetVersion(int *version) {
    ENTER;
    *version = driver_version;
    return OK;
}
EXPORT int cuGetErrorName(int code, const char **name) {
    (void)code;
    *name = "DOUBLE";
    return OK;
}
EXPORT int cuGetErrorString(int code, const char **text) {
    static _Thread_local char line[64];
    snprintf(line, sizeof line, "scripted or strict, code %d", code);
    *text = line;
    return OK;
}
EXPORT int cuDeviceGetCount(int *count) {
    ENTER;
    *count = 1;
    return OK;
}
EXPORT int cuDeviceGet(int *device, int ordinal) {
    ENTER;
    *device = ordinal;
    return ordinal == 0 ? OK : INVALID_DEVICE;
}
EXPORT int cuDeviceGetName(char *name, int len, int device) {
    ENTER;
    snprintf(name, (size_t)len, "a double of a GPU");
    return device == 0 ? OK : INVALID_DEVICE;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER;
    // Compute capability 8.6.
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : 0;
    return device == 0 ? OK : INVALID_DEVICE;
}
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER;
    add(CONTEXTS, (uint64_t)(counts[CONTEXTS] + 1), 1);
    *context = CONTEXT;
    return device == 0 ? OK : INVALID_DEVICE;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER;
    counts[CONTEXTS]--;
    return device == 0 ? OK : INVALID_DEVICE;
}
EXPORT int cuCtxSetCurrent(void *context) {
    ENTER;
    current = context;
    return context == CONTEXT ? OK : INVALID_CONTEXT;
}
EXPORT int cuModuleLoadData(void **module, const void *image) {
    ENTER_BOUND;
    const char *text = image;
    if (!strstr(text, ".target sm_86")) return INVALID_PTX;
    *module = strdup(text);
    add(MODULES, (uint64_t)*module, 1);
    return OK;
}
EXPORT int cuModuleUnload(void *module) {
    ENTER_BOUND;
    int code = forget(MODULES, (uint64_t)module);
    if (code == OK) free(module);
    return code;
}
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name) {
    ENTER_BOUND;
    char entry[128];
    snprintf(entry, sizeof entry, ".visible .entry %s(", name);
    if (!find(MODULES, (uint64_t)module, 1)) return INVALID_HANDLE;
    if (place(name) < 0 || !strstr(module, entry)) return NOT_FOUND;
    *function = (void *)KERNELS[place(name)].name;
    return OK;
}
EXPORT int cuStreamCreate(void **stream, unsigned flags) {
    ENTER_BOUND;
    // Non-blocking: the default stream of a library must not hold ours up.
    if (flags != 1) return INVALID_VALUE;
    *stream = malloc(1);
    add(STREAMS, (uint64_t)*stream, 1);
    return OK;
}
EXPORT int cuStreamDestroy_v2(void *stream) {
    ENTER_BOUND;
    int code = forget(STREAMS, (uint64_t)stream);
    if (code == OK) free(stream);
    return code;
}
EXPORT int cuStreamSynchronize(void *stream) {
    ENTER_BOUND;
    return find(STREAMS, (uint64_t)stream, 1) ? OK : INVALID_HANDLE;
}
typedef struct {
    int recorded;
    struct timespec at;
} Recorded;
EXPORT int cuEventCreate(void **event, unsigned flags) {
    ENTER_BOUND;
    // Bit 1 would switch timing off.
    if (flags & 2) return INVALID_VALUE;
    *event = calloc(1, sizeof(Recorded));
    add(EVENTS, (uint64_t)*event, 1);
    return OK;
}
EXPORT int cuEventDestroy_v2(void *event) {
    ENTER_BOUND;
    int code = forget(EVENTS, (uint64_t)event);
    if (code == OK) free(event);
    return code;
}
EXPORT int cuEventRecord(void *event, void *stream) {
    ENTER_BOUND;
    if (!find(EVENTS, (uint64_t)event, 1) || !find(STREAMS, (uint64_t)stream, 1)) return INVALID_HANDLE;
    Recorded *recorded = event;
    recorded->recorded = 1;
    clock_gettime(CLOCK_MONOTONIC, &recorded->at);
    return OK;
}
EXPORT int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    ENTER_BOUND;
    if (!find(EVENTS, (uint64_t)event, 1) || !find(STREAMS, (uint64_t)stream, 1) || flags) return INVALID_HANDLE;
    // Allowed by the real one, and always a mistake of ours.
    return ((Recorded *)event)->recorded ? OK : INVALID_VALUE;
}
EXPORT int cuEventQuery(void *event) {
    ENTER_BOUND;
    return find(EVENTS, (uint64_t)event, 1) ? OK : INVALID_HANDLE;
}
EXPORT int cuEventSynchronize(void *event) {
    ENTER_BOUND;
    return find(EVENTS, (uint64_t)event, 1) ? OK : INVALID_HANDLE;
}
EXPORT int cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
    ENTER_BOUND;
    Recorded *from = start, *to = end;
    if (!from->recorded || !to->recorded) return INVALID_HANDLE;
    *milliseconds =
        (float)(to->at.tv_sec - from->at.tv_sec) * 1e3f + (float)(to->at.tv_nsec - from->at.tv_nsec) * 1e-6f;
    return OK;
}
EXPORT int cuMemAlloc_v2(uint64_t *address, size_t len) {
    ENTER_BOUND;
    void *memory = aligned_alloc(256, (len + 255) / 256 * 256);
    if (!memory) return OUT_OF_MEMORY;
    // What nobody wrote is not zero.
    memset(memory, 0xa5, len);
    *address = (uint64_t)memory;
    add(MEMORY, *address, len);
    return OK;
}
EXPORT int cuMemFree_v2(uint64_t address) {
    ENTER_BOUND;
    int code = forget(MEMORY, address);
    if (code == OK) free((void *)address);
    return code;
}
EXPORT int cuMemHostRegister_v2(void *memory, size_t len, unsigned flags) {
    ENTER_BOUND;
    if (((uint64_t)memory | len) & 4095 || flags) return INVALID_VALUE;
    add(PINNED, (uint64_t)memory, len);
    return OK;
}
EXPORT int cuMemHostUnregister(void *memory) {
    ENTER_BOUND;
    return forget(PINNED, (uint64_t)memory);
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t len, void *stream) {
    ENTER_BOUND;
    if (!find(STREAMS, (uint64_t)stream, 1)) return INVALID_HANDLE;
    // Unpinned memory would be copied, but at once and slowly.
    if (!find(MEMORY, to, len) || !find(PINNED, (uint64_t)from, len)) return ILLEGAL_ADDRESS;
    memcpy((void *)to, from, len);
    return OK;
}
EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t len, void *stream) {
    ENTER_BOUND;
    if (!find(STREAMS, (uint64_t)stream, 1)) return INVALID_HANDLE;
    if (!find(MEMORY, from, len) || !find(PINNED, (uint64_t)to, len)) return ILLEGAL_ADDRESS;
    memcpy(to, (void *)from, len);
    return OK;
}
EXPORT int cuLaunchKernel(const void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    ENTER_BOUND;
    if (!find(STREAMS, (uint64_t)stream, 1)) return INVALID_HANDLE;
    // Limits of every architecture; 256 is what the kernels' launch bounds say.
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || bx * by * bz > 256 || shared || extra) return INVALID_VALUE;
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    return fulltime_kernels_run(function, grid, block, arguments[0]) ? OK : INVALID_HANDLE;
}
