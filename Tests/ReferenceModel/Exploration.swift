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

    /// The Client Identifier of a CONNECT.
    var connectingName: String? {
        if case .send(.connect(let connect), _) = self { connect.client } else { nil }
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
        // A will that waits for its turn shows only to whoever uses its Client Identifier again.
        let names = Set(actions.compactMap(\.connectingName))
        var levels: [[ReferenceBroker]] = Array(repeating: [], count: 1 << (inOrder ? 0 : actions.count))
        levels[0] = [state]
        if inOrder {
            for action in actions { levels[0] = try distinct(levels[0].flatMap { perform(action, on: $0, names) }) }
        } else {
            for done in levels.indices where !levels[done].isEmpty {
                levels[done] = try distinct(levels[done])
                for next in actions.indices where done & 1 << next == 0 {
                    let isReady = actions[..<next].indices.allSatisfy {
                        done & 1 << $0 != 0 || actions[$0].client != actions[next].client
                    }
                    guard isReady else { continue }
                    for state in levels[done] { levels[done | 1 << next] += perform(actions[next], on: state, names) }
                }
            }
        }
        var last = try distinct(levels[levels.count - 1].flatMap { willed($0) }.filter(\.wills.isEmpty))
        for session in 0..<(last.map(\.sessions.count).max() ?? 0) {
            // Each session's moves are its own, so one after the other will do.
            last = try distinct(last.flatMap { settled(session, of: $0) })
        }
        for index in last.indices { last[index].finish() }
        last.removeAll { !isComplete($0) }
        for index in last.indices { last[index].output = seen.map { _ in [] } }
        return try distinct(last)
    }

    /// What may happen by itself may happen before. Wills wait if somebody connects under one of `names`.
    private func perform(_ action: Action, on state: ReferenceBroker, _ names: Set<String>) -> [ReferenceBroker] {
        willed(state).flatMap { state in
            var states = [state]
            for session in state.sessions.indices where isTouched(state.sessions[session], by: action, state) {
                states = states.flatMap { moved(session, of: $0) }
            }
            return states.compactMap { state in
                var next = state
                next.perform(action)
                while let will = next.wills.firstIndex(where: { !names.contains($0.client) }) { next.publishWill(will) }
                return isPossible(next) ? next : nil
            }
        }
    }

    /// The state, and all to which wills lead that have to be published. What may happen by itself to the sessions that
    /// they touch may happen before.
    private func willed(_ state: ReferenceBroker) -> [ReferenceBroker] {
        var states = [state]
        var index = 0
        while index < states.count {
            for will in states[index].wills.indices {
                var befores = [states[index]]
                for session in befores[0].sessions.indices where isUnderWay(befores[0].sessions[session]) {
                    befores = befores.flatMap { moved(session, of: $0) }
                }
                for var next in befores {
                    next.publishWill(will)
                    if !states.contains(next) { states.append(next) }
                }
            }
            index += 1
        }
        return states
    }

    private func isTouched(
        _ session: ReferenceBroker.Session, by action: Action, _ state: ReferenceBroker
    ) -> Bool {
        // Mail that does not take its time goes to anybody.
        if !state.delaysMail || isUnderWay(session) { return true }
        guard let client = action.client else { return false }
        if case .send(.connect(let connect), _) = action, connect.client == session.client { return true }
        return session.connection == client
    }

    /// Whether what others publish touches a session: it replaces something retained that the session has not been
    /// sent, or comes between two filters.
    private func isUnderWay(_ session: ReferenceBroker.Session) -> Bool {
        !session.unread.isEmpty || session.request != nil
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
