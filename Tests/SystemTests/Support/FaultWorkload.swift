import Synchronization
import Testing

/// What is wrong, from many threads; told by the one that the test runs on.
final class Findings: Sendable {
    private let all = Mutex<[String]>([])

    func add(_ finding: String) { all.withLock { $0.append(finding) } }

    func expect(_ isRight: Bool, _ finding: @autoclosure () -> String) { if !isRight { add(finding()) } }

    func record() {
        for finding in all.withLock({ $0 }).sorted() { Issue.record("\(finding)") }
    }
}

/// A publisher and three subscribers with persistent sessions, and what each of them knows: outside of the broker, so that it
/// outlives it. Every step waits until it is acknowledged, so that each run makes much the same calls to the disk.
///
/// `run` goes as far as the broker lets it; `check` asks another broker, on the same data, for all that was acknowledged.
final class FaultWorkload {
    /// Whether sessions, subscriptions, queues and QoS 2 state outlive the process. Off: only retained messages are asked for.
    static let sessionsOutlive = true

    private let publisher = FaultPublisher()
    private let online = FaultSubscriber("online")
    private let offline = FaultSubscriber("offline")
    private let changing = FaultSubscriber("changing")

    /// The longest that an acknowledgement took.
    var longestWait: Double { publisher.longestWait }

    /// Throws when the connection ends, or at what no broker may do.
    func run(port: UInt16) throws {
        try offline.connect(port)
        try offline.subscribe("q/#", 2)
        offline.disconnect()
        try changing.connect(port)
        try changing.subscribe("u/#", 1)
        changing.disconnect()
        try online.connect(port)
        try online.subscribe("q/#", 2)
        try publisher.connect(port)

        try publisher.publish([("r/1", "a", 1, true)])
        try publish("q/a", 1)
        try publish("q/a", 2)
        try publisher.publish([("r/2", "b", 2, true)])
        try publish("q/b", 1)
        try publisher.publish([("r/1", "", 1, true)])
        try publisher.publish([("u/a", "before", 1, false)])

        try changing.connect(port)
        try changing.receive("before")
        try changing.unsubscribe("u/#")
        try changing.subscribe("v/#", 2)
        changing.disconnect()
        try publisher.publish([("u/a", "after", 1, false), ("v/a", "wanted", 2, false)])
        // So many for one who is away that the last of them lie in a run.
        try publisher.publish((0..<270).map { ("v/a", "wanted \($0)", 1, false) })

        // One commit for several, and what an online session sends back meanwhile.
        try publisher.publish([
            ("q/c", "burst 1", 1, false), ("r/3", "c", 1, true), ("q/c", "burst 2", 2, false),
            ("r/1", "again", 2, true), ("q/c", "burst 3", 2, false),
        ])
        try online.receive("burst 3")
        try publish("q/b", 2)
    }

    /// A little more, of a broker that was started on what the last one left.
    func goOn(port: UInt16) throws {
        try publisher.connect(port)
        try publisher.publish([("r/2", "", 2, true), ("r/4", "d", 1, true)])
        if Self.sessionsOutlive {
            try online.connect(port)
            try publish("q/a", 2)
        }
        try publisher.publish([("r/1", "at last", 2, true)])
    }

    private var number = 0

    /// To both, one of them connected.
    private func publish(_ topic: String, _ qos: UInt8) throws {
        number += 1
        try publisher.publish([(topic, "message \(number)", qos, false)])
        try online.receive("message \(number)")
    }

