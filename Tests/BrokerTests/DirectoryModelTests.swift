import MQTT
import Seeded
import Testing

@testable import Broker

/// A directory and its naive model, which are asked the same and must answer the same.
private struct Twins {
    static let clients = (0..<8).map { "client \($0)" }

    let shards: Int
    var directory: Directory
    var model = NaiveDirectory()
    var sessions: [String: SessionReference] = [:]
    var generator: SeededGenerator
    var payload = 0

    init(seed: UInt64) {
        generator = SeededGenerator(seed: seed)
        shards = 1 + generator.below(3)
        directory = Directory(shards: shards, seed: seed)
    }

    /// One random step; what was wrong with it, if anything was.
    mutating func step() -> String? {
        let client = generator.element(of: Self.clients)
        switch generator.below(100) {
        case 0..<30:
            let (filter, qos) = (NaiveDirectory.randomFilter(&generator), generator.element(of: QoS.allCases))
            let session = session(of: client)
            var cursor = directory.subscribe(session, filter, qos)
            model.subscribe(client, filter, qos)
            defer { if cursor != nil { directory.close(&cursor!) } }
            guard generator.happens(50) else { return nil }
            return compareRetained(filter, &cursor)
        case 30..<45:
            guard let session = sessions[client] else { return nil }
            let known = model.subscriptions.filter { $0.client == client }.map(\.filter)
            let filter =
                known.isEmpty || generator.happens(20)
                ? NaiveDirectory.randomFilter(&generator) : generator.element(of: known)
            directory.unsubscribe(session, filter)
            model.unsubscribe(client, filter)
        case 45..<48: remove(client)
        case 48..<58:
            let session = session(of: client)
            let isConnected = generator.happens(50)
            directory.setConnected(session, isConnected)
            model.connected.removeAll { $0 == client }
            if isConnected { model.connected.append(client) }
        case 58..<75:
            let (topic, qos) = (NaiveDirectory.randomTopic(&generator), generator.element(of: QoS.allCases))
            payload += 1
            let text = generator.happens(40) ? "" : "\(payload)"
            let receivers = directory.retain(topic, text, qos)
            model.retain(topic, text, qos)
            return compare(receivers, topic)
        default:
            let topic = NaiveDirectory.randomTopic(&generator)
            return compare(directory.match(topic), topic)
        }
        return compareCounts()
    }

    private mutating func session(of client: String) -> SessionReference {
        if let known = sessions[client] { return known }
        let session = directory.session(of: client, on: generator.below(shards))
        sessions[client] = session
        return session
    }

    mutating func remove(_ client: String) {
        guard let session = sessions.removeValue(forKey: client) else { return }
        while directory.removeSubscriptions(of: session, atMost: 1 + generator.below(5)) {}
        directory.remove(session)
        model.remove(client)
    }

    private func client(of session: SessionReference) -> String {
        Self.clients.first { sessions[$0] == session } ?? "nobody"
    }

    /// Each ordinary receiver once at its highest QoS, and one member for each group.
    private func compare(_ receivers: [Receiver], _ topic: String) -> String? {
        let got = receivers.map { Member(client: client(of: $0.session), qos: $0.maximumQoS) }
        var wanted = model.receivers(of: topic).map { [Member(client: $0.key, qos: $0.value)] }
        wanted += model.groups(of: topic).values.map { $0.map { Member(client: $0.client, qos: $0.qos) } }
        return Self.isFair(got, to: wanted) ? nil : "\(topic) goes to \(got) instead of one of each of \(wanted)"
    }

    private struct Member: Equatable {
        let client: String
        let qos: QoS
    }

    /// Whether those who got a message are one of each list (bipartite matching by augmenting paths).
    private static func isFair(_ got: [Member], to lists: [[Member]]) -> Bool {
        guard got.count == lists.count else { return false }
        var owner = [Int?](repeating: nil, count: got.count)
        func serve(_ list: Int, _ tried: inout Set<Int>) -> Bool {
            for index in got.indices where lists[list].contains(got[index]) {
                guard tried.insert(index).inserted else { continue }
                if let other = owner[index], !serve(other, &tried) { continue }
                owner[index] = list
                return true
            }
            return false
        }
        return lists.indices.allSatisfy { list in
            var tried = Set<Int>()
            return serve(list, &tried)
        }
    }

    private mutating func compareRetained(_ filter: String, _ cursor: inout RetainedCursor?) -> String? {
        var found: [RetainedMessage] = []
        if cursor != nil {
            guard !filter.hasPrefix("$share/") else { return "\(filter) reads what is retained" }
            while !cursor!.isFinished { found += directory.read(&cursor!, steps: 1 + generator.below(5)) }
        }
        let expected =
            filter.hasPrefix("$share/") ? [] : model.retained(for: filter)
        let texts = found.map { "\($0.topic)=\($0.payload) QoS \($0.qos.rawValue)" }.sorted()
        let expectedTexts = expected.map { "\($0.topic)=\($0.payload) QoS \($0.qos.rawValue)" }.sorted()
        return texts == expectedTexts ? nil : "\(filter) finds \(texts) instead of \(expectedTexts)"
    }

