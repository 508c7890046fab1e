internal import Dispatch
internal import Glibc
internal import Locks

/// Where a `LogWriter` puts its lines. Called by one thread at a time; may make it wait.
protocol LogOutput: Sendable {
    /// Returns how many of the lines were lost.
    func write(_ lines: ArraySlice<LogWriter.Line>) -> Int
}

/// Writes log lines to one place, on a queue of its own: whoever logs never waits for a stopped terminal, a full pipe or
/// a slow disk. What has come together goes in one write. What waits is bounded; lines past the bound are counted, and
/// the log says how many.
package final class LogWriter: Sendable {
    package enum Limits {
        /// Bytes of lines that may wait for the place.
        package static let backlogBytes = 1 << 20
        /// How long a line may wait for others: waking a thread for each costs more than the line.
        static let delay = DispatchTimeInterval.milliseconds(10)
        /// Bytes of one write.
        static let writeBytes = 64 << 10
        /// How long the end of the process waits for a place that takes nothing.
        package static let flush: Duration = .seconds(1)
    }

    package struct Line: Sendable {
        package let kind: LogKind
        package let text: String

        /// With its line feed.
        var byteCount: Int { text.utf8.count + 1 }
    }

    private struct Waiting: Sendable {
        var lines: [Line] = []
        /// Of those, and of those that are being written.
        var bytes = 0
        var lost = 0
        /// `drain` is under way, and will see what comes.
        var isScheduled = false
        var style = LogStyle()
    }

    private let waiting = Lock(Waiting())
    private let queue = DispatchQueue(label: "log")
    private let output: any LogOutput

    init(_ output: any LogOutput) { self.output = output }

    /// Writes to a descriptor that stays the caller's, such as standard error.
    package convenience init(descriptor: CInt) { self.init(DescriptorOutput(descriptor)) }

    /// Appends to the file at `path`, which is made, for its owner alone, where there is none.
    package convenience init(appendingTo path: String, owner: LogFileOwner? = nil) throws(LogFileError) {
        self.init(try DescriptorOutput(appendingTo: path, owner: owner))
    }

    /// Sends to the system's log. `facility` is a local one, 0 to 7, or nil for `daemon`.
    package convenience init(syslogFacility facility: Int?, at path: String = "/dev/log") {
        self.init(SyslogOutput(facility: facility, path: path))
    }

    package convenience init(topics: LogTopics) { self.init(topics as any LogOutput) }

    /// How the writer's own lines look.
    package func adopt(_ style: LogStyle) { waiting.withLock { $0.style = style } }

    /// Takes a line without its line feed, and returns at once.
    package func write(_ text: String, _ kind: LogKind = .notice) {
        let line = Line(kind: kind, text: text)
        let isFirst = waiting.withLock { waiting in
            guard waiting.bytes + line.byteCount <= Limits.backlogBytes else {
                waiting.lost += 1
                return false
            }
            waiting.lines.append(line)
            waiting.bytes += line.byteCount
            defer { waiting.isScheduled = true }
            return !waiting.isScheduled
        }
        if isFirst { queue.asyncAfter(deadline: .now() + Limits.delay) { self.drain() } }
    }

    /// Calls `done` when every line taken so far is written; for the end of the process.
    package func flush(_ done: @escaping @Sendable () -> Void) {
        queue.async {
            self.drain()
            self.reportLostLines(whenAtMost: .max)
            done()
        }
    }

    /// Waits until every line taken so far is written, for `Limits.flush` at most.
    package func flush() { Self.flush([self]) }

    /// Waits for all of them together, for `Limits.flush` at most.
    package static func flush(_ writers: [LogWriter]) {
        let group = DispatchGroup()
        for writer in writers {
            group.enter()
            writer.flush { group.leave() }
        }
        _ = group.wait(timeout: .now() + .seconds(Int(Limits.flush.components.seconds)))
    }

    /// Opens the file anew, since somebody may have moved it; where that fails the old one stays. No effect on a place
    /// that is no file.
    package func reopen() throws(LogFileError) {
        guard let file = output as? DescriptorOutput, let descriptor = try file.openAgain() else { return }
        queue.async { file.replace(with: descriptor) }
    }

    // MARK: - On the queue

    private func drain() {
        while true {
            var lines: [Line] = []
            let isEmpty = waiting.withLock { waiting in
                swap(&waiting.lines, &lines)
                if lines.isEmpty { waiting.isScheduled = false }
                return lines.isEmpty
            }
            guard !isEmpty else { return }
            var start = 0
            while start < lines.count {
                var (end, bytes) = (start, 0)
                while end < lines.count, end == start || bytes + lines[end].byteCount <= Limits.writeBytes {
                    bytes += lines[end].byteCount
                    end += 1
                }
                let lost = output.write(lines[start..<end])
                waiting.withLock {
                    $0.bytes -= bytes
                    $0.lost += lost
                }
                // Once half the backlog is free: not once per write while a flood goes on.
                if lost == 0 { reportLostLines(whenAtMost: Limits.backlogBytes / 2) }
                start = end
            }
        }
    }

    private func reportLostLines(whenAtMost bytes: Int) {
        let (count, style) = waiting.withLock { waiting in
            guard waiting.lost > 0, waiting.bytes <= bytes else { return (0, waiting.style) }
            defer { waiting.lost = 0 }
            return (waiting.lost, waiting.style)
        }
        guard count > 0 else { return }
        let text = style.line(.warning, "log lines lost", [LogField("count", .literal("\(count)"))], at: .now())
        if output.write([Line(kind: .warning, text: text)]) > 0 { waiting.withLock { $0.lost += count } }
    }
}
