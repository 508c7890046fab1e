import Glibc
import Seeded
import Synchronization
import Testing

// Clients that keep what MQTT makes a client keep, and a ledger of what was acknowledged: outside of the broker, so that both
// outlive it.

/// Counted by several at once.
final class SharedCount: Sendable {
    private let number = Atomic<Int>(0)

    var value: Int { number.load(ordering: .relaxed) }

    func increase() { number.add(1, ordering: .relaxed) }
}

/// Publishes 1, 2, 3... to topics of its own, many at a time, and sends again what was not answered when it comes back (4.4).
final class LedgerPublisher: Sendable {
    private struct Message {
        let number: Int
        let identifier: UInt16
        var isReceived = false
    }

    private struct State {
        var latest = 0
        var latestIdentifier: UInt16 = 0
        var inFlight: [Message] = []
        /// Up to here all are acknowledged, for acknowledgements come in order [MQTT-4.6.0-2].
        var acknowledged = 0
        var hasBeenAnswered = false
    }

    static let window = 30

    let name: String
    let qos: UInt8
    private let cleanSession: Bool
    private let root: String
    private let state = Mutex(State())

    init(_ name: String, qos: UInt8, cleanSession: Bool = false, under root: String = "ledger") {
        self.name = name
        self.qos = qos
        self.cleanSession = cleanSession
        self.root = root
    }

    /// How many were acknowledged, and how many were ever sent.
    var ledger: (acknowledged: Int, sent: Int) { state.withLock { ($0.acknowledged, $0.latest) } }

    var topic: String { "\(root)/\(name)" }

    /// Publishes until the connection ends, or where `isLast` until nothing waits for an answer.
    func run(port: UInt16, count: SharedCount, isLast: Bool = false) {
        do {
            let client = try RawClient(port: port)
            let isPresent = try client.connect(name, cleanSession: cleanSession)
            try resume(client, isPresent)
            while true {
                if !isLast { try fill(client) }
                if isLast, state.withLock({ $0.inFlight.isEmpty }) { return try client.send(Packet.disconnect) }
                try take(client.receive(within: 30), client, count)
            }
        } catch {
            if isLast { Issue.record("\(name): \(error)") }
        }
    }

    private func resume(_ client: RawClient, _ isPresent: Bool) throws {
        let messages = state.withLock { state in
            if !cleanSession, qos == 2, state.hasBeenAnswered {
                #expect(isPresent, "\(name): a session that was acknowledged is gone")
            }
            return state.inFlight
        }
        for message in messages {
            if message.isReceived {
                try client.send(Packet.acknowledge(0x62, message.identifier))
            } else {
                var packet = publish(message)
                packet[0] |= 8
                try client.send(packet)
            }
        }
    }

    private func publish(_ message: Message) -> [UInt8] {
        Packet.publish(
            topic, "\(name) \(message.number)", qos: qos, identifier: message.identifier)
    }

    private func fill(_ client: RawClient) throws {
        while let message = state.withLock({ state -> Message? in
            guard state.inFlight.count < Self.window else { return nil }
            state.latest += 1
            state.latestIdentifier = state.latestIdentifier == .max ? 1 : state.latestIdentifier + 1
            state.inFlight.append(Message(number: state.latest, identifier: state.latestIdentifier))
            return state.inFlight.last
        }) {
            try client.send(publish(message))
        }
    }

    private func take(_ packet: Received, _ client: RawClient, _ count: SharedCount) throws {
        let identifier = UInt16(packet.body[0]) << 8 | UInt16(packet.body[1])
        let isNew = state.withLock { state -> Bool in
            guard let index = state.inFlight.firstIndex(where: { $0.identifier == identifier }) else {
                Issue.record("\(name): \(packet) answers nothing")
                return false
            }
            state.hasBeenAnswered = true
            let wasReceived = state.inFlight[index].isReceived
            switch packet.type {
            case 5: state.inFlight[index].isReceived = true
            default: state.inFlight.remove(at: index)
            }
            guard packet.type != 7, !wasReceived else { return false }
            let number = state.acknowledged + 1
            #expect(state.inFlight.first { !$0.isReceived }?.number ?? state.latest + 1 == number + 1, "in order")
            state.acknowledged = number
            return true
        }
        if isNew { count.increase() }
        if packet.type == 5 { try client.send(Packet.acknowledge(0x62, identifier)) }
    }
}

/// Takes what a persistent session gets, answers in its own time, and notes what came.
final class LedgerSubscriber: Sendable {
    private struct State {
        var isSubscribed = false
        /// QoS 2, received and not released.
        var unreleased: Set<UInt16> = []
        /// How often each message came, and when it first did.
        var counts: [String: Int] = [:]
        var order: [String: [Int]] = [:]
    }

    let name: String
    let qos: UInt8
    private let root: String
    private let state = Mutex(State())

    init(_ name: String, qos: UInt8, under root: String = "ledger") {
        self.name = name
        self.qos = qos
        self.root = root
    }

    var isReady: Bool { state.withLock { $0.isSubscribed } }

    /// Answers up to `laziness` packets later, until the connection ends or `isOver`.
    func run(port: UInt16, seed: UInt64, laziness: Int, isOver: () -> Bool = { false }) {
        var generator = SeededGenerator(seed: seed)
        var answers: [[UInt8]] = []
        do {
            let client = try RawClient(port: port)
            try begin(client)
            while !isOver() {
                if client.hasInput {
                    if let answer = try take(client.receive()) { answers.append(answer) }
                    guard answers.count > generator.below(laziness + 1) else { continue }
                } else if answers.isEmpty {
                    poll(nil, 0, 1)
                }
                for answer in answers { try client.send(answer) }
                answers = []
            }
            try client.send(Packet.disconnect)
        } catch {}
    }

