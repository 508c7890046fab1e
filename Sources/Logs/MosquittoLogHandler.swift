package import Logging

/// Writes what swift-log is given as Mosquitto writes its log. Values are fields, sorted by name, since a dictionary
/// has no order of its own.
package struct MosquittoLogHandler: LogHandler {
    /// Which lines are wanted: Mosquitto switches kinds of line on and off, not a threshold.
    package struct Filter: Sendable, Equatable {
        /// Levels that are written.
        package var levels: Set<Logger.Level>
        /// Labels of loggers that are silent whatever the level: `subscribe`, `unsubscribe`, `websockets`.
        package var silentLabels: Set<String>
        /// Labels of loggers that are written whatever the level.
        package var openLabels: Set<String>

        package init(levels: Set<Logger.Level>, silentLabels: Set<String> = [], openLabels: Set<String> = []) {
            self.levels = levels
            self.silentLabels = silentLabels
            self.openLabels = openLabels
        }
    }

    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    /// The lowest level wanted; what is below costs its caller one comparison.
    package var logLevel: Logger.Level
    private let wanted: Set<Logger.Level>
    private let writers: [LogWriter]

    package init(label: String, writers: [LogWriter], filter: Filter) {
        if filter.silentLabels.contains(label) || writers.isEmpty {
            wanted = []
        } else if filter.openLabels.contains(label) {
            wanted = Set(Logger.Level.allCases)
        } else {
            wanted = filter.levels
        }
        logLevel = wanted.min() ?? .critical
        self.writers = writers
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        guard wanted.contains(event.level) else { return }
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { _, new in new } }
        if let own = event.metadata { all.merge(own) { _, new in new } }
        if let error = event.error { all["error"] = "\(error)" }
        let fields = all.sorted { $0.key < $1.key }.map { (name: $0.key, value: "\($0.value)") }
        let line = LogLine.text(unixSeconds: unixSeconds(), event.message.description, fields)
        for writer in writers { writer.write(line) }
    }
}
