import Foundation
import Testing

/// The newest value of each `$SYS/broker/` topic that a client has been sent, and what an exporter does with them.
private final class Watcher {
    private let client: RawClient
    private(set) var values: [String: String] = [:]
    private(set) var problems: [String] = []
    /// A prometheus counter that falls ends sapcc/mosquitto-exporter, as do two topics with one metric name.
    private static let exporterCounters: Set<String> = [
        "bytes/received", "bytes/sent", "messages/received", "messages/sent", "publish/messages/received",
        "publish/messages/sent", "publish/messages/dropped", "publish/bytes/received", "publish/bytes/sent", "uptime",
        "clients/maximum", "clients/expired", "heap/maximum",
    ]
    private static let ignored: Set<String> = ["version", "timestamp", "clients/active", "clients/inactive"]
    private var metrics: [String: String] = [:]
    private(set) var updates = 0

    convenience init(_ broker: Martlet) throws { try self.init(broker.client("exporter")) }

    init(_ client: RawClient) throws {
        self.client = client
        #expect(try client.subscribe([("$SYS/#", 0)]) == [0])
    }

    /// Takes what comes until `condition` holds.
    func watch(until condition: (Watcher) -> Bool) throws {
        while !condition(self) {
            let packet = try client.receive(within: 20)
            guard packet.type == 3 else { continue }
            take(String(decoding: packet.topic, as: UTF8.self), packet.text)
        }
    }

    private func take(_ topic: String, _ text: String) {
        guard topic.hasPrefix("$SYS/broker/") else { return problems.append("a topic \(topic)") }
        let name = String(topic.dropFirst("$SYS/broker/".count))
        defer { values[name] = text }
        updates += 1
        guard !Self.ignored.contains(name) else { return }
        guard let value = Self.firstNumber(text) else { return problems.append("\(name) is '\(text)'") }
        if Self.exporterCounters.contains(name) || name.hasPrefix("limits/"), let earlier = values[name],
            let before = Self.firstNumber(earlier), value < before
        {
            problems.append("\(name) falls from \(earlier) to \(text)")
        }
        let metric = topic.dropFirst(5).map { $0 == "/" || $0 == " " ? "_" : $0 }
        if metric.contains(where: { !$0.isASCII || !($0.isLetter || $0.isNumber || $0 == "_") }) {
            problems.append("\(name) can't be a metric")
        }
        if let other = metrics.updateValue(name, forKey: String(metric)), other != name {
            problems.append("\(name) and \(other) are one metric")
        }
    }

    /// `-?\d{1,}[.]\d{1,}|\d{1,}`
    private static func firstNumber(_ text: String) -> Double? {
        guard let range = text.range(of: #"-?\d{1,}[.]\d{1,}|\d{1,}"#, options: .regularExpression) else { return nil }
        return Double(text[range])
    }

    func number(_ name: String) -> Double { values[name].flatMap { Self.firstNumber($0) } ?? -1 }
}

extension System {
    @Suite struct `The topics under $SYS` {
        /// The names in docs/sys.md, written out, of a broker without TLS.
        private static func documented(shards: Int, hasDisk: Bool = false) throws -> [String] {
            let text = try String(contentsOfFile: "\(packageRoot)/docs/sys.md", encoding: .utf8)
            let rows = text.split(separator: "\n").filter {
                $0.hasPrefix("| `") && $0.split(separator: "|").count == 4 && !$0.contains("only where there is TLS")
                    && (hasDisk || !$0.contains("only where there is a disk"))
            }
            return rows.flatMap { row -> [String] in
                let name = String(row.split(separator: "`")[1])
                if name.contains("/N/") {
                    return (0..<shards).map { name.replacingOccurrences(of: "/N/", with: "/\($0)/") }
                }
                guard let brace = name.firstIndex(of: "{") else { return [name] }
                let windows = name[name.index(after: brace)...].dropLast().split(separator: ",")
                return windows.map { String(name[..<brace]) + $0 }
            }
        }

        @Test func `are those that docs/sys.md lists`() throws {
            let broker = try Martlet(["sys_interval 1", "shards 3"])
            let watcher = try Watcher(broker)
            let expected = try Self.documented(shards: 3)
            #expect(expected.count > 70 && Set(expected).count == expected.count)
            try watcher.watch { $0.number("uptime") >= 2 && $0.values.count >= expected.count }
            #expect(Set(watcher.values.keys).symmetricDifference(expected) == [])
            #expect(watcher.values["version"]?.hasPrefix("martlet version ") == true)
            #expect(watcher.values["uptime"]?.hasSuffix(" seconds") == true)
            #expect(watcher.problems == [])
            try broker.stop()
        }

