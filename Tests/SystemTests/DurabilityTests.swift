import Foundation
import Glibc
import Seeded
import Synchronization
import Testing

/// One client that publishes retained messages, and what it knows of them: outside of the broker, so that it outlives it.
private final class Publisher: Sendable {
    struct Message: Sendable {
        let topic: String
        /// Empty: it clears what is retained.
        let payload: String
    }

    struct Ledger {
        /// What was on the disk before.
        var before: [String: String] = [:]
        /// In order; the first so many of them are acknowledged.
        var sent: [Message] = []
        var acknowledged = 0
    }

    static let window = 40

    let name: String
    let qos: UInt8
    let topics: [String]
    let ledger = Mutex(Ledger())
    private let latest = Atomic<Int>(0)

    init(_ name: String, qos: UInt8) {
        self.name = name
        self.qos = qos
        topics = (0..<10).map { "\(name)/\($0)" }
    }

    /// Publishes until the connection ends.
    func run(port: UInt16, seed: UInt64, acknowledged: SharedCount) {
        guard let client = try? RawClient(port: port), (try? client.connect(name)) != nil else { return }
        var generator = SeededGenerator(seed: seed)
        var waiting: [UInt16] = []
        var identifier: UInt16 = 0
        while true {
            do {
                while waiting.count < Self.window {
                    let number = latest.add(1, ordering: .relaxed).newValue
                    let isClear = generator.happens(15)
                    let message = Message(topic: generator.element(of: topics), payload: isClear ? "" : "\(number)")
                    identifier = identifier == .max ? 1 : identifier + 1
                    waiting.append(identifier)
                    ledger.withLock { $0.sent.append(message) }
                    try client.send(
                        Packet.publish(
                            message.topic, message.payload, qos: qos, identifier: identifier, retain: true))
                }
                let packet = try client.receive()
                if packet.type == 7 { continue }  // PUBCOMP
                let answered = UInt16(packet.body[0]) << 8 | UInt16(packet.body[1])
                #expect(packet.type == (qos == 1 ? 4 : 5) && answered == waiting.first, "in order [MQTT-4.6.0-2]")
                waiting.removeFirst()
                ledger.withLock { $0.acknowledged += 1 }
                acknowledged.increase()
                if packet.type == 5 { try client.send(Packet.acknowledge(0x62, answered)) }
            } catch {
                return
            }
        }
    }

    /// Whether what is found may be: all that was acknowledged, and of the rest the beginning. It counts from then on.
    func check(_ found: [String: String]) {
        let isRight = ledger.withLock { ledger in
            var state = ledger.before
            var isRight = ledger.acknowledged == 0 && state == found
            for (index, message) in ledger.sent.enumerated() {
                state[message.topic] = message.payload.isEmpty ? nil : message.payload
                if index + 1 >= ledger.acknowledged, state == found { isRight = true }
            }
            return isRight
        }
        let ledger = ledger.withLock { ledger in
            defer { ledger = Ledger(before: found) }
            return ledger
        }
        #expect(
            isRight,
            "\(name): \(ledger.acknowledged) of \(ledger.sent.count) acknowledged, found \(found), sent \(ledger.sent.suffix(60))"
        )
    }
}

extension System {
    @Suite struct `What is acknowledged` {
        private let directory: TemporaryDirectory

        init() throws { directory = try TemporaryDirectory() }

        private func retained(_ topics: [String], _ client: RawClient) throws -> [String: String] {
            var found: [String: String] = [:]
            for topic in topics {
                #expect(try client.subscribe([(topic, 0)]) == [0])
                try client.send(Packet.pingRequest)
                while true {
                    let packet = try client.receive()
                    if packet.first == 0xd0 { break }
                    found[String(decoding: packet.topic, as: UTF8.self)] = packet.text
                }
            }
            return found
        }

        @Test(.timeLimit(.minutes(5))) func `is retained after kill -9, at whatever moment`() throws {
            let publishers = (0..<4).map { Publisher("publisher\($0)", qos: UInt8($0 % 2 + 1)) }
            var generator = SeededGenerator(seed: 17)
            var total = 0
            for round in 0..<12 {
                let broker = try ConfiguredMartlet(
                    ["data_dir DIR/data", "allow_anonymous true", "max_inflight_messages 0"], in: directory)
                let reader = try broker.client("reader")
                for publisher in publishers { publisher.check(try retained(publisher.topics, reader)) }
                let acknowledged = SharedCount()
                let enough = 1 + generator.below(3_000)
                let seed = UInt64(round * 10)
                let end = { @Sendable [program = broker.program.pid] in
                    _ = eventually(within: 20) { acknowledged.value >= enough }
                    kill(program, SIGKILL)
                }
                let port = broker.port
                try concurrently(
                    [end]
                        + publishers.enumerated().map { index, publisher in
                            { @Sendable in
                                publisher.run(port: port, seed: seed + UInt64(index), acknowledged: acknowledged)
                            }
                        })
                #expect(try broker.program.waitForEnd() == .killed(by: SIGKILL))
                #expect(acknowledged.value >= enough, "round \(round)")
                total += acknowledged.value
            }
            print("kill -9: 12 rounds, \(total) retained messages acknowledged, none lost")
        }

