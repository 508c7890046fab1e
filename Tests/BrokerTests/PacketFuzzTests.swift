import Conformance
import MQTT
import Seeded
import Testing

@testable import Broker

/// The sequences of `martlet conformance --fuzz` without sockets. Goal: whatever packets come, in whatever order, the
/// deciding code neither traps, nor sends what a broker must not send, nor keeps what nobody needs. Method: mutated
/// sequences go to one to three shards, whose mail comes when the seed says, and each connection has a witness; when
/// all sessions are ended and all retained messages cleared, nothing may be left. Each batch is a seed and runs in a
/// process of its own, so that a trap fails the test that names its seed.
struct `Fuzzing the deciding code` {
    static let batches = 6
    static let rounds = 400

    @Test(arguments: 1...UInt64(batches))
    func `never traps, and says only what a broker may say [MQTT-4.8.0-1]`(_ seed: UInt64) async {
        await #expect(processExitsWith: .success, "seed \(seed)") { [seed] in
            let corpus = try FuzzSequence.embeddedCorpus(withCases: false)
            let mutator = FuzzMutator(corpus: corpus, seed: seed)
            var broker: FuzzedShards?
            for round in 0..<`Fuzzing the deciding code`.rounds {
                // Some rounds with what the earlier ones have left.
                if round.isMultiple(of: 20) || broker == nil {
                    if let rest = broker?.restOnceCleaned() {
                        Issue.record("seed \(seed), before round \(round): \(rest)")
                        return
                    }
                    broker = FuzzedShards(shards: 1 + Int(seed) % 3, seed: seed &+ UInt64(round))
                }
                let sequence = mutator.sequence(round)
                if let problem = broker?.problem(with: sequence) {
                    Issue.record("seed \(seed), round \(round):\n\(sequence.text(problem))")
                    return
                }
            }
        }
    }
}

/// A `ShardHarness` that sequences are played on, a witness at each connection.
private final class FuzzedShards {
    private final class Client {
        let connection: TestConnection
        var witness = FuzzWitness()
        var isAnswering = false
        /// What was sent and is no whole packet yet.
        var pending: [UInt8] = []
        var isJudged = false

        init(_ connection: TestConnection) { self.connection = connection }
    }

    private let harness: ShardHarness
    private let shards: Int
    private var generator: SeededGenerator
    /// Of the sequence that is played, by the tag of the connection.
    private var clients: [Client] = []
    private var open: [Int: Client] = [:]
    private var answers: [(Client, Frame)] = []
    private var problem: String?
    private var lastingSessions = Set<[UInt8]>()
    private var retainedTopics = Set<[UInt8]>()

    init(shards: Int, seed: UInt64) {
        self.shards = shards
        generator = SeededGenerator(seed: seed)
        var limits = Limits.withoutDamping
        limits.inFlightMessages = generator.element(of: [1, 3, 20])
        limits.queuedMessages = generator.element(of: [0, 5, 1000])
        harness = ShardHarness(shards: shards, limits: limits, seed: seed)
        harness.settlesAtOnce = false
        harness.observe = { [unowned self] in sent($1, on: $0) }
    }

    func problem(with sequence: FuzzSequence) -> String? {
        (clients, open, answers, problem) = ([], [:], [], nil)
        for step in sequence.steps where problem == nil {
            perform(step)
            for _ in 0..<generator.below(6) { carryOn() }
        }
        settle()
        // Time for the connections that have said nothing, and for keep-alives.
        if generator.happens(10) {
            for client in clients { client.witness.mayBeGone() }
            harness.advance(Int64(generator.below(30_000)))
        }
        for client in open.values.sorted(by: { $0.connection.tag < $1.connection.tag }) { close(client) }
        settle()
        for client in clients {
            judge(client)
            if let session = client.witness.lastingSession { lastingSessions.insert(session) }
            retainedTopics.formUnion(client.witness.retainedTopics)
        }
        return problem
    }

