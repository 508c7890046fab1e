#define _GNU_SOURCE
#include "clinux.h"
#include <sched.h>
#include <stdio.h>

#if __has_feature(thread_sanitizer)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void sanitizer_acquires(const void *lock) { __tsan_acquire((void *)lock); }
void sanitizer_releases(const void *lock) { __tsan_release((void *)lock); }
#else
void sanitizer_acquires(const void *lock) {}
void sanitizer_releases(const void *lock) {}
#endif

int accept_nonblocking(int listener, struct sockaddr *address, socklen_t *length) {
    return accept4(listener, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int usable_cpus(void) {
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) return 1;
    int count = CPU_COUNT(&cpus);
    // A container's quota, in microseconds of CPU per period; "max" where there is none.
    long quota, period;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file) {
        if (fscanf(file, "%ld %ld", &quota, &period) == 2 && period > 0 && (quota + period - 1) / period < count)
            count = (int)((quota + period - 1) / period);
        fclose(file);
    }
    return count > 0 ? count : 1;
}

void tune_malloc(int arenas) {
    mallopt(M_ARENA_MAX, arenas);
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

size_t malloc_idle_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.fordblks;
}