        /// Publishers and subscribers of each kind, there and away, and filters that come and go; the broker is killed again and
        /// again, and in the end what each has seen is held against what each was promised.
        @Test(.timeLimit(.minutes(15))) func `is there after kill -9, once and in order`() throws {
            let environment = ProcessInfo.processInfo.environment
            let rounds = environment["CRASH_ROUNDS"].flatMap(Int.init) ?? 50
            var generator = SeededGenerator(seed: environment["CRASH_SEED"].flatMap(UInt64.init) ?? 23)
            let publishers = [
                LedgerPublisher("one", qos: 1), LedgerPublisher("two", qos: 2), LedgerPublisher("three", qos: 2),
                LedgerPublisher("clean", qos: 1, cleanSession: true),
            ]
            let (online, away) = (
                [LedgerSubscriber("s1", qos: 1), LedgerSubscriber("s2", qos: 2)], LedgerSubscriber("away", qos: 2)
            )
            // What only one has, who is seldom there, lies in runs.
            let hermits = [
                LedgerPublisher("four", qos: 1, under: "hermit"), LedgerPublisher("five", qos: 2, under: "hermit"),
            ]
            let hermit = LedgerSubscriber("hermit", qos: 2, under: "hermit")
            let filters = LedgerFilters()
            let lines = ["data_dir DIR/data", "allow_anonymous true", "max_queued_messages 0"]
            let count = SharedCount()
            for round in 0..<rounds {
                let broker = try ConfiguredMartlet(lines, in: directory)
                let (port, seed) = (broker.port, UInt64(round * 100))
                let enough = count.value + 1 + generator.below(600)
                let subscribers = online + (round % 5 == 0 ? [away] : []) + (round % 4 == 0 ? [hermit] : [])
                let laziness = [0, 3, 20][round % 3]
                var bodies: [@Sendable () throws -> Void] = [
                    { [program = broker.program.pid] in
                        #expect(eventually(within: 30) { count.value >= enough }, "round \(round)")
                        kill(program, SIGKILL)
                    },
                    { filters.run(port: port, seed: seed, count: count) },
                ]
                // Who is to get something is there first, the first time.
                for (index, subscriber) in subscribers.enumerated() {
                    bodies.append { subscriber.run(port: port, seed: seed + UInt64(index), laziness: laziness) }
                }
                for publisher in publishers + hermits {
                    bodies.append {
                        if round == 0, !eventually({ subscribers.allSatisfy(\.isReady) }) { return }
                        publisher.run(port: port, count: count)
                    }
                }
                try concurrently(bodies)
                #expect(try broker.program.waitForEnd() == .killed(by: SIGKILL))
            }
            let broker = try ConfiguredMartlet(lines, in: directory)
            let port = broker.port
            try concurrently(
                (publishers + hermits).map { publisher in { publisher.run(port: port, count: count, isLast: true) } })
            let all = (online + [away]).map { ($0, publishers) } + [(hermit, hermits)]
            try concurrently(
                all.map { subscriber, publishers in
                    {
                        let deadline = Deadline(after: 60)
                        subscriber.run(port: port, seed: 1, laziness: 5) {
                            subscriber.has(publishers) || deadline.hasPassed
                        }
                    }
                })
            for (subscriber, publishers) in all { subscriber.check(publishers) }
            print("kill -9: \(rounds) rounds, \(count.value) acknowledged")
        }

        @Test func `is retained after SIGTERM, the wills of those who are connected too`() throws {
            let lines = ["data_dir DIR/data", "allow_anonymous true"]
            let broker = try ConfiguredMartlet(lines, in: directory)
            let client = try broker.client("c")
            try client.publish("at/most/once", "kept", retain: true)
            try client.ping()
            broker.program.signal(SIGTERM)
            #expect(try broker.program.waitForEnd() == .exited(0))
            let second = try ConfiguredMartlet(lines, in: directory)
            #expect(try retained(["at/most/once"], second.client("d")) == ["at/most/once": "kept"])
        }

        @Test(arguments: [["durability relaxed"], ["durability relaxed", "persistence true"]])
        func `is on the disk a little later where durability is relaxed`(_ lines: [String]) throws {
            let place = lines.count == 1 ? "data_dir DIR/data" : "persistence_location DIR/data"
            let all = lines + [place, "allow_anonymous true"]
            let broker = try ConfiguredMartlet(all, in: directory)
            let client = try broker.client("c")
            try client.send(Packet.publish("t", "x", qos: 1, identifier: 1, retain: true))
            #expect(try client.receive().type == 4)
            let question = ["-readonly", "\(directory.path)/data/broker.db", "SELECT count(*) FROM retained"]
            #expect(
                try eventually {
                    let program = try Program("sqlite3", question)
                    return try program.waitForEnd() == .exited(0) && program.output == "1\n"
                })
            broker.program.signal(SIGKILL)
            #expect(try broker.program.waitForEnd() == .killed(by: SIGKILL))
            #expect(directory.exists("data/fleet.db") == (lines.count == 1), "persistence alone makes no accounts")
            let second = try ConfiguredMartlet(all, in: directory)
            #expect(try retained(["t"], second.client("d")) == ["t": "x"])
        }

        @Test func `needs a place to be kept`() throws {
            let program = try refused(["durability acknowledged"])
            #expect(program.output.contains("'durability acknowledged' needs 'data_dir' or 'persistence true'"))
        }

        private func refused(_ lines: [String]) throws -> Program {
            try directory.write(
                (lines + ["listener \(try freePort()) 127.0.0.1"]).joined(separator: "\n") + "\n", "r.conf")
            let program = try Program(Martlet.binary, ["serve", "-c", "\(directory.path)/r.conf"])
            #expect(try program.waitForEnd() == .exited(3))
            return program
        }

        @Test func `is not on the disk where durability is memory`() throws {
            let lines = ["data_dir DIR/data", "allow_anonymous true", "durability memory"]
            let broker = try ConfiguredMartlet(lines, in: directory)
            let client = try broker.client("c")
            try client.send(Packet.publish("t", "x", qos: 1, identifier: 1, retain: true))
            #expect(try client.receive().type == 4)
            #expect(!directory.exists("data/broker.db"))
        }
    }
}
