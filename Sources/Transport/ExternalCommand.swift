import Dispatch
import Glibc

/// A command line of the administrator's, run by `/bin/sh`.
package struct ExternalCommand: Sendable {
    package enum Outcome: Sendable, Equatable {
        /// With what it had printed first, at most `shownBytes`.
        case exited(status: CInt, output: String)
        case killed(signal: CInt)
        case tooSlow
        case failed(SystemError)
    }

    private static let shownBytes = 256
    /// What it prints is read, and thrown away past the beginning, until it ends.
    private static let chunkBytes = 4096

    private let line: String
    private let arguments: [String]
    private let patience: Duration

    /// `arguments` come behind those of the line, as they are: no shell looks into them. After `patience` it is killed, with
    /// all that it has started.
    package init(_ line: String, _ arguments: [String], patience: Duration) {
        self.line = line
        self.arguments = arguments
        self.patience = patience
    }

    /// Runs it on a thread of its own.
    package func run() async -> Outcome {
        await withCheckedContinuation { continuation in
            DispatchQueue.global(qos: .utility).async { continuation.resume(returning: self.runHere()) }
        }
    }

    /// Blocks.
    private func runHere() -> Outcome {
        var ends: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            return .failed(SystemError(errno, during: "socketpair"))
        }
        let reader = Descriptor(adopting: ends[0])
        let process: pid_t
        do throws(SystemError) {
            let writer = Descriptor(adopting: ends[1])
            process = try spawn(printingTo: writer.rawValue)
        } catch {
            return .failed(error)
        }
        let deadline = DispatchTime.now() + .nanoseconds(Int(patience / .nanoseconds(1)))
        let output = read(from: reader.rawValue, until: deadline)
        let status = wait(for: process, until: deadline)
        guard let status else {
            kill(-process, SIGKILL)
            while waitpid(process, nil, 0) < 0, errno == EINTR {}
            return .tooSlow
        }
        // What it has left running goes with it.
        kill(-process, SIGKILL)
        let signal = status & 0x7F
        guard signal == 0 else { return .killed(signal: signal) }
        return .exited(status: status >> 8 & 0xFF, output: output)
    }

    /// In a group of its own, with the signals as every program expects them. The corresponding C function is `posix_spawn`.
    private func spawn(printingTo output: CInt) throws(SystemError) -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        unsafe sigfillset(&signals)
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
        unsafe posix_spawnattr_setflags(&attributes, Int16(flags))
        let words = ["/bin/sh", "-c", "\(line) \"$@\"", "sh"] + arguments
        var copies = unsafe words.map { unsafe strdup($0) } + [nil]
        defer { while let copy = unsafe copies.popLast() { unsafe free(copy) } }
        var process: pid_t = 0
        let code = unsafe posix_spawn(&process, "/bin/sh", &actions, &attributes, &copies, environ)
        guard code == 0 else { throw SystemError(code, during: "posix_spawn") }
        return process
    }

    /// Until everybody has closed the other end. The corresponding C functions are `poll` and `read`.
    private func read(from descriptor: CInt, until deadline: DispatchTime) -> String {
        var beginning: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: Self.chunkBytes)
        while true {
            let left = Int64(deadline.uptimeNanoseconds) - Int64(DispatchTime.now().uptimeNanoseconds)
            guard left > 0 else { break }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = unsafe poll(&entry, 1, CInt(clamping: left / 1_000_000 + 1))
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else { break }
            let count = unsafe Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            if beginning.count < Self.shownBytes { beginning += chunk.prefix(min(count, Self.shownBytes)) }
        }
        return String(decoding: beginning.prefix(Self.shownBytes), as: UTF8.self)
    }

    /// Nil: it goes on. It has closed what it prints to, so this is not for long. The corresponding C function is `waitpid`.
    private func wait(for process: pid_t, until deadline: DispatchTime) -> CInt? {
        var status: CInt = 0
        while true {
            let ended = unsafe waitpid(process, &status, WNOHANG)
            if ended == process { return status }
            if ended < 0, errno != EINTR { return 0x7F }
            guard DispatchTime.now() < deadline else { return nil }
            poll(nil, 0, 5)
        }
    }
}