    /// What is asked of a broker that may have been started anew. `what`: of the round, for messages.
    func check(port: UInt16, sessions: Bool, _ what: String, _ findings: Findings) throws {
        let reader = try RawClient(port: port)
        try reader.connect("reader")
        var found: [String: String] = [:]
        try reader.subscribe([("r/#", 0)])
        for _ in 0..<2 {
            try reader.send(Packet.pingRequest)
            while true {
                let packet = try reader.receive()
                if packet.first == 0xd0 { break }
                found[String(decoding: packet.topic, as: UTF8.self)] = packet.text
            }
        }
        publisher.check(retained: found, what, findings)
        guard sessions else { return }

        try publisher.resume(port, what, findings)
        try publisher.publish([("q/a", "end", 2, false), ("u/a", "end", 2, false), ("v/a", "end", 2, false)])
        let sent = publisher.accepted.filter { $0.topic.hasPrefix("q/") }
        for subscriber in [online, offline] where subscriber.holds["q/#"] == .yes {
            try subscriber.resume(port, until: ["q/a": "end"], what, findings)
            subscriber.check(sent, what, findings)
        }
        guard changing.holds["u/#"] != nil else { return }
        let isUnsubscribed = changing.holds["u/#"] == .no
        var ends: [String: String] = [:]
        if changing.holds["u/#"] == .yes { ends["u/a"] = "end" }
        if changing.holds["v/#"] == .yes { ends["v/a"] = "end" }
        try changing.resume(port, until: ends, what, findings)
        if changing.holds["v/#"] == .yes {
            changing.check(publisher.accepted.filter { $0.topic.hasPrefix("v/") }, what, findings)
        }
        if isUnsubscribed {
            findings.expect(
                !changing.delivered.contains { $0.topic == "u/a" && $0.text != "before" }, "\(what): unsubscribed")
        } else if changing.holds["u/#"] == .yes {
            changing.check(publisher.accepted.filter { $0.topic.hasPrefix("u/") }, what, findings)
        }
    }
}

/// Sends, and sends again what was not acknowledged when it is back.
private final class FaultPublisher {
    struct Message: Equatable {
        let topic: String
        let text: String
        let qos: UInt8
        let isRetained: Bool
    }

    private enum Stage { case sent, received, complete }

    private var client: RawClient?
    private var messages: [Message] = []
    private var stages: [Stage] = []
    private(set) var longestWait = 0.0

    func connect(_ port: UInt16) throws {
        client = try RawClient(port: port)
        try client!.connect("publisher", cleanSession: false)
    }

    /// All at once; returns when the last is acknowledged.
    func publish(_ batch: [(topic: String, text: String, qos: UInt8, isRetained: Bool)]) throws {
        for message in batch {
            messages.append(
                Message(
                    topic: message.topic, text: message.text, qos: message.qos, isRetained: message.isRetained))
            stages.append(.sent)
            try send(messages.count - 1, again: false)
        }
        longestWait = max(longestWait, try seconds(settle))
    }

    private func send(_ index: Int, again: Bool) throws {
        let message = messages[index]
        var bytes = Packet.publish(
            message.topic, message.text, qos: message.qos, identifier: UInt16(index + 1), retain: message.isRetained)
        if again { bytes[0] |= 8 }
        try client!.send(bytes)
    }

    private func settle() throws {
        while stages.contains(where: { $0 != .complete }) {
            let packet = try client!.receive()
            let index = Int(packet.body[0]) << 8 + Int(packet.body[1]) - 1
            guard stages.indices.contains(index) else { throw Unexpected("an acknowledgement of nothing: \(packet)") }
            switch packet.type {
            case 4 where messages[index].qos == 1, 7 where messages[index].qos == 2: stages[index] = .complete
            case 5 where messages[index].qos == 2:
                stages[index] = .received
                try client!.send(Packet.acknowledge(0x62, UInt16(index + 1)))
            default: throw Unexpected("an acknowledgement expected, not \(packet)")
            }
        }
    }

    /// [MQTT-4.4.0-1], in the order in which they went.
    func resume(_ port: UInt16, _ what: String, _ findings: Findings) throws {
        client = try RawClient(port: port)
        let isPresent = try client!.connect("publisher", cleanSession: false)
        let isOwed = zip(messages, stages).contains { $0.qos == 2 && $1 != .sent }
        findings.expect(isPresent || !isOwed, "\(what): the publisher's session")
        for index in messages.indices {
            switch stages[index] {
            case .sent: try send(index, again: true)
            case .received: try client!.send(Packet.acknowledge(0x62, UInt16(index + 1)))
            case .complete: break
            }
        }
        try settle()
    }

    var accepted: [Message] { zip(messages, stages).filter { $1 != .sent }.map(\.0) }

    /// All that was acknowledged, and of the rest the beginning.
    func check(retained found: [String: String], _ what: String, _ findings: Findings) {
        let acknowledged = (stages.lastIndex { $0 != .sent } ?? -1) + 1
        var state: [String: String] = [:]
        var isRight = acknowledged == 0 && found.isEmpty
        for (index, message) in messages.enumerated() {
            if message.isRetained { state[message.topic] = message.text.isEmpty ? nil : message.text }
            if index + 1 >= acknowledged, state == found { isRight = true }
        }
        findings.expect(isRight, "\(what): \(acknowledged) of \(messages.count) acknowledged, retained are \(found)")
    }
}

