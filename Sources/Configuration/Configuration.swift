/// What the broker was told to be: every key of the mosquitto.conf dialect, with its default where the file leaves it
/// unset. A plain value, which `parse` makes from the bytes of a file; reading files, and the flags, are the caller's.
package struct Configuration: Sendable, Equatable {
    /// Where log lines go.
    package enum LogDestination: Sendable, Equatable {
        case standardOutput
        case standardError
        case file(path: String)
        /// The system's log, as `logFacility`.
        case syslog
        /// `$SYS/broker/log/...`.
        case topic
    }

    /// Mosquitto's kinds of log line; the raw value is the word in the file.
    package enum LogType: String, Sendable, CaseIterable {
        case error, warning, notice, information, debug, subscribe, unsubscribe, websockets
    }

    /// How a log line is written.
    package enum LogFormat: String, Sendable, CaseIterable { case text, json }

    /// MQTT's default port.
    package static let defaultPort: UInt16 = 1883

    /// MQTT's port over TLS.
    package static let defaultTLSPort: UInt16 = 8883
    package static let defaultHTTPPort: UInt16 = 8080
    package static let defaultHTTPSPort: UInt16 = 8443
    /// Where nothing says where data is kept.
    package static let defaultDataDirectory = "./martlet-data"

    /// The largest packet that a Fixed Header can announce: its five bytes and the longest Remaining Length (2.2.3).
    package static let protocolPacketSize = 268_435_455 + 5

    // MARK: - Listeners and access

    /// `listener`, `port`, `bind_address`, in the order of the file. Without any: the one of `isLoopbackOnly`.
    package var listeners: [Listener]

    /// True while no listener was given: the first one is then at "localhost", to be bound to 127.0.0.1 and ::1.
    package var isLoopbackOnly: Bool

    /// True for what holds without a file: `standard(dataDirectory:)`. Anonymous clients then have the rights of
    /// `acl/loopback.acl`.
    package private(set) var isStandard = false

    /// `global_max_connections`: connections at once. Nil (-1 or 0 in the file, the default): no limit.
    package var globalMaxConnections: Int?

    /// `global_max_clients`: sessions at once, connected or not. Nil (-1 or 0 in the file, the default): no limit.
    package var globalMaxClients: Int?

    /// `per_listener_settings`: the keys of `Access` belong to the listener above them. Default false.
    package var perListenerSettings = false

    /// What the file says about access for all listeners; `access(at:)` is what counts.
    package var access = Access()

    /// `check_retain_source`: a retained message goes out only while its publisher has the right to it. Default true.
    package var checksRetainSource = true

    /// `clientid_prefixes`: what every Client Identifier must begin with. Nil (unset): anything.
    package var clientIdentifierPrefix: String?

    // MARK: - Sessions and limits

    /// `persistence`: sessions, queues and retained messages outlive the process. Default false.
    package var persistence = false

    /// `persistence_location`: the directory for that, and the default of `data_dir`. Nil (unset): the current one.
    package var persistenceLocation: String?

    /// `persistence_file`, default mosquitto.db: read for Mosquitto's sake, and never written.
    package var persistenceFile = "mosquitto.db"

    /// `autosave_interval`, 0...2147483647 s, default 1800 s: read for Mosquitto's sake; nothing waits for it.
    package var autosaveInterval = Duration.seconds(1800)

    /// `autosave_on_changes`: likewise. Default false.
    package var autosavesOnChanges = false

    /// `persistent_client_expiration`: how long a session is kept for a client that is away. Nil (unset): for ever.
    package var sessionExpiry: Duration?

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

    /// `max_keepalive`: the longest Keep Alive that a client may ask for, 1...65534 s; a client without one is then
    /// refused too. Nil (0 or 65535 in the file, the default): anything.
    package var maxKeepAlive: Int?

    /// `memory_limit`: bytes of memory past which load is shed. Nil (0 in the file, the default): no limit.
    package var memoryLimit: Int?

    /// `retain_available`: messages may be retained. Default true.
    package var isRetainAvailable = true

    /// `upgrade_outgoing_qos`: messages go out with their subscription's QoS, even if that is the higher. Default false.
    package var upgradesOutgoingQoS = false

    /// `allow_duplicate_messages`: overlapping subscriptions may give several copies. Default true; one copy is within
    /// what either value allows, and what is sent.
    package var allowsDuplicateMessages = true

    /// `connect_timeout`: from the connection to its CONNECT, 1 s...3600 s, default 10 s.
    package var connectTimeout = Duration.seconds(10)

    /// `publish_rate`: PUBLISH packets a second from one client. Nil (0 in the file, the default): no limit.
    package var publishRate: Int?

    /// `publish_bandwidth`: bytes a second from one client. Nil (0 in the file, the default): no limit.
    package var publishBandwidth: Int?

    /// `subscribe_denied`. Nil (unset): `silent` with a configuration file, `failure` without.
    package var deniedSubscription: DeniedSubscription?

    /// `data_dir`: what is kept on the disk. Nil (unset): `persistence_location`, where something asks for a disk.
    package var dataDirectory: String?

    /// `durability`. Nil (unset): `acknowledged` where there is a `data_dir` or `persistence true`, else `memory`.
    package var durability: Durability?

    /// The directory of what outlives the process; nil: nothing does.
    package var storageDirectory: String? {
        dataDirectory ?? (persistence ? persistenceLocation ?? "." : nil)
    }

    /// `durability`, or what holds where nobody has set it.
    package var effectiveDurability: Durability {
        storageDirectory == nil ? .memory : durability ?? .acknowledged
    }

    /// Whether any message outlives the process.
    package var keepsMessages: Bool {
        storageDirectory != nil
            && (effectiveDurability != .memory || topicDurabilities.contains { $0.durability != .memory })
    }

    /// `durability_topic`, in the order of the file: another durability for some topics; the first that matches counts.
    package var topicDurabilities: [TopicDurability] = []

    // MARK: - The process

    /// `sys_interval`: between two updates of `$SYS`, 1 s...65535 s, default 10 s. Nil (0 in the file): no `$SYS`.
    package var systemInterval: Duration? = .seconds(10)

    /// `set_tcp_nodelay`: small packets leave at once. Default true (Mosquitto's is false).
    package var setsTCPNoDelay = true

    /// `log_dest`, each once, in the order of the file. Empty (`none`): nothing is logged. Default: standard error.
    package var logDestinations: [LogDestination] = [.standardError]

    /// `log_type`. Default: error, warning, notice and information.
    package var logTypes: Set<LogType> = [.error, .warning, .notice, .information]

    /// `log_timestamp`: each line begins with the time. Default true.
    package var logsTimestamp = true

    /// `log_timestamp_format`: that time, for `strftime`. Nil (unset): seconds since 1970.
    package var logTimestampFormat: String?

    /// `log_facility`: 0...7, the system log's local0 to local7. Nil (unset): daemon.
    package var logFacility: Int?

    /// `log_format`, default text.
    package var logFormat = LogFormat.text

    /// `connection_messages`: who comes and goes is logged. Default true.
    package var logsConnections = true

    /// `pid_file`: where the process identifier is written. Nil (unset): nowhere.
    package var pidFile: String?

    /// `user`: whom root becomes once the listeners are bound; not root has no effect. Default mosquitto.
    package var user = "mosquitto"

    /// `shards`: how many event loops serve the connections, 1...64. Nil (unset): as many as CPUs.
    package var shards: Int?

    /// Devices, people, firmware.
    package var management = Management()

    /// Where the file has keys that are about the whole broker.
    package var places = KeyPlaces()

    /// What is accepted but should be known, in the order of the files.
    package var warnings: [ConfigurationWarning] = []

    /// What holds where there is no file, or nothing in it: a listener on the loopback, where anonymous may connect.
    package static func defaults(port: UInt16 = defaultPort) -> Configuration {
        Configuration(listeners: [Listener(port: port, address: "localhost")], isLoopbackOnly: true)
    }

    /// What holds where there is no file: whoever is at the machine itself may try things out on port 1883 of the
    /// loopback; devices, people and services of the data directory sign in over TLS on port 8883 of every address.
    package static func standard(dataDirectory: String) -> Configuration {
        var configuration = defaults()
        configuration.isStandard = true
        configuration.dataDirectory = dataDirectory
        configuration.deniedSubscription = .failure
        var listener = Listener(port: defaultTLSPort)
        listener.access.allowsAnonymous = false
        listener.tls.certificateFile = "\(dataDirectory)/certs/server.pem"
        listener.tls.keyFile = "\(dataDirectory)/certs/server.key"
        listener.tls.authorityFile = "\(dataDirectory)/certs/ca.pem"
        listener.tls.revocationFile = "\(dataDirectory)/certs/crl.pem"
        listener.tls.asksForCertificate = true
        configuration.listeners.append(listener)
        var http = Listener(port: defaultHTTPPort, address: "localhost")
        http.application = .http
        http.access.allowsAnonymous = false
        var https = Listener(port: defaultHTTPSPort)
        https.application = .http
        https.access.allowsAnonymous = false
        https.tls = listener.tls
        configuration.listeners += [http, https]
        return configuration
    }

    private init(listeners: [Listener], isLoopbackOnly: Bool) {
        self.listeners = listeners
        self.isLoopbackOnly = isLoopbackOnly
    }
}
