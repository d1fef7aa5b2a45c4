/* A wall clock that jumps: JUMP_AFTER seconds after the start of the process it is JUMP_BY seconds ahead (or behind).
   The monotonic clocks stay as they are.  For LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static double after, by;
static struct timespec begun;

__attribute__((constructor)) static void begin(void) {
    const char *a = getenv("JUMP_AFTER"), *b = getenv("JUMP_BY");
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    after = a ? atof(a) : 0;
    by = b ? atof(b) : 0;
    real(CLOCK_MONOTONIC, &begun);
}

static long jumped(void) {
    struct timespec now;
    real(CLOCK_MONOTONIC, &now);
    return now.tv_sec - begun.tv_sec >= after ? (long)by : 0;
}

int clock_gettime(clockid_t clock, struct timespec *when) {
    if (!real)
        begin();
    int failed = real(clock, when);
    if (!failed && clock == CLOCK_REALTIME)
        when->tv_sec += jumped();
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    tv->tv_sec = now.tv_sec;
    tv->tv_usec = now.tv_nsec / 1000;
    return failed;
}
