internal import Glibc

/// The time of day.
package struct LogTime: Sendable, Equatable {
    /// Since 1970.
    package let seconds: Int
    package let milliseconds: Int

    package init(seconds: Int, milliseconds: Int) {
        self.seconds = seconds
        self.milliseconds = milliseconds
    }

    /// The corresponding C function is `clock_gettime`.
    static func now() -> LogTime {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return LogTime(seconds: time.tv_sec, milliseconds: time.tv_nsec / 1_000_000)
    }

    /// The corresponding C function is `gmtime_r`.
    var rfc3339: String {
        var (time, parts) = (time_t(seconds), unsafe tm())
        _ = unsafe gmtime_r(&time, &parts)
        func digits(_ number: Int, _ count: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        let date = unsafe [
            digits(Int(parts.tm_year) + 1900, 4), digits(Int(parts.tm_mon) + 1, 2), digits(Int(parts.tm_mday), 2),
        ]
        let clock = unsafe [digits(Int(parts.tm_hour), 2), digits(Int(parts.tm_min), 2), digits(Int(parts.tm_sec), 2)]
        return "\(date.joined(separator: "-"))T\(clock.joined(separator: ":")).\(digits(milliseconds, 3))Z"
    }

    /// Local time, as a format of `strftime` says; what it makes stays on one line.
    func formatted(_ format: String) -> String {
        var (time, parts) = (time_t(seconds), unsafe tm())
        _ = unsafe localtime_r(&time, &parts)
        var bytes = [CChar](repeating: 0, count: 512)
        let count = unsafe strftime(&bytes, bytes.count, format, &parts)
        guard count > 0 else { return "Time error" }  // Mosquitto's words for it.
        let text = bytes.prefix(count).map { (0..<0x20).contains($0) ? UInt8(ascii: " ") : UInt8(bitPattern: $0) }
        return String(decoding: text, as: UTF8.self)
    }
}

/// How lines are written: `log_format`, `log_timestamp` and `log_timestamp_format`.
package struct LogStyle: Sendable, Equatable {
    package enum Timestamp: Sendable, Equatable {
        case none
        /// Since 1970.
        case seconds
        case format(String)
    }

    package var isJSON = false
    package var timestamp = Timestamp.seconds

    package init(isJSON: Bool = false, timestamp: Timestamp = .seconds) {
        self.isJSON = isJSON
        self.timestamp = timestamp
    }

    package func line(_ kind: LogKind, _ message: String, _ fields: [LogField], at time: LogTime) -> String {
        guard !isJSON else { return LogLine.json(kind, message, fields, at: time) }
        let text = LogLine.text(message, fields)
        return switch timestamp {
        case .none: text
        case .seconds: "\(time.seconds): \(text)"
        case .format(let format): "\(time.formatted(format)): \(text)"
        }
    }
}
