import Foundation
import Glibc
import Testing

extension System {
    /// Each stage of `memory_limit` in its order, on the way to the limit and back.
    @Suite struct `A broker that is short of memory` {
        private static let room = 60 << 20
        private static let slack = 16 << 20

        /// What the limit counts.
        private static func usedBytes(_ broker: Martlet) -> Int {
            let text = (try? String(contentsOfFile: "/proc/\(broker.program.pid)/statm", encoding: .utf8)) ?? ""
            let pages = text.split(separator: " ").compactMap { Int($0) }
            return pages.count > 2 ? (pages[1] - pages[2]) * sysconf(Int32(_SC_PAGESIZE)) : .max
        }

        private static func begin(_ lines: [String]) throws -> (broker: Martlet, limit: Int) {
            let idle = try Martlet()
            try idle.program.waitForLine(containing: "started")
            try idle.client().ping()
            let limit = usedBytes(idle) + room
            try idle.stop()
            return (try Martlet(lines + ["memory_limit \(limit)", "sys_interval 1", "max_queued_messages 0"]), limit)
        }

        /// A pair that is well-behaved throughout.
        private final class Pair {
            let publisher: RawClient
            let subscriber: RawClient
            private var latest = 0

            init(_ broker: Martlet) throws {
                publisher = try broker.client("good publisher")
                subscriber = try broker.client("good subscriber")
                try subscriber.subscribe([("good", 1)])
            }

            func exchange() throws {
                latest += 1
                try publisher.send(Packet.publish("good", "\(latest)", qos: 1, identifier: 1))
                #expect(try publisher.receive() == Received(first: 0x40, body: [0, 1]))
                let packet = try subscriber.receive()
                #expect(packet.text == "\(latest)")
                try subscriber.send(Packet.acknowledge(0x40, packet.identifier))
            }
        }

        private static let payload = [UInt8](repeating: 0x61, count: 2_000)

        /// Publishes until the log says that a stage has begun, or somebody who knocks gets that return code: the log comes a
        /// little later, when the next stage may have begun. Returns the most memory that was used.
        private static func flood(
            _ broker: Martlet, from publisher: RawClient, _ topics: [String], qos: UInt8, until line: String?,
            orCode code: UInt8? = nil, with pair: Pair, limit megabytes: Int = 400
        ) throws -> Int {
            var peak = 0
            for round in 0..<(megabytes << 20) / (64 * payload.count) {
                let topic = Array(topics[round % topics.count].utf8)
                let packets = (1...64).flatMap { Packet.publish(topic, payload, qos: qos, identifier: UInt16($0)) }
                try publisher.send(packets)
                if qos > 0 { for _ in 1...64 { _ = try publisher.receive(within: 20) } } else { try publisher.ping() }
                peak = max(peak, usedBytes(broker))
                if round % 8 == 0 { try pair.exchange() }
                if let code, try knock(broker) == code { return peak }
                if code == nil, let line, broker.program.output.contains(line) { return peak }
            }
            if let line {
                throw Unexpected("never '\(line)'; \(usedBytes(broker)) bytes; \(broker.program.output.suffix(2_000))")
            }
            return peak
        }

        /// The return code of a CONNECT.
        private static func knock(_ broker: Martlet, _ name: String = "") throws -> UInt8 {
            let client = try RawClient(port: broker.port)
            try client.send(Packet.connect(name))
            return try client.receive().body[1]
        }

        private static func stages(_ broker: Martlet) -> [String] {
            broker.program.output.split(separator: "\n").filter { $0.contains("memory_limit:") }.compactMap { line in
                [
                    "new connections are refused", "do not wait for anybody", "slowest readers are",
                    "nothing new is queued",
                    "accepted again", "may wait again", "left alone again", "retained again",
                ].first { line.contains($0) }
            }
        }

