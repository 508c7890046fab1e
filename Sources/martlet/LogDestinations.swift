internal import Configuration
internal import Glibc
internal import Logs

/// The places that the log goes to, by what the configuration calls them; one that stays over a reload is not opened
/// again.
struct LogDestinations {
    private struct Place: Equatable {
        let destination: Configuration.LogDestination
        /// Of the system's log.
        let facility: Int?
    }

    private let owner: LogFileOwner?
    private var open: [(place: Place, writer: LogWriter)] = []
    let topics = LogTopics()

    /// `owner`: whose new files shall be.
    init(owner: LogFileOwner?) { self.owner = owner }

    var writers: [LogWriter] { open.map(\.writer) }

    /// All of these places and no others, or what was open before.
    mutating func adopt(_ configuration: Configuration) throws(LogFileError) {
        var new: [(place: Place, writer: LogWriter)] = []
        for destination in configuration.logDestinations {
            let facility = destination == .syslog ? configuration.logFacility : nil
            let place = Place(destination: destination, facility: facility)
            if let kept = open.first(where: { $0.place == place }) {
                new.append(kept)
            } else {
                new.append((place, try writer(for: destination, facility)))
            }
        }
        open = new
    }

    private func writer(
        for destination: Configuration.LogDestination, _ facility: Int?
    ) throws(LogFileError) -> LogWriter {
        switch destination {
        case .standardOutput: LogWriter(descriptor: STDOUT_FILENO)
        case .standardError: LogWriter(descriptor: STDERR_FILENO)
        case .file(let path): try LogWriter(appendingTo: path, owner: geteuid() == 0 ? owner : nil)
        case .syslog: LogWriter(syslogFacility: facility)
        case .topic: LogWriter(topics: topics)
        }
    }

    /// Opens all files anew; returns those that could not be.
    func reopen() -> [LogFileError] {
        var failures: [LogFileError] = []
        for writer in writers {
            do throws(LogFileError) { try writer.reopen() } catch { failures.append(error) }
        }
        return failures
    }
}

extension Log.Settings {
    init(_ configuration: Configuration) {
        let timestamp: LogStyle.Timestamp =
            configuration.logsTimestamp ? configuration.logTimestampFormat.map { .format($0) } ?? .seconds : .none
        self.init(
            kinds: LogKinds(configuration.logTypes.compactMap { LogKind(rawValue: $0.rawValue) }),
            style: LogStyle(isJSON: configuration.logFormat == .json, timestamp: timestamp),
            tellsConnections: configuration.logsConnections)
    }
}
