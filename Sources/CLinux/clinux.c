#define _GNU_SOURCE
#include "clinux.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

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

size_t malloc_used_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

size_t resident_bytes(void) {
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, text, sizeof text - 1);
    close(file);
    if (count <= 0) return 0;
    text[count] = 0;
    unsigned long size, resident, shared;
    if (sscanf(text, "%lu %lu %lu", &size, &resident, &shared) != 3 || resident < shared) return 0;
    return (resident - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

int64_t peer_user(int socket) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? (int64_t)peer.uid : -1;
}

int rename_without_replacing(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

int exchange_names(const char *one, const char *other) {
    return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

int write_back_file_system(int descriptor) { return syncfs(descriptor); }
