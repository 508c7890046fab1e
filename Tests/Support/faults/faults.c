// A disk that fails when a test wants it to, and a journal of what a power cut would take away.
//
// Loaded into the broker by LD_PRELOAD. It stands in front of every call of libc that changes a file below
// FAULTS_DIRECTORY, counts those calls, and does to them what the control file says, which the test may change at any
// time. Before a file changes, what was there goes into the journal; Tests/SystemTests/Support/PowerCut.swift reads it after a
// crash and takes back what no fsync had made durable. FAULTS is the directory of both:
//
//     control    `struct control`, mapped
//     journal    `struct record`s, each with its name and its bytes
//     graves/N   what the call of that number removed or replaced
//
// One lock is held from the decision about a call to its end, fsync's own work excepted: where a call ends the process no other
// call of it reaches the disk any more.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE = 1, TRUNCATE, SYNC, CREATE, RENAME, REMOVE, MAKE_DIRECTORY };

enum fault { NONE, FAIL, SHORTEN, TEAR, DIE_BEFORE, DIE_AFTER, PRETEND };

// Support/Faults.swift has the same fields in the same order.
struct control {
    int64_t loaded;            // Written here: 1.
    int64_t calls;             // Written here: how many calls there were that change something.
    int64_t fired;             // Written here: how many of them the fault met.
    int64_t fault;             // `enum fault`
    int64_t first;             // The number of the first call that it meets.
    int64_t count;             // And of how many after it, itself included.
    int64_t kinds;             // Bit `kind`: only these; 0: all.
    int64_t code;              // The errno of FAIL.
    int64_t bytes;             // What SHORTEN and TEAR let through, at most all but one.
    int64_t sync_milliseconds; // How long each fsync takes at least.
    int64_t clock_seconds;     // What is added to the wall clock.
};

