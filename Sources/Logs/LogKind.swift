/// Mosquitto's kinds of line. Each is switched on and off by itself; none is a threshold.
package enum LogKind: String, Sendable, CaseIterable {
    case error, warning, notice, information, debug, subscribe, unsubscribe, websockets

    /// Its bit in `LogKinds`.
    fileprivate var bit: UInt8 { 1 << UInt8(Self.allCases.firstIndex(of: self) ?? 0) }

    /// What lies below `$SYS/broker/log/` in Mosquitto's topics.
    package var topicLevel: String {
        switch self {
        case .error: "E"
        case .warning: "W"
        case .notice: "N"
        case .information: "I"
        case .debug: "D"
        case .subscribe: "M/subscribe"
        case .unsubscribe: "M/unsubscribe"
        case .websockets: "WS"
        }
    }

    /// The severity of syslog(3).
    var severity: Int {
        switch self {
        case .error: 3
        case .warning: 4
        case .notice, .subscribe, .unsubscribe: 5
        case .information: 6
        case .debug, .websockets: 7
        }
    }
}

/// Which kinds are wanted (`log_type`).
package struct LogKinds: Sendable, Equatable, ExpressibleByArrayLiteral {
    let bits: UInt8

    init(bits: UInt8) { self.bits = bits }

    package init(_ kinds: some Sequence<LogKind>) { bits = kinds.reduce(0) { $0 | $1.bit } }
    package init(arrayLiteral kinds: LogKind...) { self.init(kinds) }

    package func contains(_ kind: LogKind) -> Bool { bits & kind.bit != 0 }
}
