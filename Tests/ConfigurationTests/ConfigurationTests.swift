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
        ("listener 0 /run/mqtt", "1: 'listener 0': unix sockets are not built yet"),
        ("listener 65536", "1: 'listener' takes a number from 1 to 65535, not '65536'"),
        ("listener -1", "1: 'listener' takes a number from 1 to 65535, not '-1'"),
        ("listener +1", "1: 'listener' takes a number from 1 to 65535, not '+1'"),
        ("listener mqtt", "1: 'listener' takes a number from 1 to 65535, not 'mqtt'"),
        ("listener 1883 localhost x", "1: 'listener' takes a port and an address, no more"),
        ("listener 1883\nlistener  1883", "2: 'listener 1883' a second time"),
        ("allow_anonymous yes", "1: 'allow_anonymous' takes true or false, not 'yes'"),
        ("allow_anonymous TRUE", "1: 'allow_anonymous' takes true or false, not 'TRUE'"),
        ("set_tcp_nodelay true # x", "1: 'set_tcp_nodelay' takes true or false, not 'true # x'"),
        ("max_inflight_messages 65536", "1: 'max_inflight_messages' takes a number from 0 to 65535, not '65536'"),
        ("max_inflight_messages 2 0", "1: 'max_inflight_messages' takes a number from 0 to 65535, not '2 0'"),
        ("shards 1\nshards 1", "2: 'shards' a second time"),
        ("shards 0", "1: 'shards' takes a number from 1 to 64, not '0'"),
        ("shards 65", "1: 'shards' takes a number from 1 to 64, not '65'"),
        ("shards 2x", "1: 'shards' takes a number from 1 to 64, not '2x'"),
        ("shards 99999999999999999999", "1: 'shards' takes a number from 1 to 64, not '99999999999999999999'"),
        ("shards \u{661}", "1: 'shards' takes a number from 1 to 64, not '\u{661}'"),
        ("message_size_limit 268435456", "1: 'message_size_limit' takes a number from 0 to 268435455, not '268435456'"),
        ("max_packet_size 19", "1: 'max_packet_size' is at least 20 bytes, or 0, not 19"),
        ("max_packet_size 268435461", "1: 'max_packet_size' takes a number from 0 to 268435460, not '268435461'"),
        ("log_dest syslog", "1: 'log_dest syslog' is not built yet"),
        ("log_dest topic", "1: 'log_dest topic' is not built yet"),
        ("log_dest dlt", "1: 'log_dest dlt' is not built yet"),
        ("log_dest android", "1: 'log_dest android' is not built yet"),
        ("log_dest file \t", "1: 'log_dest file' without a path"),
        ("log_dest stdout x", "1: 'log_dest' takes stdout, stderr, file PATH or none, not 'stdout x'"),
        ("# ok\nlistner 1883", "2: unknown or not yet supported key 'listner'"),
        ("Listener 1883", "1: unknown or not yet supported key 'Listener'"),
        ("password_file /etc/passwd", "1: unknown or not yet supported key 'password_file'"),
        ("shards 1\rshards 2", "1: a control character"),
        ("shards\u{0} 1", "1: a NUL byte"),
        ("shards 1\u{0}", "1: a NUL byte"),
        ("a\u{202E}b 1", "1: unknown or not yet supported key 'a\u{FFFD}b'"),
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
        #expect(problem(Array("shards 1\nlog_dest file ".utf8) + [0xFC, 0x0A]) == "f.conf:2: not UTF-8")
        #expect(problem([0xFF, 0xFE, 0x23, 0x00]) == "f.conf:1: a NUL byte")
        #expect(problem(Array("shards 1".utf8) + [0xC0, 0x80]) == "f.conf:1: not UTF-8")
    }

    @Test func `of a wrong kind is not quoted at length`() {
        let line = problem(Array(repeating: UInt8(ascii: "x"), count: 100_000))
        #expect(line == "f.conf:1: unknown or not yet supported key '\(String(repeating: "x", count: 64))...'")
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
        ("MARTLET_SHARD", "1", "unknown or not yet supported key 'shard'"),
        ("MARTLET_", "1", "unknown or not yet supported key ''"),
        ("MARTLET_LISTENER", "1883", "'listener' belongs to a listener; only a file can set it"),
        ("MARTLET_LOG_DEST", "file a\nb", "a control character"),
    ])
    func `that is wrong stops the start, with its name`(_ name: String, _ value: String, _ reason: String) {
        #expect(throws: ConfigurationError(file: name, reason: reason)) {
            try Configuration.defaults().applying(environment: [name: value])
        }
    }

    @Test func `with several mistakes tells the first by name`() {
        let error = #expect(throws: ConfigurationError.self) {
            try Configuration.defaults().applying(environment: ["MARTLET_SHARDS": "0", "MARTLET_MAX_QUEUED_BYTES": "x"])
        }
        #expect(error?.file == "MARTLET_MAX_QUEUED_BYTES")
    }
}

