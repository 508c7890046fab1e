import Configuration
import Seeded
import Testing

@Suite struct `The parser of configurations` {
    private static let corpus = handWritten + Sample.names.compactMap { try? Sample.bytes($0) }

    private static let handWritten = [
        "# Martlet\nlistener 1883\nallow_anonymous true\nmax_packet_size 2000000\nlog_dest file /var/log/m.log\n",
        "listener 1884 127.0.0.1\r\nlistener 1885 ::1\r\n\r\nset_tcp_nodelay false\r\nshards 2\r\n",
        "log_dest stdout\nlog_dest stderr\nlog_type error\nlog_type all\nlog_type none\n",
        "max_inflight_messages 0\nmax_inflight_bytes 10\nmax_queued_messages 5\nmax_queued_bytes 0\n",
        "\t queue_qos0_messages\ttrue \nmessage_size_limit 268435455",
    ].map { Array($0.utf8) }

    @Test func `accepts its corpus`() {
        for bytes in Self.handWritten {
            #expect(throws: Never.self) { try Configuration.parse(bytes, file: "f.conf") }
        }
    }

    @Test func `never traps, and every error has a line inside the file`() {
        let seed: UInt64 = 0x6D61_7274_6C65_7431
        var random = SeededGenerator(seed: seed)
        var refused = 0
        for iteration in 0..<10_000 {
            var bytes = Self.corpus.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) { Self.mutate(&bytes, using: &random) }
            let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
            do throws(ConfigurationError) {
                let configuration = try Configuration.parse(
                    bytes, file: "f.conf", including: Self.included)
                #expect(!configuration.listeners.isEmpty && (20...268_435_460).contains(configuration.maxPacketSize))
                #expect(configuration.explanation.count >= configuration.listeners.count)
            } catch {
                refused += 1
                let isInside = error.line.map { $0 > 0 && ($0 <= lines || error.file != "f.conf") } ?? false
                let isOneLine = !error.description.contains(where: \.isNewline)
                #expect(isInside && isOneLine, "\(error), seed \(seed), iteration \(iteration), bytes \(bytes)")
            }
        }
        #expect((1..<10_000).contains(refused))
    }

    @Test func `never traps on what the environment holds either`() {
        let values = [
            "", " ", "0", "-1", "9223372036854775808", "1y", "true", "a b", "#", "# memory", "\u{0}", "\u{FFFD}", "/",
        ]
        for key in Configuration.Key.allCases.map(\.rawValue) + ["plugin", "topic", "x"] {
            for value in values {
                do throws(ConfigurationError) {
                    let environment = ["MARTLET_" + key.uppercased(): value]
                    _ = try Configuration.defaults().applying(environment: environment)
                } catch {
                    #expect(error.line == nil && error.reason.contains("'\(key)"), "\(error)")
                }
            }
        }
    }

    /// The same file in every directory, so that what is included changes the outcome too.
    private static let included = Configuration.IncludedFiles(
        names: { (directory) throws(ConfigurationError) -> [String] in
            guard directory.utf8.count < 40 else { throw ConfigurationError(file: directory, reason: "too deep") }
            return ["a.conf", "B.conf", "c.txt"]
        },
        bytes: { (_) throws(ConfigurationError) -> [UInt8] in Array("listener 1999\nmax_qos 1\n".utf8) })

    /// One small change: a byte replaced, added or taken, a piece of another file, a line doubled, the end cut off.
    private static func mutate(_ bytes: inout [UInt8], using random: inout SeededGenerator) {
        let place = Int.random(in: 0...bytes.count, using: &random)
        let telling = Array("\0\t\n\r #-+09aef".utf8) + [0x7F, 0x80, 0xC3, 0xFF]
        let byte = Bool.random(using: &random) ? telling.randomElement(using: &random) ?? 0 : UInt8(random.below(256))
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
}
