import Configuration
import Testing

private func parse(_ text: String) throws(ConfigurationError) -> Configuration {
    try Configuration.parse(Array(text.utf8), file: "f.conf")
}

private func problem(_ bytes: [UInt8]) -> String? {
    do throws(ConfigurationError) {
        _ = try Configuration.parse(bytes, file: "f.conf")
        return nil
    } catch {
        return error.description
    }
}

@Suite struct `A configuration without a file` {
    @Test func `listens on the loopback, where anonymous may connect`() {
        let configuration = Configuration.defaults()
        #expect(configuration.listeners == [.init(port: 1883, address: "localhost")])
        #expect(configuration.isLoopbackOnly)
        #expect(configuration.allowsAnonymous)
        #expect(Configuration.defaults(port: 1884).listeners.map(\.port) == [1884])
    }

    @Test func `has Mosquitto's limits`() {
        let configuration = Configuration.defaults()
        #expect(configuration.maxInflightMessages == 20)
        #expect(configuration.maxInflightBytes == nil)
        #expect(configuration.maxQueuedMessages == 1000)
        #expect(configuration.maxQueuedBytes == nil)
        #expect(!configuration.queuesQoS0Messages)
        #expect(configuration.messageSizeLimit == nil)
        #expect(configuration.maxPacketSize == 2_000_000)
        #expect(configuration.setsTCPNoDelay)
        #expect(configuration.logDestinations == [.standardError])
        #expect(configuration.logTypes == [.error, .warning, .notice, .information])
        #expect(configuration.shards == nil)
    }
}

@Suite struct `A configuration file` {
    @Test(arguments: ["", "\n", "# nothing\n", "  \t\r\n", "#\r\n#", "\t # indented\n", "# f\u{FC}r\n"])
    func `with nothing in it means the defaults`(_ text: String) throws {
        #expect(try parse(text) == .defaults())
    }

    @Test func `may hold any bytes in a comment`() {
        #expect(problem(Array("#".utf8) + [0xFF, 0x00, 0x1B]) == nil)
    }

    @Test func `sets every key`() throws {
        let configuration = try parse(
            """
            listener 1884 127.0.0.1
            listener 1885 ::1
            listener 1886 broker.example
            listener 65535
            allow_anonymous true
            max_inflight_messages 65535
            max_inflight_bytes 1
            max_queued_messages 2
            max_queued_bytes 9223372036854775807
            queue_qos0_messages true
            message_size_limit 268435455
            max_packet_size 268435460
            set_tcp_nodelay false
            log_dest stdout
            log_dest stderr
            log_dest file /var/log/my broker.log
            log_dest stdout
            log_type subscribe
            log_type error
            shards 64
            """)
        var expected = Configuration.defaults()
        expected.listeners = [
            .init(port: 1884, address: "127.0.0.1"), .init(port: 1885, address: "::1"),
            .init(port: 1886, address: "broker.example"), .init(port: 65535),
        ]
        expected.isLoopbackOnly = false
        expected.allowsAnonymous = true
        expected.maxInflightMessages = 65535
        expected.maxInflightBytes = 1
        expected.maxQueuedMessages = 2
        expected.maxQueuedBytes = .max
        expected.queuesQoS0Messages = true
        expected.messageSizeLimit = 268_435_455
        expected.maxPacketSize = 268_435_460
        expected.setsTCPNoDelay = false
        expected.logDestinations = [.standardOutput, .standardError, .file(path: "/var/log/my broker.log")]
        expected.logTypes = [.subscribe, .error]
        expected.shards = 64
        #expect(configuration == expected)
    }

    @Test func `takes 0 for no limit`() throws {
        let configuration = try parse(
            """
            max_inflight_messages 0
            max_inflight_bytes 0
            max_queued_messages 0
            max_queued_bytes 0
            message_size_limit 0
            max_packet_size 0
            """)
        #expect(configuration.maxInflightMessages == nil)
        #expect(configuration.maxInflightBytes == nil)
        #expect(configuration.maxQueuedMessages == nil)
        #expect(configuration.maxQueuedBytes == nil)
        #expect(configuration.messageSizeLimit == nil)
        #expect(configuration.maxPacketSize == Configuration.protocolPacketSize)
    }

    @Test(arguments: [
        "listener 1884", "listener 1884\r\n", " \tlistener\t \t1884 \t\r\n", "# x\r\n\r\nlistener 1884\r\nshards 2",
        "listener 1884   ",
    ])
    func `forgives blanks, and line ends of either kind`(_ text: String) throws {
        #expect(try parse(text).listeners == [.init(port: 1884)])
    }

    @Test(
        arguments: [
            ("log_dest none", []), ("log_dest stdout\nlog_dest none", []),
            ("log_dest none\nlog_dest stdout", [.standardOutput]),
            ("log_dest file a#b", [.file(path: "a#b")]), ("log_dest\tfile\t /x \t", [.file(path: "/x")]),
        ] as [(String, [Configuration.LogDestination])])
    func `says where the log goes`(_ text: String, _ destinations: [Configuration.LogDestination]) throws {
        #expect(try parse(text).logDestinations == destinations)
    }

