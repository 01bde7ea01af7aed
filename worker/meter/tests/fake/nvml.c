/* A library that answers as NVML does, with what the file STATE says, line by line, at the time of each call:
 *
 *     driver CODE                 what nvmlInit_v2 returns
 *     board UUID NAME ENERGY_CODE ENERGY_MJ POWER_CODE POWER_MW WATTS REFRESH_MS
 *
 * A board's counter shows ENERGY_MJ and, from nvmlInit_v2 on, WATTS, changing every REFRESH_MS. Each reading of an energy or a
 * power adds a byte to the file STATE.reads, so that a test knows that its state was seen.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6 };

#define MOST_BOARDS 8

struct board {
    char uuid[96];
    char name[96];
    int energy_code;
    unsigned long long energy_mj;
    int power_code;
    unsigned power_mw;
    unsigned watts;
    unsigned refresh_ms;
};

static double begin_s;

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* All boards of the file; the driver's code through `driver`. */
static unsigned boards(struct board *all, int *driver) {
    unsigned count = 0;
    char line[512];
    FILE *file = fopen(STATE, "r");
    *driver = SUCCESS;
    if (!file) return 0;
    while (fgets(line, sizeof line, file) && count < MOST_BOARDS) {
        struct board *one = &all[count];
        if (sscanf(line, "driver %d", driver) == 1) continue;
        if (sscanf(line, "board %95s %95s %d %llu %d %u %u %u", one->uuid, one->name, &one->energy_code,
                   &one->energy_mj, &one->power_code, &one->power_mw, &one->watts, &one->refresh_ms) == 8)
            count++;
    }
    fclose(file);
    return count;
}

static void count_read(void) {
    FILE *file = fopen(STATE ".reads", "a");
    if (!file) return;
    fputc('.', file);
    fclose(file);
}

/* A handle is the board's place and 1. */
static int board_of(void *device, struct board *one) {
    struct board all[MOST_BOARDS];
    int driver;
    unsigned long place = (unsigned long)device;
    if (place == 0 || place > boards(all, &driver)) return INVALID_ARGUMENT;
    *one = all[place - 1];
    return SUCCESS;
}

int nvmlInit_v2(void) {
    struct board all[MOST_BOARDS];
    int driver;
    boards(all, &driver);
    begin_s = now_s();
    return driver;
}

int nvmlShutdown(void) { return SUCCESS; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "999.01");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    struct board all[MOST_BOARDS];
    int driver;
    *count = boards(all, &driver);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    struct board all[MOST_BOARDS];
    int driver;
    if (index >= boards(all, &driver)) return INVALID_ARGUMENT;
    *device = (void *)(unsigned long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    struct board all[MOST_BOARDS];
    int driver;
    unsigned count = boards(all, &driver);
    for (unsigned place = 0; place < count; place++) {
        if (strcmp(all[place].uuid, uuid) == 0) {
            *device = (void *)(unsigned long)(place + 1);
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
    struct board one;
    int code = board_of(device, &one);
    if (code == SUCCESS) snprintf(text, length, "%s", one.uuid);
    return code;
}

int nvmlDeviceGetName(void *device, char *text, unsigned length) {
    struct board one;
    int code = board_of(device, &one);
    if (code == SUCCESS) snprintf(text, length, "%s", one.name);
    return code;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj) {
    struct board one;
    int code = board_of(device, &one);
    if (code != SUCCESS) return code;
    count_read();
    unsigned refresh_ms = one.refresh_ms ? one.refresh_ms : 1;
    unsigned long long refreshes = (unsigned long long)((now_s() - begin_s) * 1e3 / refresh_ms);
    *energy_mj = one.energy_mj + refreshes * refresh_ms * one.watts;
    return one.energy_code;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *power_mw) {
    struct board one;
    int code = board_of(device, &one);
    if (code != SUCCESS) return code;
    count_read();
    *power_mw = one.power_mw;
    return one.power_code;
}
