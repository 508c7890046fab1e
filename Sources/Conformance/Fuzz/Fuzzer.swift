internal import Seeded

/// Sends mutated sequences to a broker and watches that it lives and says only what a broker may say.
///
/// Each round is one sequence on up to four connections, of which each has a witness; then a canary must be served. The
/// first finding ends the run, made as small as it can be. Blocks; belongs to one thread.
package final class Fuzzer {
    package struct Options: Sendable {
        package var seed: UInt64 = 0
        /// The number of the first round.
        package var firstRound = 0
        /// Nil: no bound.
        package var rounds: Int?
        package var duration: Duration?
        /// How long the broker may take for an answer.
        package var patience = Duration.seconds(5)
        /// How long a finding is made smaller.
        package var minimising = Duration.seconds(30)
        package init() {}
    }

    package struct Progress: Sendable {
        package var rounds = 0
        package var bytesSent = 0
        package var connections = 0
        package var duration = Duration.zero
    }

    private let mutator: FuzzMutator
    private let options: Options
    private let connect: Connector
    private var plays = 0
    private var canary: FuzzCanary?
    private var remains = Remains()
    private var progress = Progress()

    /// Rounds after which what they have left is cleaned away.
    private static let roundsPerCleaning = 128
    /// Sequences that meet each other's sessions and topics. Not for ever: a broker may make clients wait that throw each
    /// other out of one session again and again.
    private static let playsPerName = 8
    /// How long a step waits for its answer, in rounds where it does.
    private static let pace = Duration.milliseconds(2)

    package init(corpus: [FuzzSequence], options: Options, connect: @escaping Connector) {
        mutator = FuzzMutator(corpus: corpus, seed: options.seed)
        self.options = options
        self.connect = connect
    }

    /// Until a bound is met, `isOver` says so, or something is found. `report` is told now and then.
    package func run(
        every rounds: Int = 1000, isOver: () -> Bool = { false }, report: (Progress) -> Void = { _ in }
    ) -> (progress: Progress, finding: FuzzFinding?) {
        let start = ContinuousClock.now
        var finding: FuzzFinding?
        while finding == nil, !isOver(), progress.rounds < options.rounds ?? .max {
            if let duration = options.duration, progress.duration >= duration { break }
            let round = options.firstRound + progress.rounds
            let sequence = mutator.sequence(round)
            let isPaced = mutator.isPaced(round)
            if let problem = problem(with: sequence, isPaced: isPaced) {
                finding = examine(sequence, isPaced, problem, round)
            }
            progress.rounds += 1
            progress.duration = start.duration(to: .now)
            if progress.rounds % Self.roundsPerCleaning == 0, finding == nil { clean() }
            if progress.rounds % rounds == 0 { report(progress) }
        }
        clean()
        canary?.leave()
        canary = nil
        return (progress, finding)
    }

    // MARK: One round

    /// Plays a sequence, then looks at the canary. Returns what is wrong.
    package func problem(with sequence: FuzzSequence, isPaced: Bool) -> String? {
        if canary == nil {
            let made = FuzzCanary.make(connect, patience: options.patience)
            guard let new = made.canary else { return made.problem }
            canary = new
        }
        var play = Play(connect: connect, patience: options.patience, pace: isPaced ? Self.pace : nil)
        let problem = play.problem(with: sequence.renamed(plays / Self.playsPerName)) ?? canary?.check()
        plays += 1
        for connection in play.all { remains.note(connection.witness) }
        progress.bytesSent += sequence.byteCount
        progress.connections += play.all.count
        // Another one for whoever comes next: this one may have been the victim.
        if problem != nil { canary = nil }
        return problem
    }

    // MARK: A finding

    private func examine(
        _ sequence: FuzzSequence, _ isPaced: Bool, _ problem: String, _ round: Int
    ) -> FuzzFinding {
        var finding = FuzzFinding(seed: options.seed, round: round, problem: problem, sequence: sequence)
        let deadline = ContinuousClock.now + options.minimising
        func repeats(_ sequence: FuzzSequence) -> String? {
            clean()
            return self.problem(with: sequence, isPaced: isPaced)
        }
        // A broker that is gone may be started again by somebody; if not, there is nothing to try.
        func isGone() -> Bool { !isReachable(until: min(deadline, .now + options.patience), lingers: true) }
        guard !isGone() else {
            finding.isGone = true
            return finding
        }
        let found = finding
        let divided = sequence.divided
        guard let origin = [sequence, divided, sequence, divided].first(where: { repeats($0) != nil }) else {
            return finding
        }
        finding.isRepeatable = true
        finding.sequence = repeats(divided) == nil ? origin : divided
        minimise(&finding, until: deadline, repeats)
        guard isGone() else { return finding }
        finding = found  // What seemed to happen again was its absence.
        finding.isGone = true
        return finding
    }

    /// Leaves out as many steps as can be left out, first many at once.
    private func minimise(
        _ finding: inout FuzzFinding, until deadline: ContinuousClock.Instant, _ repeats: (FuzzSequence) -> String?
    ) {
        var count = max(1, finding.sequence.steps.count / 2)
        while true {
            var isSmaller = false
            var place = 0
            while place < finding.sequence.steps.count, finding.sequence.steps.count > 1 {
                guard ContinuousClock.now < deadline, isReachable(until: deadline) else { return }
                var smaller = finding.sequence
                smaller.steps.removeSubrange(place..<min(place + count, smaller.steps.count))
                if !smaller.steps.isEmpty, let problem = repeats(smaller) {
                    (finding.sequence, finding.problem, isSmaller) = (smaller, problem, true)
                } else {
                    place += count
                }
            }
            guard count > 1 || isSmaller else { return }
            count = max(1, count / 2)
        }
    }

    /// Whether the broker accepts connections. One that has just been killed may still seem to: such a connection is ended
    /// while one `lingers` over it.
    private func isReachable(until deadline: ContinuousClock.Instant, lingers: Bool = false) -> Bool {
        while true {
            if let stream = try? connect() {
                defer { stream.reset() }
                if !lingers || stream.receive(until: .now + .milliseconds(300)) != .closed { return true }
            }
            guard ContinuousClock.now < deadline else { return false }
            Pause.until(min(deadline, .now + .milliseconds(100)))
        }
    }

    // MARK: Cleaning

    /// Ends the sessions and clears the retained messages that the fuzz has made, as far as its packets say.
    private func clean() {
        let deadline = ContinuousClock.now + options.patience
        func play(_ client: [UInt8], _ packets: [Frame]) {
            guard let stream = try? connect() else { return }
            let frames = [Frame(.connect, Wire.Connect(clientIdentifier: client).body)] + packets
            stream.send((frames + [Frame(.disconnect)]).flatMap { $0.bytes() })
            while case .bytes = stream.receive(until: deadline) {}
        }
        if !remains.topics.isEmpty {
            play(
                [],
                remains.topics.map { topic in
                    Wire.frame(
                        of: Packet.Publication(topic: topic, payload: [], isRetained: true))
                })
        }
        for client in remains.sessions { play(client, []) }
        remains = Remains()
    }
}