    @Test(
        arguments: [
            ("log_type none", []), ("log_type none\nlog_type debug", [.debug]), ("log_type debug\nlog_type none", []),
            ("log_type all", Set(Configuration.LogType.allCases)), ("log_type warning", [.warning]),
        ] as [(String, Set<Configuration.LogType>)])
    func `says what is logged`(_ text: String, _ types: Set<Configuration.LogType>) throws {
        #expect(try parse(text).logTypes == types)
    }

    @Test(arguments: [
        ("", true), ("allow_anonymous false", false), ("listener 1883", false),
        ("listener 1883\nallow_anonymous true", true), ("allow_anonymous true\nlistener 1883", true),
        ("listener 1883 localhost", false), ("allow_anonymous 1\nlistener 1883", true),
    ])
    func `lets anonymous in by itself only where it names no listener`(_ text: String, _ allows: Bool) throws {
        #expect(try parse(text).allowsAnonymous == allows)
    }

    @Test(arguments: [
        ("listener", "1: 'listener' without a value"),
        ("\n\nlistener \t\r\n", "3: 'listener' without a value"),
        ("listener 0", "1: 'listener 0' takes the path of a unix socket behind it"),
        ("listener 65536", "1: 'listener' takes a number from 1 to 65535, not '65536'"),
        ("listener -1", "1: 'listener' takes a number from 1 to 65535, not '-1'"),
        ("listener +1", "1: 'listener' takes a number from 1 to 65535, not '+1'"),
        ("listener mqtt", "1: 'listener' takes a number from 1 to 65535, not 'mqtt'"),
        ("listener 1883\nlistener  1883", "2: 'listener 1883' a second time"),
        ("allow_anonymous yes", "1: 'allow_anonymous' takes true or false, not 'yes'"),
        ("allow_anonymous TRUE", "1: 'allow_anonymous' takes true or false, not 'TRUE'"),
        ("set_tcp_nodelay # true", "1: 'set_tcp_nodelay' without a value"),
        ("max_inflight_messages 65536", "1: 'max_inflight_messages' takes a number from 0 to 65535, not '65536'"),
        ("shards 0", "1: 'shards' takes a number from 1 to 64, not '0'"),
        ("shards 65", "1: 'shards' takes a number from 1 to 64, not '65'"),
        ("shards 2x", "1: 'shards' takes a number from 1 to 64, not '2x'"),
        ("shards 99999999999999999999", "1: 'shards' takes a number from 1 to 64, not '99999999999999999999'"),
        ("shards \u{661}", "1: 'shards' takes a number from 1 to 64, not '\u{661}'"),
        ("message_size_limit 268435456", "1: 'message_size_limit' takes a number from 0 to 268435455, not '268435456'"),
        ("max_packet_size 19", "1: 'max_packet_size' is at least 20 bytes, or 0, not 19"),
        ("max_packet_size 268435461", "1: 'max_packet_size' takes a number from 0 to 268435460, not '268435461'"),
        ("log_dest file \t", "1: 'log_dest file' without a path"),
        ("log_dest files /x", "1: 'log_dest' takes stdout, stderr, file PATH, syslog, topic or none, not 'files /x'"),
        ("# ok\nlistner 1883", "2: unknown key 'listner'; did you mean 'listener'?"),
        ("Listener 1883", "1: unknown key 'Listener'; did you mean 'listener'?"),
        ("\u{661}hards 1", "1: unknown key '\u{661}hards'; did you mean 'shards'?"),
        ("no_such_key 1", "1: unknown key 'no_such_key'"),
        ("shard", "1: unknown key 'shard'; did you mean 'shards'?"),
        ("shards 1\rshards 2", "1: 'shards' takes text, without control characters"),
        ("shards\u{0} 1", "1: a key takes text, without NUL bytes"),
        ("shards 1\u{0}", "1: 'shards' takes text, without NUL bytes"),
        ("a\u{202E}b 1", "1: unknown key 'a\u{FFFD}b'"),
    ])
    func `that is wrong stops the start, with file and line`(_ text: String, _ expected: String) {
        #expect(problem(Array(text.utf8)) == "f.conf:" + expected)
    }

    @Test(arguments: ["max_inflight_bytes", "max_queued_messages", "max_queued_bytes"])
    func `has numbers that fit into 63 bits`(_ key: String) {
        for value in ["-1", "9223372036854775808", "1k", "0x10", "1.5"] {
            #expect(
                problem(Array("\(key) \(value)".utf8))
                    == "f.conf:1: '\(key)' takes a number from 0 to 9223372036854775807, not '\(value)'")
        }
    }

    @Test func `is UTF-8`() {
        #expect(problem(Array("shards 1\nlog_dest file ".utf8) + [0xFC, 0x0A]) == "f.conf:2: 'log_dest' takes UTF-8")
        #expect(problem([0xFF, 0xFE, 0x23, 0x00]) == "f.conf:1: a key takes text, without NUL bytes")
        #expect(problem(Array("shards 1".utf8) + [0xC0, 0x80]) == "f.conf:1: 'shards' takes UTF-8")
    }

    @Test func `of a wrong kind is not quoted at length`() {
        let line = problem(Array(repeating: UInt8(ascii: "x"), count: 100_000))
        #expect(line == "f.conf:1: unknown key '\(String(repeating: "x", count: 64))...'")
    }
}

