internal import Dispatch
internal import Locks
internal import Synchronization
internal import Transport

/// The log of a process: which lines are wanted, how they look, where they go. Everything about it can be changed while
/// it is used.
package final class Log: Sendable {
    package struct Settings: Sendable {
        package var kinds: LogKinds
        package var style: LogStyle
        /// `connection_messages`: the lines about clients that come and go.
        package var tellsConnections: Bool

        package init(
            kinds: LogKinds = [.error, .warning, .notice, .information], style: LogStyle = LogStyle(),
            tellsConnections: Bool = true
        ) {
            self.kinds = kinds
            self.style = style
            self.tellsConnections = tellsConnections
        }
    }

    private struct State: Sendable {
        var settings: Settings
        var writers: [LogWriter]
        var repeated = RepeatedLines()
        /// When the next timer rings, of those that are set.
        var timerDue: Int64?
    }

    private let state: Lock<State>
    /// `Settings.kinds`, or nothing where nobody would read it: what a line that is not wanted costs.
    private let kinds = Atomic<UInt8>(0)
    private let queue = DispatchQueue(label: "repeated lines")

    package init(_ settings: Settings, _ writers: [LogWriter]) {
        state = Lock(State(settings: settings, writers: writers))
        adopt(settings, writers)
    }

    /// Other settings from now on, and other places where `writers` names them.
    package func adopt(_ settings: Settings, _ writers: [LogWriter]? = nil) {
        let writers = writers ?? state.withLock { $0.writers }
        for writer in writers { writer.adopt(settings.style) }
        state.withLock {
            $0.settings = settings
            $0.writers = writers
        }
        kinds.store(writers.isEmpty ? 0 : settings.kinds.bits, ordering: .relaxed)
    }

    var wanted: LogKinds { LogKinds(bits: kinds.load(ordering: .relaxed)) }

    /// `isCounted`: a line that others can cause as often as they like.
    package func write(_ kind: LogKind, _ message: String, _ fields: [LogField], isCounted: Bool = false) {
        guard wanted.contains(kind) else { return }
        if message == "client connected" || message == "client disconnected" {
            return writeConnection(kind, message, fields, isCounted: isCounted)
        }
        guard isCounted else { return put(kind, message, fields) }
        count(kind, message, fields)
    }

    /// A client that got to a session has its two lines, whatever others do.
    private func writeConnection(_ kind: LogKind, _ message: String, _ fields: [LogField], isCounted: Bool) {
        let isMistake = fields.contains { $0.name == "mistake" }
        guard isMistake || state.withLock({ $0.settings.tellsConnections }) else { return }
        guard isCounted, !fields.contains(where: { $0.name == "client" }) else { return put(kind, message, fields) }
        count(kind, message, fields)
    }

    private func count(_ kind: LogKind, _ message: String, _ fields: [LogField]) {
        let now = monotonicNanoseconds() / 1_000_000_000
        let fields = fields.map(LogLine.cut)  // What is remembered is bounded too.
        let (isWritten, told) = state.withLock { $0.repeated.admit(kind, message, fields, now: now) }
        for line in told { put(line) }
        if isWritten { put(kind, message, fields) }
        setTimer(now)
    }

    private func setTimer(_ now: Int64) {
        let next: Int64? = state.withLock { state in
            guard let next = state.repeated.nextDue, next < state.timerDue ?? .max else { return nil }
            state.timerDue = next
            return next
        }
        guard let next else { return }
        queue.asyncAfter(deadline: .now() + .seconds(Int(max(1, next - now)))) { [weak self] in self?.tell() }
    }

    private func tell() {
        let now = monotonicNanoseconds() / 1_000_000_000
        let told = state.withLock { state in
            state.timerDue = nil
            return state.repeated.due(now: now)
        }
        for line in told { put(line) }
        setTimer(now)
    }

    private func put(_ line: RepeatedLine) { put(line.kind, line.message, line.allFields) }

    private func put(_ kind: LogKind, _ message: String, _ fields: [LogField]) {
        let (style, writers) = state.withLock { ($0.settings.style, $0.writers) }
        let line = style.line(kind, message, fields, at: .now())
        for writer in writers { writer.write(line, kind) }
    }

    /// Tells what has been counted, and waits until all is written, for `LogWriter.Limits.flush` at most.
    package func flush() {
        let now = monotonicNanoseconds() / 1_000_000_000
        let told = state.withLock { $0.repeated.finish(now: now) }
        for line in told { put(line) }
        LogWriter.flush(state.withLock { $0.writers })
    }
}