/// What outlives the connections of the fuzzer.
private struct Remains {
    var sessions = Set<[UInt8]>()
    var topics = Set<[UInt8]>()

    mutating func note(_ witness: FuzzWitness) {
        if let session = witness.lastingSession { sessions.insert(session) }
        topics.formUnion(witness.retainedTopics)
    }
}

/// The connections of one sequence.
private struct Play {
    let connect: Connector
    let patience: Duration
    let pace: Duration?
    /// Those in use, by their place in the sequence.
    private var open: [Int: FuzzConnection] = [:]
    private(set) var all: [FuzzConnection] = []

    init(connect: @escaping Connector, patience: Duration, pace: Duration?) {
        self.connect = connect
        self.patience = patience
        self.pace = pace
    }

    mutating func problem(with sequence: FuzzSequence) -> String? {
        for step in sequence.steps {
            if let problem = perform(step) { return problem }
        }
        return finish()
    }

    private mutating func connection(_ place: Int) throws -> FuzzConnection {
        if let connection = open[place] { return connection }
        let connection = FuzzConnection(try connect())
        open[place] = connection
        all.append(connection)
        return connection
    }

    private mutating func perform(_ step: FuzzSequence.Step) -> String? {
        let connection: FuzzConnection
        do {
            connection = try self.connection(step.connection)
        } catch {
            return "no connection to the broker: \(error)"
        }
        switch step.action {
        case .answer:
            connection.answer()
            return connection.read(until: .now)
        case .send(let bytes):
            let awaitsAnswer = connection.send(bytes)
            noteTakeover(by: connection)
            // Always read a little, so that neither side waits for the other with full buffers.
            return connection.read(until: awaitsAnswer ? .now + (pace ?? .zero) : .now)
        case .close:
            connection.finish()
            open[step.connection] = nil
            return connection.readToEnd(until: .now + patience)
        case .reset:
            connection.reset()
            open[step.connection] = nil
            return nil
        }
    }

    /// Two connections with one Client Identifier: only the last is sure to stay.
    private func noteTakeover(by connection: FuzzConnection) {
        guard let client = connection.witness.clientIdentifier, !client.isEmpty else { return }
        for other in all where other !== connection && other.witness.clientIdentifier == client {
            other.mayBeGone()
            connection.mayBeGone()
        }
    }

    /// Those that must be closed by the broker are awaited as they are; the others are closed by us.
    private mutating func finish() -> String? {
        let rest = open.sorted { $0.key < $1.key }.map(\.value)
        open = [:]
        if let pace {
            for connection in rest where connection.isAnswering {
                if let problem = connection.read(until: .now + pace) { return problem }
            }
        }
        for connection in rest { connection.finish() }
        let deadline = ContinuousClock.now + patience
        for connection in rest { if let problem = connection.readToEnd(until: deadline) { return problem } }
        return nil
    }
}

extension FuzzMutator {
    /// Whether each step waits a little for what it asks, so that the order on all connections is that of the steps.
    func isPaced(_ round: Int) -> Bool {
        var generator = generator(~round)
        return generator.happens(50)
    }
}

/// Something that a broker must not do, and the bytes that made it.
package struct FuzzFinding: Sendable {
    package let seed: UInt64
    package let round: Int
    package var problem: String
    package var sequence: FuzzSequence
    /// It happened again with the sequence alone, which is then as small as it could be made.
    package var isRepeatable = false
    /// The broker accepts no connections any more.
    package var isGone = false
}

extension FuzzFinding: CustomStringConvertible {
    /// For a person, with an entry for the corpus.
    package var description: String {
        let manner =
            isGone
            ? "The broker accepts no connections any more: start it again, and try some rounds before this one, too."
            : isRepeatable
                ? "It happens again with these packets alone."
                : "It did not happen again: it may need what earlier rounds left, or luck."
        return """
            seed \(seed), round \(round) (--seed \(seed) --round \(round) --rounds 1): \(problem)
            \(manner) An entry for conformance/corpus.txt:

            \(sequence.text(problem))
            """
    }
}

extension Fuzzer.Progress: CustomStringConvertible {
    package var description: String {
        let seconds = max(duration / .seconds(1), 0.001)
        return "\(rounds) rounds (\(Int(Double(rounds) / seconds)) per second), \(connections) connections, "
            + "\(bytesSent) bytes"
    }
}
