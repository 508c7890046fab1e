/// What is said about a line that came several times.
package struct RepeatedLine: Equatable, Sendable {
    /// How the log calls them: so often more, in so many seconds.
    static let countName = "repeated"
    static let secondsName = "seconds"

    package let kind: LogKind
    package let message: String
    /// Of its latest occurrence.
    package let fields: [LogField]
    package let count: Int
    package let seconds: Int64

    package var allFields: [LogField] {
        fields + [LogField(Self.countName, .literal("\(count)")), LogField(Self.secondsName, .literal("\(seconds)"))]
    }
}

/// Decides which lines are written at once and which are counted. A health check that connects and goes every ten
/// seconds, for ever, costs a line at first and one an hour in the end. Time is an argument, in seconds of a clock that
/// never jumps.
package struct RepeatedLines: Sendable {
    package enum Limits {
        /// Different lines that are remembered; past it the one that has been away longest is forgotten, and told.
        package static let lines = 1024
        /// When the count is told: so many seconds after the line, then after the first telling, and so on.
        package static let intervals: [Int64] = [60, 600, 3600]
        /// A line that has not come for so long is new again.
        package static let memory: Int64 = 3600
        /// Refused sign-ins that are written each, in each of the first intervals: programs that ban addresses want to see
        /// some.
        package static let refusals = 5
    }

    private struct Entry: Sendable {
        let number: Int
        let kind: LogKind
        let message: String
        var fields: [LogField]
        var written = 1
        var count = 0
        /// When it was told last.
        var told: Int64
        var stage = 0
        var latest: Int64

        var due: Int64 { told + Limits.intervals[stage] }

        func summary(at now: Int64) -> RepeatedLine? {
            guard count > 0 else { return nil }
            return RepeatedLine(kind: kind, message: message, fields: fields, count: count, seconds: now - told)
        }
    }

    private var entries: [String: Entry] = [:]
    private var nextNumber = 0
    /// When `due` has something to do next.
    package private(set) var nextDue: Int64?

    package init() {}

    /// Whether the line shall be written now, and what is to be told before it.
    package mutating func admit(
        _ kind: LogKind, _ message: String, _ fields: [LogField], now: Int64
    ) -> (isWritten: Bool, told: [RepeatedLine]) {
        var told = due(now: now)
        let key = Self.key(kind, message, fields)
        if var entry = entries.removeValue(forKey: key) {
            let isWritten = entry.written < Self.writtenAtOnce(message, fields)
            if isWritten { entry.written += 1 } else { entry.count += 1 }
            entry.fields = fields
            entry.latest = now
            entries[key] = entry
            return (isWritten, told)
        }
        if entries.count >= Limits.lines { told += forgetOldest(now: now) }
        let entry = Entry(number: nextNumber, kind: kind, message: message, fields: fields, told: now, latest: now)
        nextNumber += 1
        entries[key] = entry
        nextDue = min(nextDue ?? entry.due, entry.due)
        return (true, told)
    }

    /// The counts whose time has come.
    package mutating func due(now: Int64) -> [RepeatedLine] {
        guard let next = nextDue, next <= now else { return [] }
        var told: [(number: Int, line: RepeatedLine)] = []
        for (key, var entry) in entries where entry.due <= now {
            if let line = entry.summary(at: now) { told.append((entry.number, line)) }
            guard now - entry.latest < Limits.memory else {
                entries[key] = nil
                continue
            }
            entry.count = 0
            entry.told = now
            if Self.writtenAtOnce(entry.message, entry.fields) > 1 {
                entry.written = 0  // A ban may be over: whoever goes on has to be seen again.
            } else {
                entry.stage = min(entry.stage + 1, Limits.intervals.count - 1)
            }
            entries[key] = entry
        }
        nextDue = entries.values.lazy.map(\.due).min()
        return told.sorted { $0.number < $1.number }.map(\.line)
    }

    /// All counts, for the end of the process.
    package mutating func finish(now: Int64) -> [RepeatedLine] {
        let last = entries.values.sorted { $0.number < $1.number }.compactMap { $0.summary(at: now) }
        self = RepeatedLines()
        return last
    }

    package var count: Int { entries.count }

    private mutating func forgetOldest(now: Int64) -> [RepeatedLine] {
        guard let oldest = entries.min(by: { ($0.value.latest, $0.value.number) < ($1.value.latest, $1.value.number) })
        else { return [] }
        entries[oldest.key] = nil
        return oldest.value.summary(at: now).map { [$0] } ?? []
    }

    private static func writtenAtOnce(_ message: String, _ fields: [LogField]) -> Int {
        fields.contains { $0.name == "reason" && $0.text.hasPrefix("not authorised") } ? Limits.refusals : 1
    }

    /// The line without ports, which are others each time.
    private static func key(_ kind: LogKind, _ message: String, _ fields: [LogField]) -> String {
        var key = "\(kind.rawValue)\n\(message)"
        for field in fields where field.name != "port" {
            let text = field.name == "peer" ? String(field.text.prefix(upTo: portStart(field.text))) : field.text
            key += "\n\(field.name)\n\(text)"
        }
        return key
    }

    private static func portStart(_ peer: String) -> String.Index { peer.lastIndex(of: ":") ?? peer.endIndex }
}
