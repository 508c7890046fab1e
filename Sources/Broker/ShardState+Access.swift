package import Access
import Locks
import MQTT

/// Who a client is, and what it may do: at CONNECT, at each message, and again whenever the rules change.
extension ShardState {
    // MARK: Signing in

    /// Who it is that connects. Nil when it has been refused, or its password is being tried: then its CONNECT has not
    /// been handled, and comes again.
    mutating func participant(
        _ connect: Connect, as client: ClientIdentifier, _ number: ConnectionNumber, _ now: Instant,
        _ outbox: inout Outbox
    ) -> Participant? {
        // It may have waited for a session meanwhile, and lost its right.
        if let known = connections[Int(number)].participant, access.isCurrent(known.principal) { return known }
        let admission: Admission
        switch connections[Int(number)].verification {
        case .none: admission = self.admission(of: signIn(connect, number), number, now, &outbox)
        case .over(.passed(let principal)):
            admission = access.isCurrent(principal) ? .accepted(principal) : .refused(.notAuthorized)
        case .over(.failed(let code)): admission = .refused(code)
        case .underWay:
            holdConnect(number, &outbox)
            return nil
        }
        switch admission {
        case .refused(let code):
            counters.signInsRefused += 1
            refuse(number, code, now, &outbox)
            return nil
        case .unproven(let check):
            connections[Int(number)].verification = .underWay
            outbox.verify(number, check)
            holdConnect(number, &outbox)
            return nil
        case .accepted(let principal):
            let participant = Participant(principal, client: client)
            connections[Int(number)].participant = participant
            connections[Int(number)].verification = .none
            return participant
        }
    }

    /// Whether somebody has been asked already who it is, and has waited since.
    func hasBegunToSignIn(_ number: ConnectionNumber) -> Bool {
        if connections[Int(number)].participant != nil { return true }
        if case .none = connections[Int(number)].verification { return false }
        return true
    }

    func signIn(_ connect: Connect, _ number: ConnectionNumber) -> SignIn {
        var signIn = SignIn(listener: Int(connections[Int(number)].listener))
        signIn.userName = connect.userName
        signIn.password = connect.password
        signIn.certificate = connections[Int(number)].proof?.certificate
        signIn.keyIdentity = connections[Int(number)].proof?.keyIdentity
        return signIn
    }

    /// Whether a client may connect, unless it, or somebody at its address, has guessed too often.
    private mutating func admission(
        of signIn: SignIn, _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) -> Admission {
        guard let name = access.guessedName(of: signIn) else { return access.admission(of: signIn) }
        let source = source(of: number)
        guard throttle.withLock({ $0.permits(name, from: source, at: now.milliseconds) }) else {
            return .refused(access.refusal(at: signIn.listener))
        }
        let admission = access.admission(of: signIn)
        switch admission {
        case .accepted: note(.succeeded, of: name, from: source, now, &outbox)
        case .refused: note(.failed, of: name, from: source, now, &outbox)
        case .unproven: break
        }
        return admission
    }

    package func source(of number: ConnectionNumber) -> SignInThrottle.Source {
        connections[Int(number)].proof?.source ?? .local
    }

    private enum Trial { case succeeded, failed, abandoned }

    /// A password has been tried.
    private func note(
        _ trial: Trial, of name: [UInt8], from source: SignInThrottle.Source, _ now: Instant, _ outbox: inout Outbox
    ) {
        let beginning: SignInThrottle.Beginning? = throttle.withLock { throttle in
            switch trial {
            case .succeeded: throttle.succeeded(name, from: source, at: now.milliseconds)
            case .abandoned: throttle.abandoned(name, from: source)
            case .failed: return throttle.failed(name, from: source, at: now.milliseconds)
            }
            return nil
        }
        if let beginning { outbox.note(.signInsThrottled(beginning, name: name, source)) }
    }

