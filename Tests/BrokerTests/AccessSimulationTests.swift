import Access
import Locks
import MQTT
import Seeded
import Testing

@testable import Broker

/// Clients that do what they like under rules that change, and a naive model of who may get what. Whoever gets a message
/// has the right to it at that moment; whoever has the right, and asked for it, gets it.
private final class AccessSimulation {
    private struct Rule {
        let user: String
        let word: String
        let topic: String
    }

    private struct Message {
        let topic: String
        let payload: String
        var isSent = false
    }

    private struct Session {
        var user: String
        var filters: [String] = []
        var messages: [Message] = []
        var isClean: Bool
        var inFlight: Int { messages.count { $0.isSent } }
    }

    private struct Client {
        var connection: TestConnection?
        var user = ""
        var session: Session?
        var expected: [String] = []
        /// What it has got and not acknowledged.
        var owed: [(identifier: PacketIdentifier, payload: String)] = []
        var isConnected = false
    }

    private static let users = ["ann", "bob", "eve"]
    private static let topics = ["a/1", "a/2", "b/1", "b/2", "a"]
    private static let filters = topics + ["a/+", "+/1", "#", "a/#", "+/+"]
    private static let window = 3

    private(set) var problem: String?
    private(set) var delivered = 0
    private(set) var withheld = 0
    private(set) var revoked = 0
    private let shards: Int
    private var random: SeededGenerator
    private let broker: ShardHarness
    private var clients = Array(repeating: Client(), count: 5)
    private var rules: [Rule] = []
    private var present = users
    private var publishers: [String: String] = [:]
    private var count = 0

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        shards = 1 + random.below(3)
        var limits = Limits.withoutDamping
        limits.inFlightMessages = Self.window
        limits.refusesDeniedSubscriptions = false
        rules = Self.rules(&random)
        broker = ShardHarness(shards: shards, limits: limits, access: Self.access(rules, present), seed: seed)
        broker.throttle.withLock { $0.attempts = 1_000_000 }  // Who may not connect tries often here.
        broker.observe = { [unowned self] in sent($1, on: $0) }
    }

    deinit { for client in clients { client.connection?.drop() } }

    // MARK: Rules

    private static func rules(_ random: inout SeededGenerator) -> [Rule] {
        var rules: [Rule] = []
        for user in users {
            for _ in 0..<(1 + random.below(5)) {
                let word = random.element(of: ["read", "write", "readwrite", "readwrite", "readwrite", "deny"])
                rules.append(Rule(user: user, word: word, topic: random.element(of: filters)))
            }
        }
        return rules
    }

    private static func access(_ rules: [Rule], _ present: [String]) -> AccessControl {
        AccessWorld.control { listener in
            listener.allowsAnonymous = false
            listener.passwordFile = passwordFile(present)
            let lines = rules.map { "user \($0.user)\ntopic \($0.word) \($0.topic)\n" }.joined()
            listener.policy = (try? Policy.parse(AccessWorld.bytes(lines), file: "acl"))!
        }
    }

    private static let files: [[String]: PasswordFile] = {
        var files: [[String]: PasswordFile] = [:]
        for mask in 0..<8 {
            let names = users.indices.filter { mask & 1 << $0 != 0 }.map { users[$0] }
            let lines = names.map { AccessWorld.line($0) + "\n" }.joined()
            files[names] = (try? PasswordFile.parse(AccessWorld.bytes(lines), file: "users"))!
        }
        return files
    }()

    private static func passwordFile(_ present: [String]) -> PasswordFile { files[present]! }

    /// Each filter and topic that match: asked so often that looking each time takes minutes.
    private static let matching = Set(
        filters.flatMap { filter in topics.filter { NaiveDirectory.matches(filter, $0) }.map { "\(filter) \($0)" } })

    private static func matches(_ filter: String, _ topic: String) -> Bool { matching.contains("\(filter) \(topic)") }

    private func may(_ user: String, _ access: String, _ topic: String) -> Bool {
        let words = rules.filter { $0.user == user && Self.matches($0.topic, topic) }.map(\.word)
        return !words.contains("deny") && words.contains { $0 == access || $0 == "readwrite" }
    }

    // MARK: Acting

    func run(actions: Int) {
        for _ in 0..<actions where problem == nil {
            if random.happens(15) { changeRules() }
            act()
            broker.settlesAtOnce = true
            broker.settle()
            check()
        }
    }

    /// What follows may come before all shards have looked at whom the new rules concern.
    private func changeRules() {
        if random.happens(70) { rules = Self.rules(&random) }
        if random.happens(40) { present = Self.users.filter { _ in random.happens(85) } }
        broker.settlesAtOnce = random.happens(50)
        broker.adopt(Self.access(rules, present))
        for index in clients.indices where clients[index].isConnected && !present.contains(clients[index].user) {
            revoked += 1
            leave(index)
        }
    }

    private func act() {
        let index = random.below(clients.count)
        guard clients[index].isConnected else { return connect(index) }
        guard let connection = clients[index].connection else { return }
        switch random.below(20) {
        case 0: connect(index)
        case 1:
            connection.drop()
            leave(index)
        case 2:
            connection.disconnect()
            leave(index)
        case 3...6:
            let filter = random.element(of: Self.filters)
            connection.subscribe((filter, .atLeastOnce))
            if clients[index].session?.filters.contains(filter) == false {
                clients[index].session?.filters.append(filter)
            }
        case 7:
            guard let filter = clients[index].session?.filters.first else { return }
            connection.unsubscribe(filter)
            clients[index].session?.filters.removeFirst()
        case 8...10:
            for _ in 0...random.below(4) { acknowledge(index) }
        case 11: publishRetained(index)
        default: publish(index)
        }
    }

    private func connect(_ index: Int) {
        let user = random.element(of: Self.users)
        let (isClean, shard) = (random.happens(15), random.below(shards))
        let connection = broker.open(on: shard)
        let before = clients[index]
        // Before it is sent: what it brings comes at once.
        if present.contains(user) {
            if clients[index].isConnected { leave(index) }
            clients[index].connection = connection
            clients[index].user = user
            clients[index].isConnected = true
            if isClean || clients[index].session == nil {
                clients[index].session = Session(user: user, isClean: isClean)
            }
            clients[index].session?.user = user
            clients[index].session?.isClean = isClean
            resend(index)
        }
        connection.sendConnect("client \(index)", cleanSession: isClean, userName: user, password: "secret")
        guard present.contains(user) else {
            broker.settle()
            if !connection.isClosed { fail("\(user) may not connect") }
            if before.isConnected, before.connection?.isClosed != false { fail("client \(index) was disturbed") }
            return
        }
    }

    private func leave(_ index: Int) {
        clients[index].isConnected = false
        clients[index].owed = []
        if clients[index].session?.isClean == true { clients[index].session = nil }
    }

    private func publish(_ index: Int) {
        count += 1
        let (topic, payload) = (random.element(of: Self.topics), "\(count)")
        if may(clients[index].user, "write", topic) { route(Message(topic: topic, payload: payload)) }
        clients[index].connection?.publish(topic, payload, .atLeastOnce)
    }

    private func publishRetained(_ index: Int) {
        count += 1
        publishers["r\(count)"] = clients[index].user
        clients[index].connection?.publish(random.element(of: Self.topics), "r\(count)", isRetained: true)
    }

    private func acknowledge(_ index: Int) {
        guard !clients[index].owed.isEmpty, let connection = clients[index].connection else { return }
        let (identifier, payload) = clients[index].owed.removeFirst()
        clients[index].session?.messages.removeAll { $0.payload == payload }
        pump(index)
        connection.acknowledge(identifier)
    }

    // MARK: The model

    private func route(_ message: Message) {
        for index in clients.indices {
            guard let session = clients[index].session else { continue }
            guard session.filters.contains(where: { Self.matches($0, message.topic) }) else { continue }
            guard may(session.user, "read", message.topic) else {
                withheld += 1
                continue
            }
            clients[index].session?.messages.append(message)
            pump(index)
        }
    }

    private func resend(_ index: Int) {
        guard var session = clients[index].session else { return }
        session.messages.removeAll { $0.isSent && !may(session.user, "read", $0.topic) }
        clients[index].expected += session.messages.filter(\.isSent).map(\.payload)
        clients[index].session = session
        pump(index)
    }

    private func pump(_ index: Int) {
        guard clients[index].isConnected, var session = clients[index].session else { return }
        var place = 0
        while place < session.messages.count, session.inFlight < Self.window {
            if session.messages[place].isSent {
                place += 1
            } else if may(session.user, "read", session.messages[place].topic) {
                session.messages[place].isSent = true
                clients[index].expected.append(session.messages[place].payload)
            } else {
                session.messages.remove(at: place)
                withheld += 1
            }
        }
        clients[index].session = session
    }

    // MARK: Watching

    private func sent(_ packet: ControlPacket, on connection: TestConnection) {
        guard let delivery = TestConnection.deliveries(in: [packet]).first else { return }
        guard let index = clients.firstIndex(where: { $0.connection === connection }) else {
            return fail("\(delivery) for somebody who is gone")
        }
        let user = clients[index].user
        if !clients[index].isConnected { fail("\(delivery) for client \(index), who is gone") }
        if !may(user, "read", delivery.topic) { fail("\(delivery) for \(user), who may not read it") }
        if let publisher = publishers[delivery.payload], !may(publisher, "write", delivery.topic) {
            fail("\(delivery) of \(publisher), who may not write it")
        }
        if delivery.qos == .atLeastOnce { clients[index].owed.append((delivery.packetIdentifier, delivery.payload)) }
        delivered += 1
    }

    private func check() {
        for index in clients.indices {
            let client = clients[index]
            if client.isConnected != (client.connection?.isClosed == false) {
                fail("client \(index) (\(client.user)) is \(client.isConnected ? "gone" : "connected")")
            }
            let got = client.connection?.takePayloads().filter { !$0.hasPrefix("r") } ?? []
            if got != client.expected { fail("client \(index) (\(client.user)) got \(got), not \(client.expected)") }
            clients[index].expected = []
        }
    }

    private func fail(_ text: String) { problem = problem ?? "action \(count): \(text)" }
}

@Suite struct `Clients under rules that change` {
    @Test func `get what they may read at that moment, all of it and nothing else`() {
        var (delivered, withheld, revoked) = (0, 0, 0)
        for seed in 1...60 as ClosedRange<UInt64> {
            let simulation = AccessSimulation(seed: seed)
            simulation.run(actions: 150)
            if let problem = simulation.problem {
                Issue.record("seed \(seed): \(problem)")
                return
            }
            delivered += simulation.delivered
            withheld += simulation.withheld
            revoked += simulation.revoked
        }
        #expect(delivered > 2_000 && withheld > 500 && revoked > 100, "\(delivered) \(withheld) \(revoked)")
    }
}