        @Test func `say what gets to the disk where there is one`() throws {
            let directory = try TemporaryDirectory()
            let lines = ["sys_interval 1", "shards 3", "data_dir DIR/data", "allow_anonymous true"]
            let broker = try ConfiguredMartlet(lines + ["max_queued_messages 0"], in: directory)
            let watcher = try Watcher(broker.client("exporter"))
            let expected = try Self.documented(shards: 3, hasDisk: true)
            try watcher.watch { $0.values.count >= expected.count }
            #expect(Set(watcher.values.keys).symmetricDifference(expected) == [])
            let subscriber = try RawClient(port: broker.port)
            try subscriber.connect("away", cleanSession: false)
            try subscriber.subscribe([("t", 1)])
            try subscriber.send(Packet.disconnect)
            #expect(subscriber.isClosed())
            let publisher = try broker.client("publisher")
            for number in 0..<1_000 {
                try publisher.send(Packet.publish("t", "\(number)", qos: 1, identifier: UInt16(number + 1)))
            }
            for _ in 0..<1_000 { #expect(try publisher.receive().type == 4) }
            try watcher.watch {
                $0.number("disk/messages/queued") > 700 && $0.number("disk/bytes/written/hour") > 10_000
            }
            #expect(watcher.number("disk/commits") > 0 && watcher.number("disk/failing") == 0)
            #expect(watcher.number("disk/bytes/written") >= watcher.number("disk/bytes/written/hour"))
            broker.program.signal(SIGTERM)
            #expect(try broker.program.waitForEnd() == .exited(0))
        }

        @Test func `say what happens, interval by interval, as exporters want it`() throws {
            let broker = try Martlet(["sys_interval 1", "max_queued_messages 10"])
            let away = try broker.client("away", cleanSession: false)
            try away.subscribe([("load/#", 1)])
            try away.send(Packet.disconnect)
            #expect(away.isClosed())
            let subscriber = try broker.client("subscriber")
            try subscriber.subscribe([("load/#", 0), ("$share/g/x", 0)])
            let publisher = try broker.client("publisher")
            let watcher = try Watcher(broker)
            try watcher.watch { $0.number("uptime") >= 2 && $0.number("clients/connected") >= 2 }
            let retained = watcher.number("retained messages/count")
            for round in 0..<4 {
                let before = watcher.number("uptime")
                for number in 1...25 {
                    try publisher.send(
                        Packet.publish(
                            "load/\(number)", "12345", qos: 1, identifier: UInt16(number), retain: number == 1))
                    _ = try publisher.receive()
                    _ = try subscriber.receive()
                }
                try publisher.publish("load/t", "0")
                #expect(try subscriber.receive().text == "0")
                if round == 1 { _ = try broker.client("passing") }
                try watcher.watch { $0.number("uptime") >= before + 2 }
            }
            // What has happened before an interval is in it.
            try watcher.watch { $0.number("publish/messages/received") == 104 }
            let last = watcher.number("uptime")
            try watcher.watch { $0.number("uptime") >= last + 2 }
            #expect(watcher.problems == [])
            #expect(watcher.number("publish/bytes/received") == 504)
            #expect(watcher.number("publish/messages/dropped") == 90)  // 100 for 10 places.
            #expect(watcher.number("clients/total") == 4)
            #expect(watcher.number("clients/connected") == 3 && watcher.number("clients/disconnected") == 1)
            #expect(watcher.number("clients/active") == 3 && watcher.number("clients/inactive") == 1)
            #expect(watcher.number("clients/maximum") >= 3)
            #expect(watcher.number("subscriptions/count") >= 3)
            #expect(watcher.number("shared_subscriptions/count") == 1)
            #expect(watcher.number("retained messages/count") == retained + 1)
            // Ten that wait for one session, one of them retained too, and what is retained here.
            #expect(watcher.number("messages/stored") >= retained + 1 + 10)
            #expect(watcher.number("store/messages/count") == watcher.number("messages/stored"))
            #expect(watcher.number("store/messages/bytes") > 50)
            #expect(watcher.number("heap/current") > 100_000)
            #expect(watcher.number("heap/maximum") >= watcher.number("heap/current"))
            for name in ["messages/received", "messages/sent", "publish/received", "publish/sent", "bytes/received"] {
                let (one, fifteen) = (watcher.number("load/\(name)/1min"), watcher.number("load/\(name)/15min"))
                #expect(one > fifteen && fifteen > 0, "\(name): \(one), \(fifteen)")
            }
            // 104 messages in the first seconds, by Mosquitto's formula.
            #expect((50...104).contains(watcher.number("load/publish/received/1min")))
            #expect(watcher.number("connections/socket/count") == 3)
            try broker.stop()
        }

        @Test func `are published only when they change`() throws {
            let broker = try Martlet(["sys_interval 1"])
            let quiet = try broker.client("quiet")
            try quiet.subscribe([("$SYS/broker/clients/connected", 0), ("$SYS/broker/uptime", 0)])
            var names: [String] = []
            while names.filter({ $0 == "$SYS/broker/uptime" }).count < 5 {
                names.append(String(decoding: try quiet.receive(within: 20).topic, as: UTF8.self))
            }
            #expect((1...2).contains(names.filter { $0 != "$SYS/broker/uptime" }.count), "\(names)")
            try broker.stop()
        }

        @Test func `are none with sys_interval 0, and not for wildcards at the start`() throws {
            let silent = try Martlet(["sys_interval 0"])
            let client = try silent.client()
            try client.subscribe([("$SYS/#", 0)])
            try client.ping()
            try silent.stop()

            let broker = try Martlet(["sys_interval 1"])
            let one = try broker.client()
            try one.subscribe([("#", 0), ("+/broker/#", 0)])
            let other = try Watcher(broker)
            try other.watch { $0.number("uptime") >= 3 }
            try one.ping()
            try broker.stop()
        }
    }
}