    func compareCounts() -> String? {
        let shared = model.subscriptions.count { $0.group != nil }
        let counts = [
            ("subscriptions", directory.subscriptionCount, model.subscriptions.count),
            ("shared subscriptions", directory.sharedSubscriptionCount, shared),
            ("retained messages", directory.retainedCount, model.retainedCount),
            ("sessions", directory.sessionCount, sessions.count),
            ("connected sessions", directory.connectedSessionCount, model.connected.count),
        ]
        guard let wrong = counts.first(where: { $0.1 != $0.2 }) else { return nil }
        return "\(wrong.1) \(wrong.0) instead of \(wrong.2)"
    }

    mutating func removeEverything() {
        for client in Self.clients { remove(client) }
        for topic in model.retainedTopics {
            directory.retain(topic, "")
            model.retain(topic, "", .atMostOnce)
        }
    }
}

@Suite struct `The directory` {
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `answers as a naive model does, and is empty when all is taken away`(_ seed: UInt64) {
        var twins = Twins(seed: seed)
        for round in 1...3 {
            for step in 1...2000 {
                if let problem = twins.step() {
                    Issue.record("seed \(seed), round \(round), step \(step): \(problem)")
                    return
                }
            }
            twins.removeEverything()
            #expect(twins.compareCounts() == nil, "seed \(seed)")
            #expect(twins.directory.subscriptionCount == 0)
            #expect(twins.directory.retainedCount == 0)
            #expect(twins.directory.sharedSubscriptionCount == 0)
            #expect(twins.directory.sessionCount == 0)
            #expect(twins.directory.subscriptionNodes == 0, "seed \(seed)")
            #expect(twins.directory.retainedNodes == 0, "seed \(seed)")
        }
    }

    /// Cursors that stand still while their tree changes; then each message that was there all the time is found once.
    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `lets cursors read on whatever changes around them [MQTT-3.3.1-6]`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var directory = Directory(shards: 1, seed: seed)
        var model = NaiveDirectory()
        let session = directory.session(of: "a")
        func change() {
            let (topic, payload) = (
                NaiveDirectory.randomTopic(&generator), generator.happens(40) ? "" : "\(generator.next())"
            )
            directory.retain(topic, payload)
            model.retain(topic, payload, .atMostOnce)
        }
        for _ in 0..<60 {
            for _ in 0..<30 { change() }
            var filter = NaiveDirectory.randomFilter(&generator)
            while filter.hasPrefix("$share/") { filter = NaiveDirectory.randomFilter(&generator) }
            guard var cursor = directory.subscribe(session, filter) else { continue }
            let before = model.retained(for: filter).map(\.payload)
            var found: [String] = []
            while !cursor.isFinished {
                found += directory.read(&cursor, steps: 1 + generator.below(3), limit: 1 + generator.below(3))
                    .map(\.payload)
                for _ in 0..<generator.below(4) { change() }
                if generator.happens(1) { directory.close(&cursor) }
            }
            #expect(Set(found).count == found.count, "seed \(seed): \(filter) finds one twice")
            #expect(Set(found).isSubset(of: before), "seed \(seed): \(filter) finds what came live")
        }
        for topic in model.retainedTopics { directory.retain(topic, "") }
        #expect(directory.retainedNodes == 0, "seed \(seed)")
    }

    @Test func `keeps a session's home and gives it to nobody else`() {
        var directory = Directory(shards: 3, seed: 1)
        let client = ClientIdentifier("a")
        guard case .here(let session, isNew: true) = directory.home(of: client, askedFrom: 2) else {
            Issue.record("a new session is where it is placed")
            return
        }
        #expect(directory.home(of: client, askedFrom: 0) == .elsewhere(shard: 2))
        #expect(directory.home(of: client, askedFrom: 2) == .here(session, isNew: false))
        directory.remove(session)
        let next = directory.session(of: "b", on: 2)
        #expect(next.number == session.number && next.incarnation != session.incarnation)
    }

    @Test func `gives back the numbers of thousands of sessions`() {
        var directory = Directory(shards: 4, seed: 1)
        var numbers = Set<SessionNumber>()
        for round in 0..<3 {
            let sessions = (0..<1000).map { directory.session(of: "\(round) \($0)", on: $0 % 4) }
            #expect(Set(sessions).count == 1000)
            for (index, session) in sessions.enumerated() { #expect(Int(session.number) % 4 == index % 4) }
            numbers.formUnion(sessions.map(\.number))
            for session in sessions { directory.remove(session) }
        }
        #expect(numbers.count == 1000)
    }
}
