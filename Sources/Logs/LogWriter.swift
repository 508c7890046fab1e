internal import Dispatch
internal import Glibc
internal import Synchronization

/// Writes log lines to one descriptor, on a queue of its own: whoever logs never waits for a stopped terminal, a full
/// pipe or a slow disk. What waits is bounded; lines past the bound are counted, and the log says how many.
package final class LogWriter: Sendable {
    package enum Limits {
        /// Bytes of lines that may wait for the descriptor.
        package static let backlogBytes = 1 << 20
        /// How long `flush` waits for a descriptor that takes nothing.
        package static let flush: Duration = .seconds(1)
    }

    private let descriptor: CInt
    private let closesDescriptor: Bool
    private let queue = DispatchQueue(label: "log")
    private let backlogBytes = Atomic<Int>(0)
    private let lostLines = Atomic<Int>(0)
    /// The last write stopped inside a line. Used on `queue` only, and atomic only for the compiler.
    private let isMidLine = Atomic<Bool>(false)

    /// Writes to a descriptor that stays the caller's, such as standard error.
    package init(descriptor: CInt) {
        self.descriptor = descriptor
        closesDescriptor = false
    }

    /// Appends to the file at `path`, which is made, for its owner alone, where there is none.
    package init(appendingTo path: String) throws(LogFileError) {
        let descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0o600)
        guard descriptor >= 0 else { throw LogFileError(path: path, errno: errno) }
        self.descriptor = descriptor
        closesDescriptor = true
    }

    deinit { if closesDescriptor { close(descriptor) } }

    /// Takes a line without its line feed, and returns at once.
    package func write(_ line: String) {
        let bytes = Array(line.utf8) + [UInt8(ascii: "\n")]
        let waiting = backlogBytes.add(bytes.count, ordering: .relaxed).newValue
        guard waiting <= Limits.backlogBytes else {
            backlogBytes.subtract(bytes.count, ordering: .relaxed)
            lostLines.add(1, ordering: .relaxed)
            return
        }
        queue.async { self.put(bytes) }
    }

    /// Waits until every line taken so far is written, for `Limits.flush` at most; for the end of the process.
    package func flush() {
        let done = DispatchSemaphore(value: 0)
        queue.async {
            self.reportLostLines()
            done.signal()
        }
        _ = done.wait(timeout: .now() + .seconds(Int(Limits.flush.components.seconds)))
    }

    /// On `queue`. Lost lines are told of once half the backlog is free: not once per line while the flood goes on.
    private func put(_ bytes: [UInt8]) {
        let isWritten = writeWhole(bytes)
        let waiting = backlogBytes.subtract(bytes.count, ordering: .relaxed).newValue
        if !isWritten {
            lostLines.add(1, ordering: .relaxed)
        } else if waiting <= Limits.backlogBytes / 2 {
            reportLostLines()
        }
    }

    private func reportLostLines() {
        let count = lostLines.exchange(0, ordering: .relaxed)
        guard count > 0 else { return }
        let line = LogLine.text(unixSeconds: unixSeconds(), "log lines lost", [("count", "\(count)")])
        if !writeWhole(Array("\(line)\n".utf8)) { lostLines.add(count, ordering: .relaxed) }
    }

    /// False where the descriptor refuses, a full disk for instance. The line after a broken one begins on a new line.
    private func writeWhole(_ line: [UInt8]) -> Bool {
        let bytes = isMidLine.load(ordering: .relaxed) ? [UInt8(ascii: "\n")] + line : line
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.span.extracting(written...).withUnsafeBufferPointer {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                written += count
            } else if errno == EAGAIN {  // Someone made our terminal non-blocking: this queue is there to wait.
                waitUntilWritable()
            } else if errno != EINTR {
                break
            }
        }
        if written > 0 { isMidLine.store(written < bytes.count, ordering: .relaxed) }
        return written == bytes.count
    }

    private func waitUntilWritable() {
        var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&request, 1, -1)
    }
}

/// A log file that cannot be opened.
package struct LogFileError: Error, CustomStringConvertible {
    package let path: String
    package let errno: CInt

    package var description: String { unsafe "log_dest file \(path): \(String(cString: strerror(errno)))" }
}

/// The time of day, which log lines carry.
func unixSeconds() -> Int { time(nil) }
