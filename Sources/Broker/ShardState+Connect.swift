import Locks
import MQTT

/// CONNECT (3.1): where a session lives, takeover, what of it goes on.
extension ShardState {
    mutating func connect(
        _ connect: Connect, _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) {
        let rules = rules[Int(connections[Int(number)].listener)]
        guard rules.allowsAnonymous else { return refuse(number, .notAuthorized, &outbox) }
        if connect.clientIdentifier.isEmpty, !connect.cleanSession || connect.version == .mqtt31 {
            return refuse(number, .identifierRejected, &outbox)  // [MQTT-3.1.3-8]; MQTT 3.1 always wants one
        }
        let isNameless = connect.clientIdentifier.isEmpty
        let client = isNameless ? Self.inventedIdentifier() : ClientIdentifier(connect.clientIdentifier)
        let isPlaced = connections[Int(number)].isPlaced
        let (directory, shard) = (directory, shard)
        var home = directory.withLock { $0.home(of: client, askedFrom: shard, isPlaced: isPlaced) }
        if case .here(let reference, isNew: false) = home {
            let slot = slot(of: reference.number)
            let earlier = sessions[slot].connection
            if earlier != Session.noConnection { end(earlier, .takenOver, into: &outbox) }  // [MQTT-3.1.4-2]
            // What is on its way to the old session must not reach the new one, so that is another [MQTT-3.1.2-6].
            if connect.cleanSession, sessions[slot].reference == reference { removeSession(slot) }
            // Gone, it may already have been made anew on another shard.
            home = directory.withLock { $0.home(of: client, askedFrom: shard, isPlaced: true) }
        }
        switch home {
        case .elsewhere(let other): move(number, to: other, &outbox)
        case .here(let reference, let isNew):
            accept(connect, of: client, as: reference, isNew: isNew, number, now, &outbox)
        }
    }

    mutating func accept(
        _ connect: Connect, of client: ClientIdentifier, as reference: SessionReference, isNew: Bool,
        _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) {
        let slot = slot(of: reference.number)
        while sessions.count <= slot { sessions.append(Session()) }
        if isNew { sessions[slot] = Session(client: client, reference: reference) }
        directory.withLock { $0.setConnected(reference, true) }
        sessions[slot].connection = number
        sessions[slot].cleanSession = connect.cleanSession

        let silence = Int64(connect.keepAlive) * 1500  // [MQTT-3.1.2-24]
        connections[Int(number)].phase = .connected
        connections[Int(number)].slot = slot
        connections[Int(number)].version = connect.version
        connections[Int(number)].will = connect.will
        connections[Int(number)].silence = silence
        if silence > 0 { timers.schedule(number, at: now + silence) } else { timers.cancel(number) }

        let sessionPresent = !isNew  // [MQTT-3.2.2-1] to [MQTT-3.2.2-3]
        outbox.acknowledgeConnect(number, .accepted, sessionPresent: sessionPresent && connect.version != .mqtt31)
        outbox.note(
            .connected(
                number, client: client, cleanSession: connect.cleanSession, keepAlive: connect.keepAlive,
                sessionPresent: sessionPresent
            )
        )
        catchUp(number, into: &outbox)
    }

    /// Refuses a CONNECT and closes [MQTT-3.2.2-5].
    mutating func refuse(
        _ number: ConnectionNumber, _ code: ConnectReturnCode, _ outbox: inout Outbox
    ) {
        outbox.acknowledgeConnect(number, code, sessionPresent: false)  // [MQTT-3.2.2-4]
        end(number, .refused(code), into: &outbox)
    }

    /// A Client Identifier for a client that brings none [MQTT-3.1.3-6]: 128 random bits, so nobody has it.
    static func inventedIdentifier() -> ClientIdentifier {
        var generator = SystemRandomNumberGenerator()
        let (high, low) = (
            UInt64.random(in: 0...(.max), using: &generator), UInt64.random(in: 0...(.max), using: &generator)
        )
        return ClientIdentifier("auto-" + String(high, radix: 16) + String(low, radix: 16))
    }
}