    /// Ends all sessions and clears all retained messages; says what is there nevertheless.
    func restOnceCleaned() -> String? {
        harness.observe = nil
        harness.settlesAtOnce = true
        let cleaner = harness.connect("cleaner")
        for topic in retainedTopics {
            let message = ApplicationMessage(topic: topic.span, payload: [UInt8]().span)
            cleaner.send(.publish(message, qos: .atMostOnce, isRetained: true))
        }
        cleaner.disconnect()
        for session in lastingSessions {
            let connection = harness.open(on: generator.below(shards))
            connection.send(.connect(Connect(clientIdentifier: session)))
            connection.disconnect()
        }
        let directory = harness.figures
        let counts = [
            directory.sessionCount, directory.connectedSessionCount, directory.subscriptionCount,
            directory.sharedSubscriptionCount, directory.retainedCount, harness.counters.connections,
        ]
        let isEmpty = counts.allSatisfy { $0 == 0 }
        return isEmpty ? nil : "sessions, connected ones, subscriptions, shared ones, retained, connections: \(counts)"
    }

    private func fail(_ text: String?) { problem = problem ?? text }

    private func perform(_ step: FuzzSequence.Step) {
        let client = open[step.connection] ?? connect(step.connection)
        switch step.action {
        case .answer: client.isAnswering = true
        case .send(let bytes): send(bytes, from: client)
        case .close, .reset:
            // Nobody looks at what comes on a connection that was reset.
            if step.action == .close { settle() } else { client.isJudged = true }
            close(client)
            open[step.connection] = nil
        }
    }

    private func connect(_ place: Int) -> Client {
        let client = Client(harness.open(on: generator.below(shards)))
        client.connection.tag = clients.count
        clients.append(client)
        open[place] = client
        return client
    }

    private func send(_ bytes: [UInt8], from client: Client) {
        client.witness.sent(bytes)
        noteTakeover(by: client)
        client.pending += bytes
        while !client.pending.isEmpty, !client.connection.isClosed {
            switch Frame.cut(client.pending) {
            case .frame(_, let byteCount):
                client.connection.send(Array(client.pending.prefix(byteCount)))
                client.pending.removeFirst(byteCount)
            case .endlessLength:
                client.connection.send(Array(client.pending.prefix(5)))
                client.pending = []
            case .incomplete:
                if client.connection.unread.isEmpty, (try? FixedHeader(client.pending.span, at: 0)) != nil {
                    do { try harness.announce(client.pending, from: client.connection) } catch { fail("\(error)") }
                }
                return
            }
        }
    }

    private func noteTakeover(by client: Client) {
        guard let name = client.witness.clientIdentifier, !name.isEmpty else { return }
        for other in clients where other !== client && other.witness.clientIdentifier == name {
            other.witness.mayBeGone()
            client.witness.mayBeGone()
        }
    }

    /// A packet on its way to a client; the client of an earlier sequence is gone.
    private func sent(_ packet: ControlPacket, on connection: TestConnection) {
        guard let client = clients.first(where: { $0.connection === connection }) else {
            return fail("\(packet) for a connection that is gone")
        }
        var bytes: [UInt8] = []
        packet.encode(into: &bytes)
        guard case .frame(let frame, bytes.count) = Frame.cut(bytes) else { return fail("\(packet) is no packet") }
        fail(client.witness.came(frame))
        if client.isAnswering, let answer = frame.packet.answer { answers.append((client, answer)) }
    }

    private func carryOn() {
        harness.step()
        while !answers.isEmpty {
            let (client, answer) = answers.removeFirst()
            // Behind half a packet it would be the rest of that.
            if !client.connection.isClosed, client.pending.isEmpty { send(answer.bytes(), from: client) }
        }
    }

    private func settle() {
        repeat {
            carryOn()
            harness.settle()
        } while !answers.isEmpty && problem == nil
    }

    private func close(_ client: Client) {
        judge(client)
        // One that is on its way to another shard arrives there first.
        while client.connection.place == .moving { harness.step() }
        client.connection.drop()
    }

    /// Once all is done that its client asked for.
    private func judge(_ client: Client) {
        guard !client.isJudged else { return }
        client.isJudged = true
        if client.witness.mustBeClosed, !client.connection.isClosed { fail(client.witness.staysOpen) }
        fail(client.witness.closed([], endedByUs: !client.connection.isClosed))
    }
}