@Suite struct `The environment` {
    @Test func `overrides global keys`() throws {
        let file = try parse("listener 1884\nshards 1\nlog_dest stdout\nlog_type all\nset_tcp_nodelay true")
        let configuration = try file.applying(environment: [
            "MARTLET_SHARDS": "2", "MARTLET_MAX_QUEUED_MESSAGES": " 5 ", "MARTLET_LOG_DEST": "file /tmp/x y",
            "MARTLET_LOG_TYPE": "debug", "MARTLET_ALLOW_ANONYMOUS": "true", "MARTLET_BINARY": "x",
            "MARTLET_TEST_ANYTHING": "x", "PATH": "/bin", "SHARDS": "3",
        ])
        var expected = file
        expected.shards = 2
        expected.maxQueuedMessages = 5
        expected.logDestinations = [.file(path: "/tmp/x y")]
        expected.logTypes = [.debug]
        expected.allowsAnonymous = true
        #expect(configuration == expected)
        #expect(try file.applying(environment: [:]) == file)
    }

    @Test(arguments: [
        ("MARTLET_SHARDS", "x", "'shards' takes a number from 1 to 64, not 'x'"),
        ("MARTLET_SHARDS", "", "'shards' without a value"),
        ("MARTLET_SHARD", "1", "unknown key 'shard'; did you mean 'shards'?"),
        ("MARTLET_", "1", "unknown key ''"),
        ("MARTLET_LISTENER", "1883", "only a file can set 'listener'"),
        ("MARTLET_PORT", "1883", "only a file can set 'port'"),
        ("MARTLET_INCLUDE_DIR", "/x", "only a file can set 'include_dir'"),
        ("MARTLET_PER_LISTENER_SETTINGS", "true", "only a file can set 'per_listener_settings'"),
        ("MARTLET_PROTOCOL", "mqtt", "'protocol' belongs to a listener; only a file can set it"),
        ("MARTLET_MOUNT_POINT", "x", "'mount_point' belongs to a listener; only a file can set it"),
        (
            "MARTLET_PLUGIN", "x",
            "'plugin' is about Mosquitto's plugins, which can't be loaded here; see 'password_file' and 'acl_file'"
        ),
        ("MARTLET_LOG_DEST", "file a\nb", "'log_dest' takes text, without control characters"),
    ])
    func `that is wrong stops the start, with its name`(_ name: String, _ value: String, _ reason: String) {
        #expect(throws: ConfigurationError(file: name, reason: reason)) {
            try Configuration.defaults().applying(environment: [name: value])
        }
    }

    @Test func `may ask for what comes later, or set what is so anyway`() throws {
        let configuration = try Configuration.defaults().applying(environment: [
            "MARTLET_DATA_DIR": "/srv/martlet", "MARTLET_PERSISTENCE": "true", "MARTLET_SYS_INTERVAL": "10",
            "MARTLET_RETRY_INTERVAL": "20",
        ])
        #expect(configuration.dataDirectory == "/srv/martlet")
        #expect(
            configuration.warnings.map(\.description) == [
                "MARTLET_RETRY_INTERVAL: warning: 'retry_interval' has no effect: messages are sent again when their "
                    + "client comes back, and only then"
            ])
    }

    @Test func `keeps the listeners and the warnings of the file`() throws {
        let file = try parse("listener 1884 ::1\nretry_interval 20")
        let configuration = try file.applying(environment: ["MARTLET_ALLOW_ANONYMOUS": "true"])
        #expect(configuration.listeners == file.listeners)
        #expect(configuration.warnings == file.warnings && file.warnings.count == 1)
        #expect(configuration.allowsAnonymous && !configuration.isLoopbackOnly)
    }

    @Test func `leaves to each listener what per_listener_settings gave it`() throws {
        let file = try Configuration.parse(
            Array("per_listener_settings true\nlistener 1883\n".utf8), file: "f.conf")
        let error = #expect(throws: ConfigurationError.self) {
            try file.applying(environment: ["MARTLET_PASSWORD_FILE": "/x"])
        }
        #expect(error?.reason == "'password_file' belongs to a listener; only a file can set it")
    }

    @Test func `with several mistakes tells the first by name`() {
        let error = #expect(throws: ConfigurationError.self) {
            try Configuration.defaults().applying(environment: ["MARTLET_SHARDS": "0", "MARTLET_MAX_QUEUED_BYTES": "x"])
        }
        #expect(error?.file == "MARTLET_MAX_QUEUED_BYTES")
    }
}
