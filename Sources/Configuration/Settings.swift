/// A configuration while one file, or the environment, is being applied: knows what each key means and which came up.
struct Settings {
    /// What is wrong with a key or its value; the caller adds where it stands.
    struct Problem: Error {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }

    private enum Key: String {
        case allowAnonymous = "allow_anonymous"
        case listener
        case logDestination = "log_dest"
        case logType = "log_type"
        case maxInflightBytes = "max_inflight_bytes"
        case maxInflightMessages = "max_inflight_messages"
        case maxPacketSize = "max_packet_size"
        case maxQueuedBytes = "max_queued_bytes"
        case maxQueuedMessages = "max_queued_messages"
        case messageSizeLimit = "message_size_limit"
        case queueQoS0Messages = "queue_qos0_messages"
        case setTCPNoDelay = "set_tcp_nodelay"
        case shards

        var mayRepeat: Bool { self == .listener || self == .logDestination || self == .logType }
        var isGlobal: Bool { self != .listener }
    }

    private(set) var configuration: Configuration
    private var seen: Set<Key> = []

    init(_ configuration: Configuration) { self.configuration = configuration }

    mutating func set(global name: String, to value: String) throws(Problem) {
        if let key = Key(rawValue: name), !key.isGlobal {
            throw Problem("'\(name)' belongs to a listener; only a file can set it")
        }
        try set(name, to: value)
    }

    mutating func set(_ name: String, to value: String) throws(Problem) {
        guard let key = Key(rawValue: name) else {
            throw Problem("unknown or not yet supported key '\(printable(name))'")
        }
        guard !value.isEmpty else { throw Problem("'\(name)' without a value") }
        let isFirst = seen.insert(key).inserted
        guard isFirst || key.mayRepeat else { throw Problem("'\(name)' a second time") }

        switch key {
        case .listener: try addListener(value)
        case .allowAnonymous: configuration.allowsAnonymous = try boolean(value, of: name)
        case .maxInflightMessages: configuration.maxInflightMessages = try limit(value, of: name, upTo: 65535)
        case .maxInflightBytes: configuration.maxInflightBytes = try limit(value, of: name)
        case .maxQueuedMessages: configuration.maxQueuedMessages = try limit(value, of: name)
        case .maxQueuedBytes: configuration.maxQueuedBytes = try limit(value, of: name)
        case .queueQoS0Messages: configuration.queuesQoS0Messages = try boolean(value, of: name)
        case .messageSizeLimit: configuration.messageSizeLimit = try limit(value, of: name, upTo: 268_435_455)
        case .maxPacketSize: configuration.maxPacketSize = try packetSize(value, of: name)
        case .setTCPNoDelay: configuration.setsTCPNoDelay = try boolean(value, of: name)
        case .logDestination: try addLogDestination(value, replacing: isFirst)
        case .logType: try addLogType(value, replacing: isFirst)
        case .shards: configuration.shards = try number(value, of: name, in: 1...64)
        }
    }

    // MARK: - Keys with a form of their own

    private mutating func addListener(_ value: String) throws(Problem) {
        let words = value.split { $0 == " " || $0 == "\t" }
        guard words.count <= 2 else { throw Problem("'listener' takes a port and an address, no more") }
        guard words[0] != "0" else { throw Problem("'listener 0': unix sockets are not built yet") }
        let port = try number(words[0], of: "listener", in: 1...65535)
        let listener = Configuration.Listener(
            port: UInt16(port), address: words.count == 2 ? String(words[1]) : nil)
        if configuration.isLoopbackOnly {
            // The first one takes the place of the default, and with it Mosquitto 2's rule for anonymous.
            configuration.listeners = []
            configuration.isLoopbackOnly = false
            if !seen.contains(.allowAnonymous) { configuration.allowsAnonymous = false }
        }
        guard !configuration.listeners.contains(listener) else {
            throw Problem("'listener \(printable(value))' a second time")
        }
        configuration.listeners.append(listener)
    }

    private mutating func addLogDestination(_ value: String, replacing isFirst: Bool) throws(Problem) {
        if isFirst { configuration.logDestinations = [] }
        let words = value.split(maxSplits: 1) { $0 == " " || $0 == "\t" }
        let path = words.count == 2 ? String(words[1].drop { $0 == " " || $0 == "\t" }) : nil
        let destination: Configuration.LogDestination
        switch (words[0], path) {
        case ("none", nil):
            configuration.logDestinations = []
            return  // Also what stood above, as in Mosquitto.
        case ("stdout", nil): destination = .standardOutput
        case ("stderr", nil): destination = .standardError
        case ("file", nil): throw Problem("'log_dest file' without a path")
        case ("file", let path?): destination = .file(path: path)
        case ("syslog", _), ("topic", _), ("dlt", _), ("android", _):
            throw Problem("'log_dest \(words[0])' is not built yet")
        default:
            throw Problem("'log_dest' takes stdout, stderr, file PATH or none, not '\(printable(value))'")
        }
        if !configuration.logDestinations.contains(destination) { configuration.logDestinations.append(destination) }
    }

    private mutating func addLogType(_ value: String, replacing isFirst: Bool) throws(Problem) {
        if isFirst { configuration.logTypes = [] }
        switch value {
        case "none": configuration.logTypes = []  // Also what stood above, as in Mosquitto.
        case "all": configuration.logTypes = Set(Configuration.LogType.allCases)
        default:
            guard let type = Configuration.LogType(rawValue: value) else {
                let words = Configuration.LogType.allCases.map(\.rawValue).joined(separator: ", ")
                throw Problem("'log_type' takes \(words), none or all, not '\(printable(value))'")
            }
            configuration.logTypes.insert(type)
        }
    }

    // MARK: - Values

    /// Mosquitto reads 1 and 0 as well.
    private func boolean(_ value: String, of name: String) throws(Problem) -> Bool {
        switch value {
        case "true", "1": true
        case "false", "0": false
        default: throw Problem("'\(name)' takes true or false, not '\(printable(value))'")
        }
    }

    private func number(
        _ value: some StringProtocol, of name: String, in range: ClosedRange<Int>
    ) throws(Problem) -> Int {
        // `Int` alone would also take a sign.
        let isDecimal = value.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard isDecimal, let number = Int(value), range.contains(number) else {
            throw Problem(
                "'\(name)' takes a number from \(range.lowerBound) to \(range.upperBound), not '\(printable(value))'")
        }
        return number
    }

    /// Nil for 0, which stands for no limit.
    private func limit(_ value: String, of name: String, upTo most: Int = .max) throws(Problem) -> Int? {
        let limit = try number(value, of: name, in: 0...most)
        return limit == 0 ? nil : limit
    }

    private func packetSize(_ value: String, of name: String) throws(Problem) -> Int {
        let size = try number(value, of: name, in: 0...Configuration.protocolPacketSize)
        guard size == 0 || size >= 20 else { throw Problem("'\(name)' is at least 20 bytes, or 0, not \(size)") }
        return size == 0 ? Configuration.protocolPacketSize : size
    }
}