    /// The check of a password has come to its end: `proven` is nil when it was wrong. `number`: the connection that it is
    /// for, if it is still there; then the caller asks `takeWoken` for whom to read again.
    package mutating func finish(
        _ check: PasswordCheck, from source: SignInThrottle.Source, for number: ConnectionNumber?, proven: Principal?,
        now: Instant, into outbox: inout Outbox
    ) {
        let name = check.principal.userName ?? []
        note(proven == nil ? .failed : .succeeded, of: name, from: source, now, &outbox)
        switch access.admission(after: check, proven: proven) {
        case .accepted(let principal): answer(number, .passed(principal), now)
        case .refused(let code): answer(number, .failed(code), now)
        case .unproven: preconditionFailure("a check leaves nothing open")
        }
    }

    /// There is no room for another check; otherwise like `finish`.
    package mutating func abandon(
        _ check: PasswordCheck, from source: SignInThrottle.Source, for number: ConnectionNumber?, now: Instant,
        into outbox: inout Outbox
    ) {
        note(.abandoned, of: check.principal.userName ?? [], from: source, now, &outbox)
        counters.signInsCrowdedOut += 1
        answer(number, .failed(.serverUnavailable), now)
    }

    private mutating func answer(_ number: ConnectionNumber?, _ result: Verification.Result, _ now: Instant) {
        guard let number, connections[Int(number)].verification.isUnderWay else { return }
        connections[Int(number)].verification = .over(result)
        wake(number, now: now)
    }

    /// A CONNECT that can't be handled yet is as if it had not been received: it will be counted when it comes again.
    mutating func holdConnect(_ number: ConnectionNumber, _ outbox: inout Outbox) {
        if !connections[Int(number)].isPlaced {
            counters.packetsReceived -= 1
            counters.connectsReceived -= 1
        }
        outbox.hold.insert(.packet)
    }

    /// Whether somebody may go on with a session that is there: one that belongs to a device, a person or a service is
    /// nobody else's, and they take nobody else's.
    func mayResume(_ slot: Int, _ participant: Participant) -> Bool {
        guard let owner = sessions[slot].participant?.principal.identity else { return true }
        let identity = participant.principal.identity
        return owner == identity || !(owner.isManaged || identity.isManaged)
    }

    // MARK: Rights

    /// What the session's client may do, as the rules now are. A session that has lost only its connection goes on like
    /// one whose client is away: it may be back with another password.
    mutating func setRights(_ slot: Int) {
        sessions[slot].accessGeneration = accessGeneration
        sessions[slot].forgetTopic()
        guard let participant = sessions[slot].participant else { return }
        let isConnected = sessions[slot].connection != Session.noConnection
        let (wasBarred, isBarred) = (sessions[slot].isBarred, isConnected && !access.isCurrent(participant.principal))
        sessions[slot].isBarred = isBarred
        sessions[slot].rights =
            access.rights(of: participant.principal, client: participant.client.bytes) ?? .nothing
        sessions[slot].asksToRead =
            !sessions[slot].rights.isUnrestricted && (sessions[slot].hasUnsubscribed || !readsOnlyWhatItMay(slot))
        if sessions[slot].isMember { tellGroups(slot) }
        if isBarred != wasBarred {
            let reference = sessions[slot].reference
            directory.withLock { $0.setConnected(reference, !isBarred) }
        }
    }

    /// Of a shared subscription only those are chosen that may read the message.
    func tellGroups(_ slot: Int) {
        let (reference, rights) = (sessions[slot].reference, sessions[slot].asksToRead ? sessions[slot].rights : nil)
        directory.withLock { $0.setRights(reference, rights) }
    }

    /// Whether everything that the session's filters match may be read.
    private func readsOnlyWhatItMay(_ slot: Int) -> Bool {
        let (reference, rights) = (sessions[slot].reference, sessions[slot].rights)
        let filters = directory.withLock {
            $0.filters(of: reference, atMost: Limits.filtersReviewed, levels: Limits.filterLevelsReviewed)
        }
        return filters?.allSatisfy { rights.coverage(of: $0.span) == .all } ?? false
    }

    @inline(__always)
    mutating func mayWrite(_ slot: Int, _ topic: Span<UInt8>) -> Bool {
        if sessions[slot].accessGeneration != accessGeneration { setRights(slot) }
        if sessions[slot].rights.isUnrestricted || sessions[slot].remembers(topic) { return true }
        guard sessions[slot].rights.mayWrite(topic) else { return false }
        sessions[slot].remember(topic)
        return true
    }

