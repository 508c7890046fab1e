#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

/// `struct epoll_event` without its union of pointers, which Swift calls unsafe: the loop only ever stores a number.
struct readiness {
    uint32_t events;
    uint64_t token;
} __EPOLL_PACKED;
_Static_assert(sizeof(struct readiness) == sizeof(struct epoll_event), "one layout");

static inline int wait_for_readiness(int epoll, struct readiness *events, int capacity, int milliseconds) {
    return epoll_wait(epoll, (struct epoll_event *)events, capacity, milliseconds);
}
static inline int watch_readiness(int epoll, int operation, int descriptor, struct readiness *event) {
    return epoll_ctl(epoll, operation, descriptor, (struct epoll_event *)event);
}

/// Tell the thread sanitizer, when there is one, what it cannot see in the standard library's `Mutex`.
void sanitizer_acquires(const void *lock);
void sanitizer_releases(const void *lock);

/// `accept4` with a socket that doesn't block and closes on exec.
int accept_nonblocking(int listener, struct sockaddr *address, socklen_t *length);

/// How many CPUs this process may use: its affinity (`sched_getaffinity`), capped by its cgroup's quota; at least 1.
int usable_cpus(void);

/// The settings of malloc that fit a broker: large blocks come from the system and go back to it at once, and no more
/// arenas than there are threads at work.
void tune_malloc(int arenas);
/// Bytes that malloc holds although nobody uses them, and bytes that somebody uses.
size_t malloc_idle_bytes(void);
size_t malloc_used_bytes(void);
/// Bytes of memory that this process has from the system, without what lies in files: `/proc/self/statm`. 0 when that
/// can't be read.
size_t resident_bytes(void);

// Control socket.

/// The user who is at the other end of a unix socket (SO_PEERCRED), as it was when it connected; -1 where that can't be told.
int64_t peer_user(int socket);

// Backup.

/// `renameat2` with RENAME_NOREPLACE.
int rename_without_replacing(const char *from, const char *to);
/// `renameat2` with RENAME_EXCHANGE.
int exchange_names(const char *one, const char *other);
/// `syncfs`: all of the file system that a descriptor is on.
int write_back_file_system(int descriptor);
