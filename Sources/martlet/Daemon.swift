internal import Glibc

/// `-d`: the broker runs on in the background. The process starts itself anew, without a terminal, since one that has
/// threads already can't fork; it waits until the other listens or has failed, and ends with its status.
enum Daemon {
    /// Where the background process finds the pipe that it tells through.
    static let descriptor: CInt = 3

    /// In the foreground. The corresponding C functions are `pipe`, `posix_spawn` and `waitpid`.
    static func start() throws(Failure) -> Never {
        var ends: [CInt] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw refusal(errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var process = pid_t()
        let arguments = CommandLine.arguments + ["--told-through", "\(descriptor)"]
        let code = spawn("/proc/self/exe", arguments, telling: ends[1], &process)
        guard code == 0 else { throw refusal(code) }
        close(ends[1])

        var byte: UInt8 = 0
        while true {
            let count = unsafe read(ends[0], &byte, 1)
            if count == 1 { exit(0) }
            if count == 0 || errno != EINTR { break }
        }
        var status: CInt = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        exit(status & 0x7F == 0 ? status >> 8 & 0xFF : Failure.Status.failed.rawValue)
    }

    /// In the background: by the name that people look for, not that of the link it was started by (proc(5)). The
    /// corresponding C functions are `open` and `write`.
    static func takeName() {
        let descriptor = unsafe open("/proc/self/comm", O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = unsafe Glibc.write(descriptor, "martlet", "martlet".utf8.count)
        close(descriptor)
    }

    /// In the background: everything is said, and nobody is left to read standard output and standard error.
    static func tellReady() {
        let null = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
        if null >= 0 {
            for standard in [STDOUT_FILENO, STDERR_FILENO] { dup2(null, standard) }
            close(null)
        }
        var byte: UInt8 = 1
        _ = unsafe Glibc.write(descriptor, &byte, 1)
        close(descriptor)
    }

    /// In a session of its own, with an empty standard input, and without the signal mask of the thread that asks.
    private static func spawn(_ path: String, _ arguments: [String], telling end: CInt, _ process: inout pid_t) -> CInt
    {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, end, descriptor)

        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        let newSession: CInt = 0x80  // POSIX_SPAWN_SETSID
        unsafe posix_spawnattr_setflags(&attributes, Int16(newSession | CInt(POSIX_SPAWN_SETSIGMASK)))

        var pointers = unsafe arguments.map { unsafe strdup($0) } + [nil]
        defer {
            for index in unsafe pointers.indices { unsafe free(pointers[index]) }
        }
        return unsafe posix_spawn(&process, path, &actions, &attributes, &pointers, environ)
    }

    private static func refusal(_ code: CInt) -> Failure {
        unsafe Failure(.failed, "-d: \(String(cString: strerror(code)))")
    }
}