    /// Whether a session gets a message, which has the form of `ApplicationMessage.bytes`: at once, for who subscribes to
    /// nothing but what it may read.
    @inline(__always)
    mutating func mayReceive(_ slot: Int, _ message: Span<UInt8>) -> Bool {
        if sessions[slot].accessGeneration != accessGeneration { setRights(slot) }
        if tellsOfDevices, message.count > 2, message[2] == UInt8(ascii: "$"), !mayManage(slot, message) {
            return false
        }
        guard sessions[slot].asksToRead else { return true }
        return sessions[slot].rights.mayRead(message.extracting(2..<(2 + (Int(message[0]) << 8 | Int(message[1])))))
    }

    /// Whether who published a retained message might publish it still (`check_retain_source`).
    mutating func isRightful(_ retained: RetainedMessage) -> Bool {
        guard limits.checksRetainSource, let publisher = retained.publisher else { return true }
        if publishersRights?.publisher !== publisher {
            let rights = access.rights(of: publisher.principal, client: publisher.client.bytes) ?? .nothing
            publishersRights = (publisher, rights)
        }
        guard let rights = publishersRights?.rights else { return true }
        return rights.mayWrite(retained.message.bytes.span.extracting(retained.message.topicRange))
    }

    // MARK: Other rules

    /// Other rules from now on. Nobody does anything by the old ones after this; whoever may not be connected any more is
    /// disconnected at once where `changed` names them, and else, which may concern everybody, within the next steps of
    /// `work`.
    package mutating func adopt(
        _ access: AccessControl, changed: Set<Identity>? = nil, now: Instant, into outbox: inout Outbox
    ) {
        self.access = access
        publishersRights = nil
        guard let changed else {
            accessGeneration &+= 1
            sweptSessions = 0
            return
        }
        for slot in sessions.indices {
            guard let participant = sessions[slot].participant, changed.contains(participant.principal.identity) else {
                continue
            }
            review(slot, now: now, into: &outbox)
        }
    }

    /// Whether a connection, of which a packet has come, may not be any more, and has been ended.
    mutating func isEndedByRules(_ number: ConnectionNumber, now: Instant, into outbox: inout Outbox) -> Bool {
        guard connections[Int(number)].phase == .connected else { return false }
        let slot = connections[Int(number)].slot
        guard sessions[slot].accessGeneration != accessGeneration || sessions[slot].isBarred else { return false }
        review(slot, now: now, into: &outbox)
        return connections[Int(number)].phase == .free
    }

    /// The next sessions of those that other rules may have ended.
    mutating func sweep(now: Instant, into outbox: inout Outbox) {
        guard let first = sweptSessions else { return }
        let end = min(first + Limits.sessionsReviewedAtOnce, sessions.count)
        for slot in first..<end where sessions[slot].participant != nil { review(slot, now: now, into: &outbox) }
        sweptSessions = end < sessions.count ? end : nil
    }

    /// Ends what a session no longer has a right to: its connection, and itself where its owner is no more.
    private mutating func review(_ slot: Int, now: Instant, into outbox: inout Outbox) {
        setRights(slot)
        guard let principal = sessions[slot].participant?.principal else { return }
        let connection = sessions[slot].connection
        if connection != Session.noConnection, !access.isCurrent(principal) {
            let reference = sessions[slot].reference
            end(connection, .notAuthorized, now: now, into: &outbox)
            guard sessions[slot].reference == reference else { return }
        }
        if sessions[slot].connection != Session.noConnection {
            // What came while it was barred, had other rules not let it in again.
            if sessions[slot].outgoing.waiting > 0 { catchUp(connection, into: &outbox) }
        } else if !access.knows(principal.identity) {
            removeSession(slot)
        }
    }
}

/// What is known of the password of a connection's CONNECT.
enum Verification: Sendable {
    enum Result: Sendable {
        case passed(Principal)
        case failed(ConnectReturnCode)
    }

    case none
    case underWay
    indirect case over(Result)

    var isUnderWay: Bool {
        if case .underWay = self { true } else { false }
    }
}
