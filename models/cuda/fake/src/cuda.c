// A CUDA driver without a GPU. "Device" memory is the process's own. A stream keeps what it is given and does it only when
// somebody waits for it, so that a program which reads a copy too early reads what was there before.
//
// Settings, from the environment:
//   FAKE_CUDA_DEVICES   GPUs, default 1
//   FAKE_CUDA_INIT      what cuInit returns, default 0
//   FAKE_CUDA_VERSION   of CUDA that the driver supports, default 13000
//   FAKE_CUDA_HOST      if set, no address is device memory
//   FAKE_CUDA_COPY      what copies return, default 0
//   FAKE_CUDA_RECORD    what recording an event returns, default 0
//   FAKE_CUDA_WAIT      what waiting for a stream or an event returns, default 0
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, NO_DEVICE = 100, NOT_FOUND = 500 };
enum { MOST_OPERATIONS = 4096 };
enum { COPY, RECORD, WAIT };

typedef struct event {
    struct stream *stream;
    unsigned long recorded, done; // counts of records
    struct timespec at;
} event;

typedef struct {
    int kind;
    void *to;
    const void *from;
    size_t bytes;
    event *event;
    unsigned long record;
} operation;

typedef struct stream {
    operation operations[MOST_OPERATIONS];
    size_t begin, end;
} stream;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static stream legacy;
static int context;

static long setting(const char *name, long usual) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : usual;
}

static stream *of(void *handle) { return handle ? handle : &legacy; }

static void do_until(stream *on, event *wanted, unsigned long record);

static void do_first(stream *on) {
    operation first = on->operations[on->begin++ % MOST_OPERATIONS];
    if (first.kind == COPY) {
        memcpy(first.to, first.from, first.bytes);
    } else if (first.kind == RECORD) {
        clock_gettime(CLOCK_MONOTONIC, &first.event->at);
        first.event->done = first.record;
    } else if (first.event->done < first.record) {
        do_until(first.event->stream, first.event, first.record);
    }
}

static void do_until(stream *on, event *wanted, unsigned long record) {
    while (on && on->begin < on->end && (!wanted || wanted->done < record)) do_first(on);
}

static int add(stream *on, operation operation) {
    pthread_mutex_lock(&lock);
    if (on->end - on->begin == MOST_OPERATIONS) do_first(on);
    on->operations[on->end++ % MOST_OPERATIONS] = operation;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cuInit(unsigned flags) {
    long said = setting("FAKE_CUDA_INIT", 0);
    if (said) return (int)said;
    return setting("FAKE_CUDA_DEVICES", 1) == 0 ? NO_DEVICE : SUCCESS;
}
int cuDriverGetVersion(int *version) { *version = (int)setting("FAKE_CUDA_VERSION", 13000); return SUCCESS; }
int cuGetErrorName(int code, const char **name) {
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 999 ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR_FAKE";
    return SUCCESS;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == 100 ? "no CUDA-capable device is detected" : "unknown error";
    return SUCCESS;
}
int cuDeviceGetCount(int *count) { *count = (int)setting("FAKE_CUDA_DEVICES", 1); return SUCCESS; }
int cuDeviceGet(int *device, int index) {
    if (index < 0 || index >= setting("FAKE_CUDA_DEVICES", 1)) return INVALID_DEVICE;
    *device = index;
    return SUCCESS;
}
int cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, (size_t)length, "Fake GPU %d", device);
    return SUCCESS;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    for (int i = 0; i < 16; i++) uuid[i] = (unsigned char)(16 * device + i);
    return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8000000000u; return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 13 ? 1500000 : attribute == 36 ? 0 : attribute == 75 ? 9 : attribute == 76 ? 0 : 100;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **kept, int device) { *kept = &context; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuCtxSetCurrent(void *current) { return SUCCESS; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 6000000000u; *total = 8000000000u; return SUCCESS; }
int cuPointerGetAttribute(void *value, int attribute, unsigned long long pointer) {
    if (getenv("FAKE_CUDA_HOST")) return INVALID_VALUE;
    *(unsigned *)value = 2;
    return SUCCESS;
}
int cuStreamCreate(void **made, unsigned flags) {
    *made = calloc(1, sizeof(stream));
    return flags == 1 ? SUCCESS : INVALID_VALUE;
}
int cuStreamDestroy_v2(void *handle) {
    pthread_mutex_lock(&lock);
    do_until(handle, NULL, 0);
    pthread_mutex_unlock(&lock);
    free(handle);
    return SUCCESS;
}
int cuStreamSynchronize(void *handle) {
    if (setting("FAKE_CUDA_WAIT", 0)) return (int)setting("FAKE_CUDA_WAIT", 0);
    pthread_mutex_lock(&lock);
    do_until(of(handle), NULL, 0);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
int cuEventCreate(void **made, unsigned flags) { *made = calloc(1, sizeof(event)); return SUCCESS; }
int cuEventDestroy_v2(event *of_it) {
    pthread_mutex_lock(&lock);
    do_until(of_it->stream, of_it, of_it->recorded);
    pthread_mutex_unlock(&lock);
    // A stream may still hold a wait for it.
    return SUCCESS;
}
int cuEventRecord(event *recorded, void *on) {
    if (setting("FAKE_CUDA_RECORD", 0)) return (int)setting("FAKE_CUDA_RECORD", 0);
    pthread_mutex_lock(&lock);
    recorded->stream = of(on);
    unsigned long record = ++recorded->recorded;
    pthread_mutex_unlock(&lock);
    return add(of(on), (operation){.kind = RECORD, .event = recorded, .record = record});
}
int cuStreamWaitEvent(void *waiting, event *awaited, unsigned flags) {
    return add(of(waiting), (operation){.kind = WAIT, .event = awaited, .record = awaited->recorded});
}
int cuEventSynchronize(event *awaited) {
    if (setting("FAKE_CUDA_WAIT", 0)) return (int)setting("FAKE_CUDA_WAIT", 0);
    pthread_mutex_lock(&lock);
    do_until(awaited->stream, awaited, awaited->recorded);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
#ifndef WITHOUT_EVENT_TIMING
int cuEventElapsedTime_v2(float *milliseconds, event *begin, event *end) {
    double seconds = (double)(end->at.tv_sec - begin->at.tv_sec) + (double)(end->at.tv_nsec - begin->at.tv_nsec) / 1e9;
    *milliseconds = (float)(seconds * 1e3);
    return begin->done && end->done ? SUCCESS : 600;
}
#endif
int cuMemHostAlloc(void **made, size_t bytes, unsigned flags) {
    *made = malloc(bytes);
    if (*made) memset(*made, 0xEE, bytes);
    return SUCCESS;
}
int cuMemFreeHost(void *memory) { free(memory); return SUCCESS; }
int cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes, void *on) {
    if (setting("FAKE_CUDA_COPY", 0)) return (int)setting("FAKE_CUDA_COPY", 0);
    return add(of(on), (operation){.kind = COPY, .to = to, .from = (const void *)(uintptr_t)from, .bytes = bytes});
}
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t bytes, void *on) {
    if (setting("FAKE_CUDA_COPY", 0)) return (int)setting("FAKE_CUDA_COPY", 0);
    return add(of(on), (operation){.kind = COPY, .to = (void *)(uintptr_t)to, .from = from, .bytes = bytes});
}