    private func begin(_ client: RawClient) throws {
        let isPresent = try client.connect(name, cleanSession: false)
        let isSubscribed = state.withLock { state in
            #expect(isPresent || !state.isSubscribed, "\(name): a subscription that was acknowledged is gone")
            return state.isSubscribed
        }
        guard !isSubscribed else { return }
        try client.subscribe([("\(root)/#", qos)])
        state.withLock { $0.isSubscribed = true }
    }

    private func take(_ packet: Received) throws -> [UInt8]? {
        switch packet.type {
        case 3:
            let isNew = packet.qos < 2 || state.withLock { $0.unreleased.insert(packet.identifier).inserted }
            if isNew { note(packet.text) }
            return packet.qos == 0 ? nil : Packet.acknowledge(packet.qos == 1 ? 0x40 : 0x50, packet.identifier)
        case 6:
            let identifier = UInt16(packet.body[0]) << 8 | UInt16(packet.body[1])
            state.withLock { _ = $0.unreleased.remove(identifier) }
            return Packet.acknowledge(0x70, identifier)
        default: throw Unexpected("\(name) gets \(packet)")
        }
    }

    private func note(_ text: String) {
        let parts = text.split(separator: " ")
        state.withLock { state in
            state.counts[text, default: 0] += 1
            guard state.counts[text] == 1, let number = Int(parts[1]) else { return }
            state.order[String(parts[0]), default: []].append(number)
        }
    }

    /// Whether all that was acknowledged has come.
    func has(_ publishers: [LedgerPublisher]) -> Bool {
        state.withLock { state in
            publishers.allSatisfy { state.order[$0.name]?.count ?? 0 >= $0.ledger.acknowledged }
        }
    }

    /// What must hold at the end: nothing lost, nothing twice at QoS 2, and in order.
    func check(_ publishers: [LedgerPublisher]) {
        let state = state.withLock { $0 }
        for publisher in publishers {
            let (acknowledged, order) = (publisher.ledger.acknowledged, state.order[publisher.name] ?? [])
            let lost = Set(1...max(1, acknowledged)).subtracting(order).sorted()
            #expect(lost.isEmpty, "\(name): \(lost.count) of \(publisher.name) are lost: \(lost.prefix(10))")
            let turns = order.indices.dropLast().filter { order[$0] > order[$0 + 1] }
                .map { order[max(0, $0 - 3)..<min(order.count, $0 + 5)] }
            #expect(turns.isEmpty, "\(name): \(publisher.name) out of order: \(turns.prefix(3))")
            guard min(qos, publisher.qos) == 2 else { continue }
            let twice = order.filter { state.counts["\(publisher.name) \($0)"] ?? 0 > 1 }
            #expect(twice.isEmpty, "\(name): \(twice.count) of \(publisher.name) came twice: \(twice.prefix(10))")
        }
    }
}

/// Subscribes and unsubscribes, and knows what was acknowledged last.
final class LedgerFilters: Sendable {
    private struct State {
        /// By filter, what the broker may think: one thing where it was acknowledged.
        var isSubscribed: [[Bool]] = Array(repeating: [false], count: LedgerFilters.count)
        var hasBeenAnswered = false
    }

    static let count = 20

    let name = "filters"
    private let state = Mutex(State())

    func run(port: UInt16, seed: UInt64, count: SharedCount) {
        var generator = SeededGenerator(seed: seed)
        do {
            let client = try RawClient(port: port)
            try check(client, client.connect(name, cleanSession: false))
            var identifier: UInt16 = 0
            while true {
                let filter = generator.below(Self.count)
                let subscribes = generator.happens(50)
                identifier = identifier == .max ? 1 : identifier + 1
                state.withLock { $0.isSubscribed[filter].append(subscribes) }
                if subscribes {
                    try client.subscribe([("filters/\(filter)", 1)], identifier: identifier)
                } else {
                    let body = Packet.uint16(identifier) + Packet.string("filters/\(filter)")
                    try client.send(Packet.packet(0xa2, body))
                    let answer = try client.receive()
                    guard answer.type == 11 else { throw Unexpected("UNSUBACK expected, not \(answer)") }
                }
                state.withLock { state in
                    state.isSubscribed[filter] = [subscribes]
                    state.hasBeenAnswered = true
                }
                count.increase()
            }
        } catch {}
    }

    /// Publishes to each, and sees which come back.
    private func check(_ client: RawClient, _ isPresent: Bool) throws {
        let expected = state.withLock { state in
            #expect(isPresent || !state.hasBeenAnswered, "\(name): a session that was acknowledged is gone")
            return state.isSubscribed
        }
        for filter in 0..<Self.count { try client.publish("filters/\(filter)", "") }
        try client.send(Packet.pingRequest)
        var found: Set<String> = []
        while true {
            let packet = try client.receive()
            if packet.first == 0xd0 { break }
            if packet.type == 3 { found.insert(String(decoding: packet.topic, as: UTF8.self)) }
        }
        for (filter, states) in expected.enumerated() {
            let isFound = found.contains("filters/\(filter)")
            #expect(states.contains(isFound), "filter \(filter) is \(isFound), and may be \(states)")
            state.withLock { $0.isSubscribed[filter] = [isFound] }
        }
    }
}
