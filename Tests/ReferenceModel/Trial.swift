/// A broker to which a program can be done. Clients are numbered from 0 to `ClientProgram.clients`.
package protocol BrokerDriver: AnyObject {
    /// Does these things at once, waits until nothing is under way, and says what each client has seen meanwhile.
    func perform(_ actions: [Action]) throws -> [[Seen]]
    /// Lets time pass, in which these clients are too silent for too long.
    func advance(seconds: Int, expiring: [Int]) throws -> [[Seen]]
    /// Whether what a connection was sent last may be lost when the broker closes it.
    var mayLoseTheLast: Bool { get }
}

/// Where a broker did what it must not do.
package struct Difference: CustomStringConvertible, Sendable {
    package let description: String
}

/// One run of a program against a broker and the model beside it.
package struct Trial {
    private struct Client {
        var isOpen = false
        var isConnected = false
        var byHand = false
        var isFull = false
        var unanswered: [Sent] = []
    }

    private let program: ClientProgram
    private let driver: any BrokerDriver
    private var clients = Array(repeating: Client(), count: ClientProgram.clients)
    /// The states in which the broker may be.
    private var states: [ReferenceBroker]
    /// Packets that the clients have seen.
    package private(set) var packets = 0
    /// The program was left before its end, since there were too many states to tell apart.
    package private(set) var wasLeft = false

    package init(_ program: ClientProgram, on driver: any BrokerDriver) {
        self.program = program
        self.driver = driver
        states = [
            ReferenceBroker(clients: ClientProgram.clients, limits: program.limits, delaysMail: program.shards > 1)
        ]
    }

    /// Runs the program; nil when the broker did what the model says.
    package mutating func run() throws -> Difference? {
        for batch in program.batches {
            do throws(Exploration.Failure) {
                if let difference = try run(batch) { return difference }
            } catch {
                wasLeft = true
                return nil
            }
        }
        return nil
    }

    private mutating func run(_ batch: [ClientProgram.Step]) throws(Exploration.Failure) -> Difference? {
        if case .advance(let seconds) = batch.first { return try advance(seconds) }
        if batch.contains(.stop) || batch.contains(.crash) {
            return try perform(batch.contains(.stop) ? [.stop] : [.crash])
        }
        let actions = actions(for: batch)
        guard !actions.isEmpty else { return nil }
        if let difference = try perform(actions) { return difference }
        for _ in 0..<100 {
            var answers: [Action] = []
            for client in clients.indices where !clients[client].byHand && !clients[client].isFull {
                answers += clients[client].unanswered.map { .send($0, client) }
                clients[client].unanswered = []
            }
            if answers.isEmpty { return nil }
            // Answers touch nobody but their own sessions, so their order does not matter.
            if let difference = try perform(answers, inOrder: true) { return difference }
        }
        return Difference(description: "the clients answer and answer, and it never ends")
    }

    /// Steps that make no sense now are left out, so that any step may be taken out of a program.
    private mutating func actions(for batch: [ClientProgram.Step]) -> [Action] {
        var actions: [Action] = []
        var ended: [Int] = []
        for step in batch {
            switch step {
            case .open(let client):
                guard !clients[client].isOpen, !ended.contains(client) else { continue }
                clients[client] = Client(isOpen: true)
                actions.append(.open(client))
            case .connect(let client, let connect, let byHand):
                guard !ended.contains(client) else { continue }
                if !clients[client].isOpen { actions.append(.open(client)) }
                if !clients[client].isConnected { clients[client] = Client(isOpen: true, byHand: byHand) }
                actions.append(.send(.connect(connect), client))
            case .send(let client, let packet):
                guard clients[client].isOpen, !ended.contains(client) else { continue }
                actions.append(.send(packet, client))
            case .answer(let client, let index):
                guard !clients[client].unanswered.isEmpty, !ended.contains(client) else { continue }
                let packet = clients[client].unanswered.remove(at: index % clients[client].unanswered.count)
                actions.append(.send(packet, client))
            case .lose(let client):
                guard clients[client].isOpen, !ended.contains(client) else { continue }
                actions.append(.lose(client))
                ended.append(client)
            case .fill(let client, let isFull):
                guard clients[client].isConnected, !ended.contains(client) else { continue }
                clients[client].isFull = isFull
                actions.append(.fill(client, isFull))
            case .advance, .stop, .crash: break
            }
        }
        return actions
    }

    private mutating func advance(_ seconds: Int) throws(Exploration.Failure) -> Difference? {
        for index in states.indices { states[index].advance(seconds: seconds) }
        return try compare { state in
            state.overdue.map { .expire($0) }
        } with: { driver, states in
            try driver.advance(seconds: seconds, expiring: states[0].overdue)
        }
    }

    private mutating func perform(
        _ actions: [Action], inOrder: Bool = false
    ) throws(Exploration.Failure) -> Difference? {
        try compare(inOrder: inOrder) { _ in
            actions
        } with: { driver, _ in
            try driver.perform(actions)
        }
    }

    /// Does something to the broker, and keeps the states in which it may be now.
    private mutating func compare(
        inOrder: Bool = false, _ actions: (ReferenceBroker) -> [Action],
        with body: (any BrokerDriver, [ReferenceBroker]) throws -> [[Seen]]
    ) throws(Exploration.Failure) -> Difference? {
        let seen: [[Seen]]
        do { seen = try body(driver, states) } catch { return Difference(description: "\(error)") }
        let exploration = Exploration(seen: seen, mayLoseTheLast: driver.mayLoseTheLast)
        var next: [ReferenceBroker] = []
        for state in states {
            for outcome in try exploration.outcomes(of: actions(state), from: state, inOrder: inOrder)
            where !next.contains(outcome) {
                next.append(outcome)
            }
        }
        if next.count > 200 { throw .tooManyStates }
        if next.isEmpty { return difference(actions(states[0]), seen) }
        states = next
        note(seen)
        return nil
    }

    private mutating func note(_ seen: [[Seen]]) {
        for client in clients.indices {
            for packet in seen[client] {
                packets += 1
                if case .connack(_, 0) = packet { clients[client].isConnected = true }
                if let answer = packet.answer { clients[client].unanswered.append(answer) }
                if packet == .closed { clients[client] = Client() }
            }
        }
    }

    /// The model's answer when all goes in the order of the program, and nothing takes its time.
    private func difference(_ actions: [Action], _ seen: [[Seen]]) -> Difference {
        var state = states[0]
        for action in actions {
            state.perform(action)
            while !state.wills.isEmpty { state.publishWill(0) }
            for session in state.sessions.indices {
                while let move = state.moves(of: session).first { state.perform(move, of: session) }
            }
        }
        state.finish()
        var lines = actions.map(\.description)
        for client in seen.indices where seen[client] != state.output[client] {
            lines.append("c\(client) should see: " + state.output[client].map(\.description).joined(separator: ", "))
            lines.append("c\(client) saw:        " + seen[client].map(\.description).joined(separator: ", "))
        }
        if states.count > 1 || actions.count > 1 {
            lines.append("(one of the orders from one of \(states.count) possible states; none of them fits)")
        }
        return Difference(description: lines.joined(separator: "\n"))
    }
}
