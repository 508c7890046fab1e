import Foundation
import Glibc
import Synchronization
import Testing

/// What a client knows of its retained messages, outside of the broker: for each topic the number that was acknowledged
/// last, and the one that was sent last. Numbers only rise.
private final class Flood: Sendable {
    struct Ledger {
        var acknowledged: [Int: Int] = [:]
        var sent: [Int: Int] = [:]
        var count = 0
        /// Seconds between one acknowledgement and the next, the longest.
        var longestSilence = 0.0
    }

    static let topics = 200
    private static let window = 50

    let ledger = Mutex(Ledger())
    private let isOver = Atomic<Bool>(false)

    func stop() { isOver.store(true, ordering: .relaxed) }

    func run(port: UInt16) throws {
        let client = try RawClient(port: port)
        try client.connect("publisher")
        var waiting: [(identifier: UInt16, topic: Int, number: Int)] = []
        var number = 0
        var latest = monotonicNanoseconds()
        while true {
            let isOver = isOver.load(ordering: .relaxed)
            if isOver, waiting.isEmpty { return }
            while waiting.count < Self.window, !isOver {
                number += 1
                let (topic, identifier) = (number % Self.topics, UInt16(1 + number % 60_000))
                waiting.append((identifier, topic, number))
                ledger.withLock { $0.sent[topic] = number }
                try client.send(
                    Packet.publish(
                        "flood/\(topic)", "\(number) " + String(repeating: "x", count: 500), qos: 1,
                        identifier: identifier, retain: true))
            }
            let packet = try client.receive()
            let now = monotonicNanoseconds()
            let first = waiting.removeFirst()
            #expect(packet.type == 4 && UInt16(packet.body[0]) << 8 | UInt16(packet.body[1]) == first.identifier)
            ledger.withLock { ledger in
                ledger.acknowledged[first.topic] = first.number
                ledger.count += 1
                ledger.longestSilence = max(ledger.longestSilence, Double(now - latest) / 1e9)
            }
            latest = now
        }
    }
}

extension System {
    @Suite struct `A backup` {
        private let directory: TemporaryDirectory

        init() throws { directory = try TemporaryDirectory() }

        private let lines = ["data_dir DIR/data", "allow_anonymous true", "max_inflight_messages 0", "user root"]

        @discardableResult
        private func martlet(_ arguments: [String], _ expected: Int32 = 0) throws -> String {
            let program = try Program(Martlet.binary, arguments.map { $0.replacing("DIR", with: directory.path) })
            #expect(try program.waitForEnd(within: 60) == .exited(expected), "\(program.output)")
            return program.output
        }

        /// Its ports are open a moment before its data.
        private func broker() throws -> ConfiguredMartlet {
            let broker = try ConfiguredMartlet(lines, in: directory)
            #expect(eventually { directory.exists("data/control.sock") })
            return broker
        }

        private func stop(_ broker: ConfiguredMartlet) throws {
            broker.program.signal(SIGTERM)
            #expect(try broker.program.waitForEnd(within: 10) == .exited(0))
        }

        /// The numbers that are retained, by topic, once those topics have come: much of it may come behind a PINGRESP.
        private func retained(_ broker: ConfiguredMartlet, with topics: some Sequence<Int>) throws -> [Int: Int] {
            let client = try broker.client("reader")
            var found: [Int: Int] = [:]
            var missing = Set(topics)
            #expect(try client.subscribe([("flood/#", 0)]) == [0])
            try client.send(Packet.pingRequest)
            var isAnswered = false
            while !isAnswered || !missing.isEmpty {
                let packet = try client.receive()
                if packet.first == 0xd0 {
                    isAnswered = true
                    continue
                }
                let topic = String(decoding: packet.topic, as: UTF8.self).split(separator: "/").last.flatMap { Int($0) }
                let number = packet.text.split(separator: " ").first.flatMap { Int($0) }
                guard let topic, let number else { throw Unexpected("a message of nobody's: \(packet)") }
                found[topic] = number
                missing.remove(topic)
            }
            return found
        }

        @Test(.timeLimit(.minutes(5)))
        func `beside a flood has all that was acknowledged before it began, and holds up nobody`() throws {
            let broker = try self.broker()
            let flood = Flood()
            let port = broker.port
            var befores: [[Int: Int]] = []
            var afters: [[Int: Int]] = []
            let group = DispatchGroup()
            let flooding = Thread {
                defer { group.leave() }
                do { try flood.run(port: port) } catch { Issue.record(error) }
            }
            group.enter()
            flooding.start()
            do {
                defer {
                    flood.stop()
                    group.wait()
                }
                #expect(eventually { flood.ledger.withLock { $0.count > 2 * Flood.topics } })
                let quiet = flood.ledger.withLock { ledger in
                    defer { ledger.longestSilence = 0 }
                    return ledger.longestSilence
                }
                for round in 0..<8 {
                    try martlet(["device", "add", "DEV\(round)", "--data", "DIR/data"])
                    befores.append(flood.ledger.withLock { $0.acknowledged })
                    try martlet(["backup", "DIR/\(round).tar", "--data", "DIR/data"])
                    afters.append(flood.ledger.withLock { $0.sent })
                }
                let silence = flood.ledger.withLock { $0.longestSilence }
                let count = flood.ledger.withLock { $0.count }
                print(
                    "backup: 8 beside \(count) retained messages; longest silence \(silence) s, without one \(quiet) s")
                #expect(silence < 2 * patience, "the longest time without an acknowledgement")
            }
            try stop(broker)

            for round in 0..<8 {
                try martlet(["restore", "DIR/\(round).tar", "--data", "DIR/data\(round)"])
                let second = try ConfiguredMartlet(
                    lines.map { $0.replacing("DIR/data", with: "DIR/data\(round)") }, in: directory)
                let found = try retained(second, with: befores[round].keys)
                for (topic, number) in befores[round] {
                    let last = afters[round][topic] ?? 0
                    #expect((number...last).contains(found[topic] ?? 0), "round \(round), topic \(topic)")
                }
                let devices = try martlet(["device", "list", "--data", "DIR/data\(round)"])
                #expect((0...round).allSatisfy { devices.contains("DEV\($0)") } && !devices.contains("DEV\(round + 1)"))
                try stop(second)
            }
        }

