/// What the broker was told to be: the settings of mosquitto.conf that are built so far. A plain value, which `parse`
/// makes from the bytes of a file; reading the file, and the flags, are the caller's.
package struct Configuration: Sendable, Equatable {
    /// A TCP address to accept connections on.
    package struct Listener: Sendable, Equatable {
        /// 1...65535.
        package var port: UInt16
        /// An IPv4 or IPv6 address or a host name, not yet resolved; nil: every address of the machine.
        package var address: String?

        package init(port: UInt16, address: String? = nil) {
            self.port = port
            self.address = address
        }
    }

    /// Where log lines go.
    package enum LogDestination: Sendable, Equatable {
        case standardOutput
        case standardError
        case file(path: String)
    }

    /// Mosquitto's kinds of log line; the raw value is the word in the file.
    package enum LogType: String, Sendable, CaseIterable {
        case error, warning, notice, information, debug, subscribe, unsubscribe, websockets
    }

    /// MQTT's default port.
    package static let defaultPort: UInt16 = 1883

    /// The largest packet that a Fixed Header can announce: its five bytes and the longest Remaining Length (2.2.3).
    package static let protocolPacketSize = 268_435_455 + 5

    /// `listener`, in the order of the file. Without any: the one of `isLoopbackOnly`.
    package var listeners: [Listener]

    /// True while no `listener` was given: the only listener is then at "localhost", to be bound to 127.0.0.1 and ::1.
    package var isLoopbackOnly: Bool

    /// `allow_anonymous`: a CONNECT without a user name is accepted. Default: true while `isLoopbackOnly`, else false.
    package var allowsAnonymous: Bool

    /// `max_inflight_messages`: QoS 1 and 2 messages on their way to one client at a time, 1...65535, default 20.
    /// Nil (0 in the file): no limit but the packet identifiers.
    package var maxInflightMessages: Int? = 20

    /// `max_inflight_bytes`: payload bytes of those. Nil (0 in the file, the default): no limit.
    package var maxInflightBytes: Int?

    /// `max_queued_messages`: QoS 1 and 2 messages that wait behind the ones in flight, per session, default 1000.
    /// Nil (0 in the file): no limit.
    package var maxQueuedMessages: Int? = 1000

    /// `max_queued_bytes`: payload bytes of those. Nil (0 in the file, the default): no limit.
    package var maxQueuedBytes: Int?

    /// `queue_qos0_messages`: QoS 0 messages wait for an offline session like the others. Default false.
    package var queuesQoS0Messages = false

    /// `message_size_limit`: the longest payload in bytes that a client may publish, 1...268435455.
    /// Nil (0 in the file, the default): no limit.
    package var messageSizeLimit: Int?

    /// `max_packet_size`: the longest control packet in bytes, Fixed Header included, 20...268435460, default 2000000.
    /// 0 in the file stands for the protocol's own limit.
    package var maxPacketSize = 2_000_000

    /// `set_tcp_nodelay`: small packets leave at once. Default true (Mosquitto's is false).
    package var setsTCPNoDelay = true

    /// `log_dest`, each once, in the order of the file. Empty (`none`): nothing is logged. Default: standard error.
    package var logDestinations: [LogDestination] = [.standardError]

    /// `log_type`. Default: error, warning, notice and information.
    package var logTypes: Set<LogType> = [.error, .warning, .notice, .information]

    /// `shards`: how many event loops serve the connections, 1...64. Nil (unset): as many as CPUs.
    package var shards: Int?

    /// What holds where there is no file, or nothing in it: a listener on the loopback, where anonymous may connect.
    package static func defaults(port: UInt16 = defaultPort) -> Configuration {
        Configuration(
            listeners: [Listener(port: port, address: "localhost")], isLoopbackOnly: true, allowsAnonymous: true)
    }

    private init(listeners: [Listener], isLoopbackOnly: Bool, allowsAnonymous: Bool) {
        self.listeners = listeners
        self.isLoopbackOnly = isLoopbackOnly
        self.allowsAnonymous = allowsAnonymous
    }
}

/// Why a configuration cannot be used, and where that stands.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    /// The file as the caller named it, or the environment variable.
    package let file: String
    /// Counted from 1; nil where the whole file, or no file, is meant.
    package let line: Int?
    /// Ready for a person, on one line.
    package let reason: String

    package init(file: String, line: Int? = nil, reason: String) {
        self.file = file
        self.line = line
        self.reason = reason
    }

    /// The one line `FILE:LINE: reason`.
    package var description: String {
        if let line { "\(file):\(line): \(reason)" } else { "\(file): \(reason)" }
    }
}
