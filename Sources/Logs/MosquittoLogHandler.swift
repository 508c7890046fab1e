package import Logging

/// Writes what swift-log is given into a `Log`. The label of a logger says what its lines are: `subscribe`,
/// `unsubscribe` and `websockets` are kinds of their own, whatever the level; the lines of `network` can be caused by
/// anybody, and are counted where they repeat. Values are fields, sorted by name, since a dictionary has no order.
package struct MosquittoLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let log: Log
    private let kind: LogKind?
    private let isCounted: Bool
    private var leastLevel = Logger.Level.trace

    package init(label: String, log: Log) {
        self.log = log
        kind = LogKind(rawValue: label).flatMap { [.subscribe, .unsubscribe, .websockets].contains($0) ? $0 : nil }
        isCounted = label == "network"
    }

    /// The lowest level wanted; what is below costs its caller one comparison.
    package var logLevel: Logger.Level {
        get {
            let wanted = log.wanted
            if let kind { return wanted.contains(kind) ? leastLevel : .critical }
            let lowest = Logger.Level.allCases.first { wanted.contains(LogKind($0)) } ?? .critical
            return max(leastLevel, lowest)
        }
        set { leastLevel = newValue }
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let kind = kind ?? LogKind(event.level)
        guard log.wanted.contains(kind) else { return }
        var all = event.metadata ?? [:]
        if let provided = metadataProvider?.get() { all.merge(provided) { own, _ in own } }
        if !metadata.isEmpty { all.merge(metadata) { own, _ in own } }
        if let error = event.error { all["error"] = "\(error)" }
        let fields = all.sorted { $0.key < $1.key }.map { LogField($0.key, LogField.Value($0.value)) }
        log.write(kind, event.message.description, fields, isCounted: isCounted)
    }
}

extension LogKind {
    init(_ level: Logger.Level) {
        self =
            switch level {
            case .trace, .debug: .debug
            case .info: .information
            case .notice: .notice
            case .warning: .warning
            case .error, .critical: .error
            }
    }
}

extension LogField.Value {
    /// Numbers and truth values stay what they are, where the caller did not make text of them.
    init(_ value: Logger.Metadata.Value) {
        // By their types: whether something conforms to a protocol takes longer to find out.
        switch value {
        case .string(let text): self = .text(text)
        case .stringConvertible(let value as Int): self = .literal("\(value)")
        case .stringConvertible(let value as UInt16): self = .literal("\(value)")
        case .stringConvertible(let value as UInt8): self = .literal("\(value)")
        case .stringConvertible(let value as Bool): self = .literal("\(value)")
        default: self = .text("\(value)")
        }
    }
}