        @Test func `killed at any moment leaves a broker that goes on, and the next one works`() throws {
            let broker = try self.broker()
            let client = try broker.client("c")
            for number in 0..<400 {
                try client.send(
                    Packet.publish(
                        "flood/\(number)", "\(number) " + String(repeating: "x", count: 20_000), qos: 1,
                        identifier: UInt16(number + 1), retain: true))
                #expect(try client.receive().type == 4)
            }
            for round in 0..<20 {
                let program = try Program(
                    Martlet.binary,
                    ["backup", "--force", "\(directory.path)/b.tar", "--data", "\(directory.path)/data"])
                usleep(UInt32(3_000 * round))
                program.signal(SIGKILL)
                _ = try program.waitForEnd()
                try client.send(Packet.publish("flood/0", "\(round)", qos: 1, identifier: 9, retain: true))
                #expect(try client.receive().type == 4, "round \(round)")
            }
            try martlet(["backup", "--force", "DIR/b.tar", "--data", "DIR/data"])
            let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
            #expect(Set(names) == ["b.tar", "data", "m.conf"], "what was left has been swept away")
            try martlet(["restore", "DIR/b.tar", "--data", "DIR/second"])
            let second = try ConfiguredMartlet(
                lines.map { $0.replacing("DIR/data", with: "DIR/second") }, in: directory)
            let found = try retained(second, with: 0..<400)
            #expect(found.count == 400 && found[0] == 19 && found[399] == 399)
        }

        @Test func `is refused, in one line, where it would harm somebody`() throws {
            let broker = try self.broker()
            try martlet(["backup", "DIR/b.tar", "-c", "DIR/m.conf"])
            let place = directory.path
            #expect(
                try martlet(["backup", "DIR/b.tar", "--data", "DIR/data"], 1)
                    == "martlet: \(place)/b.tar: there is such a file; --force replaces it\n")
            #expect(
                try martlet(["restore", "DIR/b.tar", "--data", "DIR/data", "--force"], 1)
                    == "martlet: process \(broker.program.pid) has the data directory \(place)/data; stop the broker first\n"
            )
            #expect(
                try martlet(["backup", "DIR/none/b.tar", "--data", "DIR/data"], 1)
                    == "martlet: \(place)/none/b.tar.new: No such file or directory\n")
            #expect(
                try martlet(["backup", "DIR/c.tar", "--data", "DIR/none"], 1)
                    == "martlet: \(place)/none: there is no data directory here; --data names another\n")
            #expect(try martlet(["restore", "DIR/m.conf", "--data", "DIR/x"], 1).contains("m.conf: it is"))
            try directory.write("listener 1883\nallow_anonymous true\n", "none.conf")
            #expect(
                try martlet(["backup", "DIR/c.tar", "-c", "DIR/none.conf"], 1).hasSuffix(
                    "neither 'data_dir' nor 'persistence true', so there is nothing on the disk\n"))
            #expect(try martlet(["backup"], 2).contains("<file>"))
            try stop(broker)
            #expect(
                try martlet(["restore", "DIR/b.tar", "--data", "DIR/data"], 1).hasSuffix(
                    "it is not empty; --force sets aside what is there\n"))
        }

        @Test func `of persistence alone has no accounts`() throws {
            let alone = ["persistence true", "persistence_location DIR/data", "allow_anonymous true", "user root"]
            let broker = try ConfiguredMartlet(alone, in: directory)
            let client = try broker.client("c")
            try client.send(Packet.publish("flood/1", "7 x", qos: 1, identifier: 1, retain: true))
            #expect(try client.receive().type == 4)
            broker.program.signal(SIGKILL)
            _ = try broker.program.waitForEnd()
            // What was committed lies in the log still.
            try martlet(["backup", "DIR/b.tar", "-c", "DIR/m.conf"])
            let listing = try Program("tar", ["tf", "\(directory.path)/b.tar"])
            #expect(try listing.waitForEnd() == .exited(0))
            #expect(listing.output == "martlet-backup/broker.db\nmartlet-backup/MANIFEST\n")
            try martlet(["restore", "DIR/b.tar", "--data", "DIR/second"])
            let second = try ConfiguredMartlet(
                alone.map { $0.replacing("DIR/data", with: "DIR/second") }, in: directory)
            #expect(try retained(second, with: [1]) == [1: 7])
        }

        @Test func `to standard output can be restored, and people can check it with sha256sum`() throws {
            let broker = try self.broker()
            let script = """
                set -e; cd "$1"; "$0" backup - --data data | cat > b.tar; tar xf b.tar; cd martlet-backup
                sha256sum --quiet -c MANIFEST
                """
            let program = try Program("/bin/sh", ["-c", script, Martlet.binary, directory.path])
            #expect(try program.waitForEnd(within: 30) == .exited(0), "\(program.output)")
            #expect(program.output == "")
            try martlet(["restore", "DIR/b.tar", "--data", "DIR/second"])
            #expect(directory.exists("second/fleet.db"))
            #expect(!directory.exists("data/backup.new") && !directory.exists("data/backup.new-db"))
            try stop(broker)
        }
    }
}