// Support/PowerCut.swift reads them.
struct record {
    uint32_t kind, call;
    uint64_t inode;       // Of the file; of the directory for CREATE, RENAME, REMOVE.
    uint64_t offset;      // WRITE: where; TRUNCATE: the new size; SYNC: the first call that it does not cover.
    uint64_t size;        // The file's before; RENAME, REMOVE: 1 if there is a grave.
    uint32_t length;      // WRITE: of what is written; SYNC: the errno, 0 if it succeeded.
    uint32_t name_length; // Relative to the directory; RENAME: both, with a zero between them.
    uint64_t old_length;  // The bytes that were there, after the name.
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct control *control;
static int journal = -1;
static char side[PATH_MAX], root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void load(void) {
    const char *directory = getenv("FAULTS"), *data = getenv("FAULTS_DIRECTORY");
    if (!directory || !data) return;
    char name[PATH_MAX + 16];
    snprintf(side, sizeof side, "%s", directory);
    snprintf(root, sizeof root, "%s", data);
    root_length = strlen(root);
    snprintf(name, sizeof name, "%s/control", directory);
    int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
    snprintf(name, sizeof name, "%s/journal", directory);
    journal = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct control *mapped = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || journal < 0 || mapped == MAP_FAILED) abort();
    close(file);
    mapped->loaded = 1;
    control = mapped;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

// The part of a path after the directory; NULL if it is elsewhere. "" is the directory itself.
static const char *inside(const char *path) {
    if (strncmp(path, root, root_length) != 0) return NULL;
    if (path[root_length] == 0) return path + root_length;
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

// The name, below the directory, of an open file.
static const char *name_of(int file, char path[PATH_MAX]) {
    char link[64];
    if (!control) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    return inside(path);
}

// The name, below the directory, of what a path means.
static const char *name_at(int at, const char *path, char whole[PATH_MAX]) {
    if (!control || !path) return NULL;
    char base[PATH_MAX] = "", text[2 * PATH_MAX], parent[PATH_MAX];
    if (path[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return NULL;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
            if (length <= 0) return NULL;
            base[length] = 0;
        }
    }
    snprintf(text, sizeof text, "%s%s%s", base, base[0] ? "/" : "", path);
    char *slash = strrchr(text, '/');
    if (!slash) return NULL;
    *slash = 0;
    int saved = errno;
    if (!realpath(text[0] ? text : "/", parent)) {
        errno = saved;
        return NULL;
    }
    if (snprintf(whole, PATH_MAX, "%s/%s", parent, slash + 1) >= PATH_MAX) return NULL;
    return inside(whole);
}

static int is_shared_memory(const char *name) {
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, "-shm") == 0;
}

static void note(struct record record, const char *name, const char *other, const void *old) {
    char names[2 * PATH_MAX];
    record.name_length = (uint32_t)strlen(name);
    memcpy(names, name, record.name_length);
    if (other) {
        names[record.name_length++] = 0;
        memcpy(names + record.name_length, other, strlen(other));
        record.name_length += (uint32_t)strlen(other);
    }
    struct iovec parts[] = {
        {&record, sizeof record}, {names, record.name_length}, {(void *)old, record.old_length}};
    size_t length = sizeof record + record.name_length + record.old_length;
    if (syscall(SYS_writev, journal, parts, 3) != (ssize_t)length) abort();
}

struct verdict {
    enum fault fault;
    uint32_t call;
};

// Takes the lock, counts the call, and says what becomes of it. Never returns where the process ends before it.
static struct verdict begin(enum kind kind) {
    pthread_mutex_lock(&lock);
    struct verdict verdict = {NONE, (uint32_t)++control->calls};
    int64_t number = control->calls;
    if (control->fault == NONE || number < control->first || number - control->first >= control->count) return verdict;
    if (control->kinds && !(control->kinds >> kind & 1)) return verdict;
    verdict.fault = (enum fault)control->fault;
    control->fired++;
    if (verdict.fault == DIE_BEFORE) die();
    if ((verdict.fault == SHORTEN || verdict.fault == TEAR) && kind != WRITE) {
        // There is no half of a rename.
        if (verdict.fault == TEAR) die();
        verdict.fault = NONE;
    }
    return verdict;
}

static long fail(void) {
    int code = (int)control->code;
    pthread_mutex_unlock(&lock);
    errno = code;
    return -1;
}

static long end(struct verdict verdict, long result) {
    int saved = errno;
    if (verdict.fault == DIE_AFTER || verdict.fault == TEAR) die();
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

// MARK: Contents

static ssize_t write_parts(int file, const struct iovec *parts, int count, off_t offset, int is_at) {
    char path[PATH_MAX];
    const char *name = name_of(file, path);
    if (!name)
        return is_at ? syscall(SYS_pwritev, file, parts, count, offset, 0) : syscall(SYS_writev, file, parts, count);
    struct verdict verdict = begin(WRITE);
    if (verdict.fault == FAIL) return fail();
    size_t length = 0;
    for (int index = 0; index < count; index++) length += parts[index].iov_len;
    char *bytes = malloc(length + 1), *old = malloc(length + 1);
    struct stat status;
    if (!bytes || !old || fstat(file, &status) != 0) abort();
    size_t place = 0;
    for (int index = 0; index < count; place += parts[index++].iov_len)
        memcpy(bytes + place, parts[index].iov_base, parts[index].iov_len);
    if ((verdict.fault == SHORTEN || verdict.fault == TEAR) && length > 0)
        length = control->bytes < (int64_t)length ? (size_t)control->bytes : length - 1;
    off_t start = offset;
    if (!is_at)
        start = fcntl(file, F_GETFL) & O_APPEND ? status.st_size : syscall(SYS_lseek, file, 0, SEEK_CUR);
    if (!is_shared_memory(name)) {
        char own[64];
        snprintf(own, sizeof own, "/proc/self/fd/%d", file);
        int reader = (int)syscall(SYS_openat, AT_FDCWD, own, O_RDONLY | O_CLOEXEC);  // It may be open for writing only.
        ssize_t had = reader < 0 ? -1 : syscall(SYS_pread64, reader, old, length, start);
        if (had < 0) abort();
        syscall(SYS_close, reader);
        note((struct record){.kind = WRITE, .call = verdict.call, .inode = status.st_ino, .offset = (uint64_t)start,
                 .size = (uint64_t)status.st_size, .length = (uint32_t)length, .old_length = (uint64_t)had},
            name, NULL, old);
    }
    ssize_t result = is_at ? syscall(SYS_pwrite64, file, bytes, length, offset) : syscall(SYS_write, file, bytes, length);
    int saved = errno;
    free(bytes);
    free(old);
    errno = saved;
    return end(verdict, result);
}

ssize_t write(int file, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    char path[PATH_MAX];
    if (!name_of(file, path)) return syscall(SYS_write, file, bytes, length);
    return write_parts(file, &part, 1, 0, 0);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    struct iovec part = {(void *)bytes, length};
    return write_parts(file, &part, 1, offset, 1);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) { return pwrite64(file, bytes, length, offset); }

ssize_t writev(int file, const struct iovec *parts, int count) { return write_parts(file, parts, count, 0, 0); }

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t offset) {
    return write_parts(file, parts, count, offset, 1);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
    return write_parts(file, parts, count, offset, 1);
}

int ftruncate64(int file, off64_t size) {
    char path[PATH_MAX];
    const char *name = name_of(file, path);
    if (!name) return (int)syscall(SYS_ftruncate, file, size);
    struct verdict verdict = begin(TRUNCATE);
    if (verdict.fault == FAIL) return (int)fail();
    struct stat status;
    if (fstat(file, &status) != 0) abort();
    if (!is_shared_memory(name)) {
        size_t length = status.st_size > size ? (size_t)(status.st_size - size) : 0;
        char *old = malloc(length + 1);
        if (!old || syscall(SYS_pread64, file, old, length, size) != (ssize_t)length) abort();
        note((struct record){.kind = TRUNCATE, .call = verdict.call, .inode = status.st_ino, .offset = (uint64_t)size,
                 .size = (uint64_t)status.st_size, .old_length = length},
            name, NULL, old);
        free(old);
    }
    return (int)end(verdict, syscall(SYS_ftruncate, file, size));
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

static int synchronize(int file, long number) {
    char path[PATH_MAX];
    const char *name = name_of(file, path);
    if (!name) return (int)syscall(number, file);
    struct verdict verdict = begin(SYNC);
    struct stat status;
    if (fstat(file, &status) != 0) abort();
    struct record record = {.kind = SYNC, .call = verdict.call, .inode = status.st_ino, .offset = verdict.call};
    long result = -1;
    if (verdict.fault == PRETEND) return (int)end(verdict, 0);
    if (verdict.fault == FAIL) {
        errno = (int)control->code;
    } else {
        struct timespec pause = {control->sync_milliseconds / 1000, control->sync_milliseconds % 1000 * 1000000};
        pthread_mutex_unlock(&lock);
        nanosleep(&pause, NULL);
        result = syscall(number, file);
        int saved = errno;
        pthread_mutex_lock(&lock);
        errno = saved;
    }
    int saved = errno;
    record.length = result == 0 ? 0 : (uint32_t)errno;
    note(record, name, NULL, NULL);
    errno = saved;
    return (int)end(verdict, result);
}

int fsync(int file) { return synchronize(file, SYS_fsync); }
int fdatasync(int file) { return synchronize(file, SYS_fdatasync); }

// MARK: Names

static void bury(const char *path, uint32_t call, int *has_grave) {
    char grave[PATH_MAX + 32];
    snprintf(grave, sizeof grave, "%s/graves/%u", side, call);
    *has_grave = linkat(AT_FDCWD, path, AT_FDCWD, grave, 0) == 0;
}

static void exhume(uint32_t call, int has_grave) {
    char grave[PATH_MAX + 32];
    snprintf(grave, sizeof grave, "%s/graves/%u", side, call);
    int saved = errno;
    if (has_grave) syscall(SYS_unlinkat, AT_FDCWD, grave, 0);
    errno = saved;
}

static uint64_t parent_inode(const char *path) {
    char parent[PATH_MAX];
    struct stat status = {0};
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash) *slash = 0;
    return stat(parent, &status) == 0 ? status.st_ino : 0;
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    struct stat status;
    const char *name = flags & (O_CREAT | O_TRUNC) ? name_at(at, path, whole) : NULL;
    if (!name) return (int)syscall(SYS_openat, at, path, flags, mode);
    if (fstatat(AT_FDCWD, whole, &status, AT_SYMLINK_NOFOLLOW) == 0 || !(flags & O_CREAT)) {
        int file = (int)syscall(SYS_openat, at, path, flags & ~O_TRUNC, mode);
        if (file < 0 || !(flags & O_TRUNC)) return file;
        if (ftruncate(file, 0) == 0) return file;
        int saved = errno;
        syscall(SYS_close, file);
        errno = saved;
        return -1;
    }
    struct verdict verdict = begin(CREATE);
    if (verdict.fault == FAIL) return (int)fail();
    int file = (int)syscall(SYS_openat, at, path, flags, mode);
    int saved = errno;
    if (file >= 0)
        note((struct record){.kind = CREATE, .call = verdict.call, .inode = parent_inode(whole)}, name, NULL, NULL);
    errno = saved;
    return (int)end(verdict, file);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }

int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    const char *old_name = name_at(from_at, from, old), *new_name = name_at(to_at, to, new);
    if (!old_name || !new_name) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    struct verdict verdict = begin(RENAME);
    if (verdict.fault == FAIL) return (int)fail();
    int has_grave;
    bury(new, verdict.call, &has_grave);
    long result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    int saved = errno;
    if (result != 0) {
        exhume(verdict.call, has_grave);
    } else {
        note((struct record){.kind = RENAME, .call = verdict.call, .inode = parent_inode(new), .size = has_grave},
            old_name, new_name, NULL);
    }
    errno = saved;
    return (int)end(verdict, result);
}