@Suite struct `The parser of configurations` {
    private static let corpus = [
        "# Martlet\nlistener 1883\nallow_anonymous true\nmax_packet_size 2000000\nlog_dest file /var/log/m.log\n",
        "listener 1884 127.0.0.1\r\nlistener 1885 ::1\r\n\r\nset_tcp_nodelay false\r\nshards 2\r\n",
        "log_dest stdout\nlog_dest stderr\nlog_type error\nlog_type all\nlog_type none\n",
        "max_inflight_messages 0\nmax_inflight_bytes 10\nmax_queued_messages 5\nmax_queued_bytes 0\n",
        "\t queue_qos0_messages\ttrue \nmessage_size_limit 268435455",
    ].map { Array($0.utf8) }

    @Test func `accepts its corpus`() {
        for bytes in Self.corpus { #expect(problem(bytes) == nil) }
    }

    @Test func `never traps, and every error has a line inside the file`() {
        let seed: UInt64 = 0x6D61_7274_6C65_7431
        var random = SplitMix(state: seed)
        var refused = 0
        for iteration in 0..<20_000 {
            var bytes = Self.corpus.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) { Self.mutate(&bytes, using: &random) }
            let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
            do throws(ConfigurationError) {
                let configuration = try Configuration.parse(bytes, file: "f.conf")
                #expect(!configuration.listeners.isEmpty && (20...268_435_460).contains(configuration.maxPacketSize))
            } catch {
                refused += 1
                let isInside = error.line.map { (1...lines).contains($0) } ?? false
                let isOneLine = !error.description.contains(where: \.isNewline)
                #expect(isInside && isOneLine, "\(error), seed \(seed), iteration \(iteration), bytes \(bytes)")
            }
        }
        #expect((1..<20_000).contains(refused))
    }

    /// One small change: a byte replaced, added or taken, a piece of another file, a line doubled, the end cut off.
    private static func mutate(_ bytes: inout [UInt8], using random: inout SplitMix) {
        let place = Int.random(in: 0...bytes.count, using: &random)
        let telling = Array("\0\t\n\r #-+09aef".utf8) + [0x7F, 0x80, 0xC3, 0xFF]
        let byte = Bool.random(using: &random) ? telling.randomElement(using: &random) ?? 0 : random.byte()
        switch Int.random(in: 0..<6, using: &random) {
        case 0 where place < bytes.count: bytes[place] = byte
        case 1 where place < bytes.count: bytes.remove(at: place)
        case 2:
            let other = Self.corpus.randomElement(using: &random) ?? []
            let start = Int.random(in: 0..<other.count, using: &random)
            bytes.insert(contentsOf: other[start...].prefix(Int.random(in: 0...40, using: &random)), at: place)
        case 3:
            let lines = bytes.split(separator: UInt8(ascii: "\n"))
            bytes += [UInt8(ascii: "\n")] + (lines.randomElement(using: &random) ?? [])
        case 4: bytes.removeLast(bytes.count - place)
        default: bytes.insert(byte, at: place)
        }
    }

    /// A generator whose seed reproduces a run; the standard library has none.
    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }

        mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }
    }
}