/// Receives, QoS 2 as the specification has it, and remembers it when it comes back.
private final class FaultSubscriber {
    struct Delivery: Equatable {
        let topic: String
        let text: String
    }

    /// What is known of a subscription.
    enum Certainty { case yes, no, maybe }

    private let name: String
    private var client: RawClient?
    private var latest: UInt16 = 0
    private(set) var holds: [String: Certainty] = [:]
    private(set) var delivered: [Delivery] = []
    /// Of QoS 2, received and not released.
    private var unreleased: Set<UInt16> = []

    init(_ name: String) { self.name = name }

    func connect(_ port: UInt16) throws {
        client = try RawClient(port: port)
        try client!.connect(name, cleanSession: false)
    }

    func disconnect() {
        try? client?.send(Packet.disconnect)
        client = nil
    }

    func subscribe(_ filter: String, _ qos: UInt8) throws {
        holds[filter] = .maybe
        latest += 1
        try client!.send(Packet.subscribe([(Array(filter.utf8), qos)], identifier: latest))
        try receive(first: 0x90)
        holds[filter] = .yes
    }

    func unsubscribe(_ filter: String) throws {
        holds[filter] = .maybe
        latest += 1
        try client!.send(Packet.packet(0xa2, Packet.uint16(latest) + Packet.string(filter)))
        try receive(first: 0xb0)
        holds[filter] = .no
    }

    /// Answers all that comes, until there is a packet of this kind.
    private func receive(first: UInt8) throws {
        while try take() != first {}
    }

    /// Until it has been delivered.
    func receive(_ text: String) throws {
        while !delivered.contains(where: { $0.text == text }) { _ = try take() }
    }

    private func take() throws -> UInt8 {
        let packet = try client!.receive()
        if packet.type == 3 {
            let isNew = packet.qos < 2 || unreleased.insert(packet.identifier).inserted
            if isNew {
                delivered.append(Delivery(topic: String(decoding: packet.topic, as: UTF8.self), text: packet.text))
            }
            if packet.qos > 0 {
                try client!.send(Packet.acknowledge(packet.qos == 1 ? 0x40 : 0x50, packet.identifier))
            }
        } else if packet.type == 6 {
            let identifier = UInt16(packet.body[0]) << 8 | UInt16(packet.body[1])
            unreleased.remove(identifier)
            try client!.send(Packet.acknowledge(0x70, identifier))
        }
        return packet.first
    }

    /// Back, until these have come, by topic; and what comes then at once.
    func resume(_ port: UInt16, until ends: [String: String], _ what: String, _ findings: Findings) throws {
        client = try RawClient(port: port)
        let isPresent = try client!.connect(name, cleanSession: false)
        // Nothing is promised before the first answer to a SUBSCRIBE.
        findings.expect(isPresent || holds.values.allSatisfy { $0 == .maybe }, "\(what): the session of \(name)")
        do {
            while !ends.allSatisfy({ end in delivered.contains { $0.topic == end.key && $0.text == end.value } }) {
                _ = try take()
            }
            for _ in 0..<2 {
                try client!.send(Packet.pingRequest)
                try receive(first: 0xd0)
            }
        } catch {
            findings.add("\(what): \(name) has \(delivered.map(\.text)), and then: \(error)")
        }
    }

    /// None lost, in order, and of QoS 2 each once.
    func check(_ sent: [FaultPublisher.Message], _ what: String, _ findings: Findings) {
        let wanted = sent.filter { message in
            delivered.contains { $0.text == message.text && $0.topic == message.topic }
        }
        findings.expect(wanted == sent, "\(what): \(name) has \(delivered.map(\.text)) of \(sent.map(\.text))")
        var first: [Delivery] = []
        for delivery in delivered where !first.contains(delivery) { first.append(delivery) }
        let order = first.compactMap { delivery in
            sent.firstIndex { $0.text == delivery.text && $0.topic == delivery.topic }
        }
        findings.expect(order == order.sorted(), "\(what): \(name) has them in the order \(first.map(\.text))")
        for message in sent where message.qos == 2 {
            let count = delivered.filter { $0.text == message.text && $0.topic == message.topic }.count
            findings.expect(count <= 1, "\(what): \(name) has \(message.text) \(count) times")
        }
    }
}