int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags) {
    char whole[PATH_MAX];
    struct stat status;
    const char *name = name_at(at, path, whole);
    // What is not there is no change.
    if (!name || flags != 0 || fstatat(AT_FDCWD, whole, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return (int)syscall(SYS_unlinkat, at, path, flags);
    struct verdict verdict = begin(REMOVE);
    if (verdict.fault == FAIL) return (int)fail();
    int has_grave;
    bury(whole, verdict.call, &has_grave);
    long result = syscall(SYS_unlinkat, at, path, flags);
    int saved = errno;
    if (result != 0) {
        exhume(verdict.call, has_grave);
    } else {
        note((struct record){.kind = REMOVE, .call = verdict.call, .inode = parent_inode(whole), .size = has_grave},
            name, NULL, NULL);
    }
    errno = saved;
    return (int)end(verdict, result);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int remove(const char *path) {
    struct stat status;
    if (lstat(path, &status) != 0) return -1;
    return S_ISDIR(status.st_mode) ? rmdir(path) : unlink(path);
}

int mkdirat(int at, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    struct stat status;
    if (!name_at(at, path, whole) || fstatat(AT_FDCWD, whole, &status, 0) == 0)
        return (int)syscall(SYS_mkdirat, at, path, mode);
    struct verdict verdict = begin(MAKE_DIRECTORY);
    if (verdict.fault == FAIL) return (int)fail();
    return (int)end(verdict, syscall(SYS_mkdirat, at, path, mode));
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

// MARK: The wall clock

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += control->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, time, zone);
    if (result == 0 && control) time->tv_sec += control->clock_seconds;
    return result;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
