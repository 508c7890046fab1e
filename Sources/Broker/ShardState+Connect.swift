import Access
import Locks
import MQTT

/// CONNECT (3.1): where a session lives, takeover, what of it goes on.
extension ShardState {
    mutating func connect(
        _ connect: Connect, _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) {
        let client: ClientIdentifier
        let will: WillMessage?
        do throws(Refusal) {
            try admit(connect, number)
            client = try identifier(for: connect, number)
            will = try takenWill(of: connect, number)
        } catch {
            switch error {
            case .answered(let code): return refuse(number, code, now, &outbox)
            case .unanswered(let what): return end(number, .protocolViolation(what), now: now, into: &outbox)
            }
        }
        // Who has waited has perhaps given up a session for it.
        if connections[Int(number)].participant == nil, isRefusedForMemory(number, client, now, &outbox) { return }
        let isSettled = connections[Int(number)].isPlaced || hasBegunToSignIn(number)
        let (directory, shard) = (directory, shard)
        // Where its session lives, or will live, it is also asked who it is: that need not travel. Once it has been asked it
        // stays, for the place of a new session changes with the others, and its password would be checked twice.
        if !isSettled {
            let home = directory.withLock { $0.shard(for: client, askedFrom: shard) }
            if home != shard { return move(number, to: home, &outbox) }
        }
        guard let participant = participant(connect, as: client, number, now, &outbox) else { return }
        // Else a crash could bring back what this client is told that it has not.
        if let ticket = removal(of: client) { return hold(number, until: .commit(ticket), &outbox) }
        var home = directory.withLock { $0.home(of: client, askedFrom: shard) }
        if case .here(let reference, isNew: false) = home {
            let slot = slot(of: reference.number)
            guard mayResume(slot, participant) else {
                counters.signInsRefused += 1
                return refuse(number, .notAuthorized, now, &outbox)
            }
            let earlier = sessions[slot].connection
            if earlier != Session.noConnection, mustWait(number, for: client, against: earlier, now, &outbox) { return }
            if earlier != Session.noConnection { end(earlier, .takenOver, now: now, into: &outbox) }  // [MQTT-3.1.4-2]
            // What is on its way to the old session must not reach the new one, so that is another [MQTT-3.1.2-6].
            if connect.cleanSession, sessions[slot].reference == reference, let ticket = removeSession(slot) {
                return hold(number, until: .commit(ticket), &outbox)
            }
            if sessions[slot].reference == reference, isUnread(slot) {
                return hold(number, until: .queue(reference), &outbox)
            }
            // Gone, it may already have been made anew on another shard.
            home = directory.withLock { $0.home(of: client, askedFrom: shard) }
        }
        switch home {
        case .elsewhere(let other): move(number, to: other, &outbox)
        case .full:
            counters.sessionsRefused += 1
            refuse(number, .serverUnavailable, now, &outbox)
        case .here(let reference, let isNew):
            connections[Int(number)].will = will
            accept(connect, of: participant, as: reference, isNew: isNew, number, now, &outbox)
        }
    }

    mutating func accept(
        _ connect: Connect, of participant: Participant, as reference: SessionReference, isNew: Bool,
        _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) {
        let client = participant.client
        let slot = slot(of: reference.number)
        while sessions.count <= slot { sessions.append(Session()) }
        if isNew {
            sessions[slot] = Session(client: client, reference: reference)
            if !connect.cleanSession { keepSession(slot) }
        }
        directory.withLock { $0.setConnected(reference, true) }
        absent.remove(UInt32(slot))
        if limits.throttlesPublishers { takeUpDebt(of: client, number) }
        sessions[slot].connection = number
        sessions[slot].cleanSession = connect.cleanSession
        let hasRights =
            sessions[slot].participant?.principal == participant.principal
            && sessions[slot].accessGeneration == accessGeneration
        sessions[slot].participant = participant
        if !hasRights { setRights(slot) }

        let silence = Int64(connect.keepAlive) * 1500  // [MQTT-3.1.2-24]
        storeSession(slot)
        storeWill(connections[Int(number)].will, slot, silence: silence)
        connections[Int(number)].phase = .connected
        connections[Int(number)].proof = nil
        connections[Int(number)].participant = nil
        connections[Int(number)].slot = slot
        connections[Int(number)].version = connect.version
        connections[Int(number)].silence = silence
        connections[Int(number)].connectedSince = now
        if silence > 0 { timers.schedule(number, at: now + silence) } else { timers.cancel(number) }

        let sessionPresent = !isNew  // [MQTT-3.2.2-1] to [MQTT-3.2.2-3]
        outbox.acknowledgeConnect(number, .accepted, sessionPresent: sessionPresent && connect.version != .mqtt31)
        outbox.note(
            .connected(
                number, client: client, version: connect.version, userName: participant.principal.userName,
                cleanSession: connect.cleanSession, keepAlive: connect.keepAlive, sessionPresent: sessionPresent
            )
        )
        catchUp(number, into: &outbox)
    }

