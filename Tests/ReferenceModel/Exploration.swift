/// One thing that happens to a broker.
package enum Action: Hashable, Sendable, CustomStringConvertible {
    /// A network connection, without CONNECT for now.
    case open(Int)
    case send(Sent, Int)
    case lose(Int)
    case fill(Int, Bool)
    case expire(Int)
    case stop
    case crash

    package var client: Int? {
        switch self {
        case .open(let client), .send(_, let client), .lose(let client), .fill(let client, _), .expire(let client):
            client
        case .stop, .crash: nil
        }
    }

    package var description: String {
        switch self {
        case .open(let client): "\(ClientProgram.Step.open(client))"
        case .send(.connect(let connect), let client):
            "\(ClientProgram.Step.connect(client, connect, byHand: false))"
        case .send(let packet, let client): "\(ClientProgram.Step.send(client, packet))"
        case .lose(let client): "\(ClientProgram.Step.lose(client))"
        case .fill(let client, let isFull): "\(ClientProgram.Step.fill(client, isFull))"
        case .expire(let client): "c\(client) is silent for too long"
        case .stop: "stop"
        case .crash: "crash"
        }
    }
}

/// Compares what the clients saw while some things happened at once with what they may see: all orders of these things,
/// and of what they set off, are tried. What is left are the states in which the broker may be now; if there are none,
/// the broker did what it must not do.
package struct Exploration {
    package enum Failure: Error { case tooManyStates }

    /// What each client saw.
    let seen: [[Seen]]
    /// Whether the last packets to a connection that ended may be lost: TCP promises no more to a socket whose peer has
    /// closed it while it was sending.
    let mayLoseTheLast: Bool

    package init(seen: [[Seen]], mayLoseTheLast: Bool) {
        self.seen = seen
        self.mayLoseTheLast = mayLoseTheLast
    }

    /// The states after all of `actions`; those of one client stay in order. With `inOrder`, so do all others.
    package func outcomes(
        of actions: [Action], from state: ReferenceBroker, inOrder: Bool = false
    ) throws(Failure) -> [ReferenceBroker] {
        // A new connection touches nobody yet.
        var (state, others) = (state, [Action]())
        for action in actions { if case .open = action { state.perform(action) } else { others.append(action) } }
        return try outcomes(ofOthers: others, from: state, inOrder: inOrder)
    }

    private func outcomes(
        ofOthers actions: [Action], from state: ReferenceBroker, inOrder: Bool
    ) throws(Failure) -> [ReferenceBroker] {
        var levels: [[ReferenceBroker]] = Array(repeating: [], count: 1 << (inOrder ? 0 : actions.count))
        levels[0] = [state]
        if inOrder {
            for action in actions { levels[0] = try distinct(levels[0].flatMap { perform(action, on: $0) }) }
        } else {
            for done in levels.indices where !levels[done].isEmpty {
                levels[done] = try distinct(levels[done])
                for next in actions.indices where done & 1 << next == 0 {
                    let isReady = actions[..<next].indices.allSatisfy {
                        done & 1 << $0 != 0 || actions[$0].client != actions[next].client
                    }
                    guard isReady else { continue }
                    for state in levels[done] { levels[done | 1 << next] += perform(actions[next], on: state) }
                }
            }
        }
        var last = try distinct(levels[levels.count - 1])
        for session in 0..<(last.map(\.sessions.count).max() ?? 0) {
            // Each session's moves are its own, so one after the other will do.
            last = try distinct(last.flatMap { settled(session, of: $0) })
        }
        for index in last.indices { last[index].finish() }
        last.removeAll { !isComplete($0) }
        for index in last.indices { last[index].output = seen.map { _ in [] } }
        return try distinct(last)
    }

    private func perform(_ action: Action, on state: ReferenceBroker) -> [ReferenceBroker] {
        // What may happen by itself to the sessions that the action touches may happen before.
        var states = [state]
        for session in state.sessions.indices where isTouched(state.sessions[session], by: action, state) {
            states = states.flatMap { moved(session, of: $0) }
        }
        return states.compactMap { state in
            var next = state
            next.perform(action)
            return isPossible(next) ? next : nil
        }
    }

    private func isTouched(
        _ session: ReferenceBroker.Session, by action: Action, _ state: ReferenceBroker
    ) -> Bool {
        // Mail that does not take its time goes to anybody, and what replaces a retained message does to whoever has not
        // been sent it.
        if !state.delaysMail || !session.unread.isEmpty { return true }
        guard let client = action.client else { return false }
        if case .send(.connect(let connect), _) = action, connect.client == session.client { return true }
        return session.connection == client
    }

    /// The state, and all to which a session's moves lead.
    private func moved(_ session: Int, of state: ReferenceBroker) -> [ReferenceBroker] {
        var states = [state]
        var index = 0
        while index < states.count {
            for move in states[index].moves(of: session) {
                var next = states[index]
                next.perform(move, of: session)
                if isPossible(next), !states.contains(next) { states.append(next) }
            }
            index += 1
        }
        return states
    }

    /// The states in which nothing is under way to a session any more.
    private func settled(_ session: Int, of state: ReferenceBroker) -> [ReferenceBroker] {
        guard session < state.sessions.count, !state.moves(of: session).isEmpty else { return [state] }
        return moved(session, of: state).filter { $0.moves(of: session).isEmpty }
    }

    private func distinct(_ states: [ReferenceBroker]) throws(Failure) -> [ReferenceBroker] {
        guard states.count > 1 else { return states }
        var known = Set<ReferenceBroker>()
        let distinct = states.filter { known.insert($0).inserted }
        guard distinct.count <= 500 else { throw .tooManyStates }
        return distinct
    }

    private func isPossible(_ state: ReferenceBroker) -> Bool {
        seen.indices.allSatisfy { client in
            let (expected, got) = (state.output[client], seen[client])
            if got.starts(with: expected) { return true }
            return mayLoseTheLast && got.last == .closed && expected.starts(with: got.dropLast())
        }
    }

    private func isComplete(_ state: ReferenceBroker) -> Bool {
        seen.indices.allSatisfy { client in
            let (expected, got) = (state.output[client], seen[client])
            if got == expected { return true }
            return mayLoseTheLast && got.last == .closed && expected.last == .closed
                && expected.starts(with: got.dropLast())
        }
    }
}

extension ReferenceBroker {
    package mutating func perform(_ action: Action) {
        switch action {
        case .open(let client): open(client)
        case .send(let packet, let client): receive(packet, from: client)
        case .lose(let client), .expire(let client): lose(client)
        case .fill(let client, let isFull): fill(client, isFull)
        case .stop: stop()
        case .crash: crash()
        }
    }
}