        @Test func `refuses new connections first, then lets go of QoS 0, and recovers`() throws {
            let (broker, limit) = try Self.begin(["queue_qos0_messages true"])
            let pair = try Pair(broker)
            let away = try broker.client("away", cleanSession: false)
            try away.subscribe([("flood", 0)])
            try away.send(Packet.disconnect)
            #expect(away.isClosed())
            let publisher = try broker.client("publisher")
            #expect(try Self.knock(broker) == 0)
            var peak = try Self.flood(
                broker, from: publisher, ["flood"], qos: 0, until: "new connections are refused", orCode: 3, with: pair)
            peak = max(
                peak,
                try Self.flood(broker, from: publisher, ["flood"], qos: 0, until: "do not wait for anybody", with: pair)
            )
            // The queue goes at once, and with it the shortage.
            try broker.program.waitForLine(containing: "accepted again", within: 20)
            #expect(try Self.knock(broker) == 0)
            try pair.exchange()
            #expect(peak < limit + Self.slack, "\(peak) of \(limit)")
            #expect(
                Self.stages(broker) == [
                    "new connections are refused", "do not wait for anybody", "may wait again", "accepted again",
                ])
            try broker.stop()
        }

        @Test func `disconnects the slowest readers then, and keeps those who read`() throws {
            let (broker, limit) = try Self.begin(["log_type all"])
            let pair = try Pair(broker)
            var sleepers: [RawClient] = []
            for number in 0..<8 {
                let sleeper = try RawClient(port: broker.port, receiveBufferBytes: 4_096)
                try sleeper.connect("sleeper-\(number)")
                try sleeper.subscribe([(number == 3 ? "flood/+" : "flood/\(number)", 1)])
                sleepers.append(sleeper)
            }
            let publisher = try broker.client("publisher")
            let topics = (0..<8).map { "flood/\($0)" }
            let peak = try Self.flood(
                broker, from: publisher, topics, qos: 1, until: "too much waits for it", with: pair)
            #expect(peak < limit + Self.slack, "\(peak) of \(limit)")
            let closed = broker.program.output.split(separator: "\n").filter { $0.contains("too much waits for it") }
            // It had all messages.
            #expect(closed.first?.contains("sleeper-3") == true, "\(closed)")
            #expect(sleepers[3].isClosed())
            try pair.exchange()
            let order = Self.stages(broker)
            #expect(
                order.prefix(3) == ["new connections are refused", "do not wait for anybody", "slowest readers are"])
            sleepers = []
            try broker.program.waitForLine(containing: "accepted again", within: 20)
            #expect(try Self.knock(broker) == 0)
            try pair.exchange()
            try broker.stop()
        }

        @Test func `stores nothing more in the end, and lets those in who take what waits`() throws {
            let (broker, limit) = try Self.begin([])
            let pair = try Pair(broker)
            let away = try broker.client("away", cleanSession: false)
            try away.subscribe([("flood", 1)])
            try away.send(Packet.disconnect)
            #expect(away.isClosed())
            let publisher = try broker.client("publisher")
            var peak = try Self.flood(
                broker, from: publisher, ["flood"], qos: 1, until: "nothing new is queued", with: pair)
            peak = max(
                peak, try Self.flood(broker, from: publisher, ["flood"], qos: 1, until: nil, with: pair, limit: 40))
            #expect(peak < limit + Self.slack, "\(peak) of \(limit)")
            #expect(try Self.knock(broker, "another") == 3)
            try publisher.publish("kept", "no longer", retain: true)
            try pair.subscriber.subscribe([("kept", 0)], identifier: 2)
            try pair.subscriber.ping()
            let order = Self.stages(broker)
            #expect(
                order.prefix(4) == [
                    "new connections are refused", "do not wait for anybody", "slowest readers are",
                    "nothing new is queued",
                ])
            #expect(try Self.knock(broker, "away") == 0)  // Clean, it frees everything.
            try broker.program.waitForLine(containing: "accepted again", within: 20)
            #expect(try Self.knock(broker, "another") == 0)
            try pair.exchange()
            try broker.stop()
        }
    }
}
