import Foundation
import Glibc

/// A child process whose output goes to a file, so that nothing ever blocks on a full pipe. Killed when the test lets go of it.
final class Program {
    enum End: Equatable {
        case exited(Int32)
        case killed(by: Int32)
    }

    let pid: pid_t
    private let outputFile: String
    private var end: End?

    /// Standard output and standard error together; standard input is empty.
    init(_ path: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        outputFile = temporaryFile("output")
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, outputFile, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)

        // Dispatch's threads, on which tests run, block signals; a child must not inherit that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let argumentPointers = ([path] + arguments).map { strdup($0) } + [nil]
        let variablePointers = merged.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argumentPointers + variablePointers { free(pointer) } }
        var pid = pid_t()
        let code = posix_spawnp(&pid, path, &actions, &attributes, argumentPointers, variablePointers)
        guard code == 0 else { throw Unexpected(errno: code, during: path) }
        self.pid = pid
    }

    deinit {
        if end == nil {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        unlink(outputFile)
    }

    /// A tool from PATH whose standard output is not held back although it is a file.
    static func unbuffered(_ tool: String, _ arguments: [String]) throws -> Program {
        try Program("stdbuf", ["-oL", tool] + arguments)
    }

    func signal(_ number: Int32) {
        if end == nil { kill(pid, number) }
    }

    /// Nil while it runs.
    func endIfOver() -> End? {
        if end == nil {
            var status: Int32 = 0
            guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
            end = status & 0x7f == 0 ? .exited(status >> 8 & 0xff) : .killed(by: status & 0x7f)
        }
        return end
    }

    func waitForEnd(within seconds: Double = 20) throws -> End {
        guard eventually(within: seconds, { endIfOver() != nil }), let end else {
            throw Unexpected("still running after \(seconds) s; it said:\n\(output.suffix(2_000))")
        }
        return end
    }

    var output: String {
        String(decoding: FileManager.default.contents(atPath: outputFile) ?? Data(), as: UTF8.self)
    }

    /// Complete lines so far.
    var lines: [String] {
        let all = output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        return Array(all.dropLast())
    }

    /// Waits until a line contains `text`.
    func waitForLine(containing text: String, within seconds: Double = 10) throws {
        guard eventually(within: seconds, { lines.contains { $0.contains(text) } || endIfOver() != nil }),
            lines.contains(where: { $0.contains(text) })
        else { throw Unexpected("no line with \"\(text)\"; it said:\n\(output.suffix(2_000))") }
    }
}

func temporaryFile(_ name: String) -> String {
    "\(NSTemporaryDirectory())/martlet-test-\(getpid())-\(UUID().uuidString.prefix(8)).\(name)"
}

/// The folder that holds Package.swift.
let packageRoot = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .path