    // MARK: Who may

    /// Why a CONNECT is not accepted.
    enum Refusal: Error {
        /// With a CONNACK.
        case answered(ConnectReturnCode)
        /// No return code of MQTT 3.1.1 says it: the connection is closed without one (3.1.4).
        case unanswered(String)
    }

    /// Refuses a CONNECT and closes [MQTT-3.2.2-5].
    mutating func refuse(
        _ number: ConnectionNumber, _ code: ConnectReturnCode, _ now: Instant, _ outbox: inout Outbox
    ) {
        outbox.acknowledgeConnect(number, code, sessionPresent: false)  // [MQTT-3.2.2-4]
        end(number, .refused(code), now: now, into: &outbox)
    }

    private mutating func admit(_ connect: Connect, _ number: ConnectionNumber) throws(Refusal) {
        let rules = rules[Int(connections[Int(number)].listener)]
        guard rules.accepts(connect.version) else { throw .answered(.unacceptableProtocolVersion) }
        // MQTT 3.1.1 has no way to tell a client another keep-alive; Mosquitto's answer.
        guard limits.keepAlive == 0 || (1...limits.keepAlive).contains(connect.keepAlive) else {
            counters.keepAlivesRefused += 1
            throw .answered(.identifierRejected)
        }
    }

    /// The identifier that the client has sent, or gets.
    private func identifier(for connect: Connect, _ number: ConnectionNumber) throws(Refusal) -> ClientIdentifier {
        let rules = rules[Int(connections[Int(number)].listener)]
        var identifier = ClientIdentifier(connect.clientIdentifier)
        if connect.clientIdentifier.isEmpty, !rules.usesUserNameAsClientIdentifier {
            guard connect.cleanSession, connect.version != .mqtt31, rules.allowsEmptyClientIdentifier else {
                throw .answered(.identifierRejected)  // [MQTT-3.1.3-8]; MQTT 3.1 always wants one
            }
            identifier = Self.inventedIdentifier(rules.automaticPrefix)
        }
        guard identifier.bytes.starts(with: limits.clientIdentifierPrefix) else { throw .answered(.notAuthorized) }
        guard rules.usesUserNameAsClientIdentifier else { return identifier }
        // Not what the packet says, where a certificate says who it is: that would be anybody's session.
        let userName = access.userName(of: signIn(connect, number))
        guard let userName, !userName.isEmpty else { throw .answered(.notAuthorized) }
        return ClientIdentifier(userName)
    }

    private func takenWill(of connect: Connect, _ number: ConnectionNumber) throws(Refusal) -> WillMessage? {
        guard let will = connect.will else { return nil }
        let rules = rules[Int(connections[Int(number)].listener)]
        guard will.qos <= rules.maximumQoS else {
            throw .unanswered("a will of QoS \(will.qos.rawValue), over max_qos")
        }
        guard !will.isRetained || limits.isRetainAvailable else {
            throw .unanswered("a will with RETAIN, and retain_available is false")
        }
        guard isMounted(number) else { return will }
        guard let mounted = mounted(will, number) else { throw .unanswered("the topic of the will is too long") }
        return mounted
    }

    /// A Client Identifier for a client that brings none [MQTT-3.1.3-6]: 128 random bits, so nobody has it.
    static func inventedIdentifier(_ prefix: [UInt8]) -> ClientIdentifier {
        var generator = SystemRandomNumberGenerator()
        let (high, low) = (
            UInt64.random(in: 0...(.max), using: &generator), UInt64.random(in: 0...(.max), using: &generator)
        )
        var digits = (hexadecimal(high) + hexadecimal(low))[...]
        // In groups, as Mosquitto writes it.
        let groups = [8, 4, 4, 4, 12].map { count in
            defer { digits = digits.dropFirst(count) }
            return String(digits.prefix(count))
        }
        return ClientIdentifier(prefix + Array(groups.joined(separator: "-").utf8))
    }

    private static func hexadecimal(_ number: UInt64) -> String {
        let digits = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
