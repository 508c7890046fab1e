import Access
import Locks
import MQTT

/// A connection whose CONNECT waits for the disk; it is handled when that has come.
struct HeldConnect: Sendable {
    enum Reason: Equatable, Sendable {
        /// What it has discarded is not gone there yet.
        case commit(CommitTicket)
        /// What was in flight to its session is not read yet.
        case queue(SessionReference)
    }

    let connection: ConnectionNumber
    let reason: Reason
}

/// A will that an earlier process has left.
struct PendingWill: Sendable {
    let slot: Int
    let reference: SessionReference
    let will: WillMessage
    let due: Instant
}

/// What gets to the disk, and what waits for it.
extension ShardState {
    // MARK: Rounds

    /// From now on the caller brings what changes to the disk, in rounds (`Ledger`). `sessions`, `shared`: the first numbers
    /// that nothing on the disk has.
    package mutating func keepOnDisk(
        _ durability: DurabilityRules, sessions: StoredSession = 1, shared: SharedMessage = 1
    ) {
        ledger = Ledger(
            durability, shard: shard, of: shards, sessions: sessions + StoredSession(shard),
            shared: shared + SharedMessage(shard))
    }

    /// Whether somebody waits for the open round.
    package var awaitsCommit: Bool { ledger?.isUrgent ?? false }

    /// Whether there is anything for a round.
    package var hasUncommitted: Bool { ledger?.hasChanges ?? false }

    /// Whether this shard has not closed its part of a round yet.
    package func hasOpen(_ round: CommitTicket) -> Bool { ledger?.isOpen(round) ?? false }

    /// Closes this shard's part of the open round. The caller has sent all mail, and tells the others behind it.
    package mutating func closeRound() { ledger?.close() }

    /// That shard has closed its part of the round that this one has closed.
    package mutating func noteClosed(by shard: Int) { ledger?.mark(shard) }

    /// This shard's part of the closed round, once it has all of it.
    package mutating func takeClosed() -> Changes? { ledger?.takeClosed() }

    /// The round is on the disk: what waited for it goes on. Returns the connections whose acknowledgements have left, or
    /// that have their place; the caller reads them again, and asks `takeWoken` for others.
    package mutating func commitEnded(now: Instant, into outbox: inout Outbox) -> [ConnectionNumber] {
        guard let ticket = ledger?.end() else { return [] }
        isDiskLate = false
        handshakesDue = 0
        var numbers: [ConnectionNumber] = []
        swap(&numbers, &awaitingCommit)
        for number in numbers { connections[Int(number)].isAwaitingCommit = false }
        for number in numbers {
            answer(number, &outbox)
            if connections[Int(number)].acknowledgements.count > 0 { awaitCommit(number) }
            guard connections[Int(number)].phase == .connected else { continue }
            if !sessions[connections[Int(number)].slot].cursors.isEmpty { catchUp(number, into: &outbox) }
        }
        if pingsDue != nil { pingsDue = awaitingCommit.isEmpty ? nil : now + Limits.pingPatience }
        var slots: [Int] = []
        swap(&slots, &awaitingDisk)
        for slot in slots {
            sessions[slot].isAwaitingDisk = false
            if sessions[slot].connection != Session.noConnection { catchUp(sessions[slot].connection, into: &outbox) }
        }
        wakeHeld(now) { if case .commit(let awaited) = $0 { awaited <= ticket } else { false } }
        return numbers
    }

    /// Acknowledges what needs not wait any more.
    private mutating func answer(_ number: ConnectionNumber, _ outbox: inout Outbox) {
        guard let (committed, handovers) = ledger.map({ ($0.committed, $0.handovers) }) else { return }
        while let next = connections[Int(number)].acknowledgements.next(committed: committed, handovers) {
            switch next {
            case .acknowledgement(let acknowledgement):
                outbox.acknowledge(number, acknowledgement)
                let type = acknowledgement.type
                if type == .publishReceived || type == .publishRelease { handshakesDue += 1 }
            case .subscription(let acknowledgement): outbox.acknowledgeSubscribe(number, acknowledgement)
            case .ping: outbox.respondToPing(number)
            }
        }
    }

    /// Clients have acknowledged what was handed to them: publishers, here or elsewhere, perhaps need not wait for a commit.
    mutating func settleHandovers(_ outbox: inout Outbox) {
        for handover in ledger?.takeSettled() ?? [] {
            let home = Int(handover % HandoverNumber(shards))
            if home == shard { settle(handover, &outbox) } else { outbox.settle(handover, on: home) }
        }
    }

    /// Whether nobody has anything to acknowledge of the message that is being published.
    mutating func isHandedOver(_ outbox: inout Outbox) -> Bool {
        settleHandovers(&outbox)
        return ledger?.handovers.isOver(handover) ?? true
    }

    mutating func settle(_ handover: HandoverNumber, _ outbox: inout Outbox) {
        guard let publisher = ledger?.handovers.settle(handover), connections[Int(publisher)].phase == .connected
        else { return }
        answer(publisher, &outbox)
        if isUnread(publisher), !isPaused(publisher) { woken.append(publisher) }
    }

    /// Behind the acknowledgements that wait, unless the disk makes them wait for so long that its client might think the
    /// broker is gone.
    mutating func respondToPing(_ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox) {
        guard !isDiskLate, !connections[Int(number)].acknowledgements.mayLeave(.ping, after: nil) else {
            return outbox.respondToPing(number)
        }
        pingsDue = pingsDue ?? now + Limits.pingPatience
    }

    mutating func answerLatePings(_ now: Instant, into outbox: inout Outbox) {
        guard let due = pingsDue, due <= now else { return }
        (pingsDue, isDiskLate) = (nil, true)
        for number in awaitingCommit {
            for _ in 0..<connections[Int(number)].acknowledgements.removePings() { outbox.respondToPing(number) }
        }
        awaitingCommit.removeAll { connections[Int($0)].acknowledgements.count == 0 }
    }

    /// What the packet at hand has changed of a session: the commit that its answer waits for.
    mutating func commit(of slot: Int) -> CommitTicket? {
        guard sessions[slot].stored != 0, let waits = ledger?.waits else { return nil }
        return ledger?.note(waits: waits)
    }

    // MARK: Messages

    @inline(__always)
    func durability(of message: ApplicationMessage) -> Durability {
        ledger?.durability.durability(of: message.bytes.span.extracting(message.topicRange)) ?? .memory
    }

    /// A message of the outbox is about to be delivered: whether it gets to the disk, on whatever shard.
    mutating func noteLasting(_ message: Int, qos: QoS, _ outbox: inout Outbox) {
        var count = 0
        for receiver in receivers where receiver.isLasting && granted(qos, receiver.maximumQoS) != .atMostOnce {
            count += 1
        }
        guard count > 0, let rules = ledger?.durability else { return }
        let durability = outbox.messages.withBytes(of: message) { bytes in
            rules.durability(of: bytes.extracting(2..<(2 + (Int(bytes[0]) << 8 | Int(bytes[1])))))
        }
        guard durability > .memory else { return }
        if durability == .acknowledged, let publisher = handingOver, neededCommit == nil {
            handover = ledger?.handOver(from: publisher, to: count, now: connections[Int(publisher)].latestPacket) ?? 0
            neededCommit = ledger?.round
            outbox.handOver(message, as: handover)
        } else {
            neededCommit = ledger?.note(waits: durability == .acknowledged) ?? neededCommit
        }
        if count > 1, let number = ledger?.numberShared() { outbox.shareOnDisk(message, as: number) }
    }

    /// The Packet Identifier of a message has to outlive the process as long as what came of the message.
    mutating func keepInbound(_ identifier: PacketIdentifier, _ topic: Span<UInt8>, _ slot: Int) {
        guard let durability = ledger?.durability.durability(of: topic), durability > .memory else { return }
        ledger?.insertInbound(identifier, of: sessions[slot].stored)
        neededCommit = ledger?.note(waits: durability == .acknowledged) ?? neededCommit
    }

    /// What goes out next for a session. Where it is not there yet, or must not go before a commit, that will be seen to.
    @inline(__always)
    mutating func nextMessage(_ slot: Int) -> (item: OutgoingMessages.Item, isDuplicate: Bool)? {
        let next = sessions[slot].outgoing.next(limits, held: &held, ledger: &ledger)
        if sessions[slot].stored != 0 { attend(slot) }
        return next
    }

    private mutating func attend(_ slot: Int) {
        let awaited = sessions[slot].outgoing.nextAwaits(ledger)
        if let awaited { ledger?.urge(awaited) }
        requestRows(slot)
        let awaitsRows = sessions[slot].outgoing.awaitsRows
        if awaitsRows { ledger?.note(waits: true) }
        if awaited != nil || awaitsRows { awaitDisk(slot) }
    }

    /// The session goes on when the round that is under way, or the next, has ended.
    mutating func awaitDisk(_ slot: Int) {
        guard !sessions[slot].isAwaitingDisk else { return }
        sessions[slot].isAwaitingDisk = true
        awaitingDisk.append(slot)
    }

    // MARK: Sessions

    /// A new session gets its place on the disk.
    mutating func keepSession(_ slot: Int) {
        guard let number = ledger?.numberSession() else { return }
        sessions[slot].outgoing = OutgoingMessages(session: number)
        let reference = sessions[slot].reference
        directory.withLock { $0.setLasting(reference) }
    }

    /// Whose it is, or since when its client is away, has changed.
    mutating func storeSession(_ slot: Int) {
        guard sessions[slot].stored != 0 else { return }
        let isAway = sessions[slot].connection == Session.noConnection
        let row = Changes.SessionRow(
            session: sessions[slot].stored, client: sessions[slot].client, participant: sessions[slot].participant,
            absentSince: isAway ? sessions[slot].absentSince : nil)
        ledger?.keep(row, at: &sessions[slot].change)
    }

    /// The will of a session's client, or that there is none any more.
    mutating func storeWill(_ will: WillMessage?, _ slot: Int, silence: Int64) {
        guard sessions[slot].stored != 0, will != nil || sessions[slot].hasStoredWill else { return }
        sessions[slot].isWillDue = false
        sessions[slot].hasStoredWill = will != nil
        ledger?.setWill(will.map { StoredWill(will: $0, silence: silence) }, of: sessions[slot].stored)
    }

    // MARK: CONNECT

    /// The commit after which a client may begin a session: the one that takes its earlier session from the disk. Where nobody
    /// waits for that, the new one need only not be in an earlier round, or its row would be lost with the old one's.
    func removal(of client: ClientIdentifier) -> CommitTicket? {
        guard let (waits, committed, round) = ledger.map({ ($0.waits, $0.committed, $0.round) }) else { return nil }
        let removal = directory.withLock { $0.removal(of: client, committed: committed) }
        guard let removal, !waits else { return removal }
        return removal > round ? round : nil
    }

    /// The CONNECT is handled again when the disk has done its part.
    mutating func hold(_ number: ConnectionNumber, until reason: HeldConnect.Reason, _ outbox: inout Outbox) {
        heldConnects.append(HeldConnect(connection: number, reason: reason))
        holdConnect(number, &outbox)
    }

    private mutating func wakeHeld(_ now: Instant, _ isOver: (HeldConnect.Reason) -> Bool) {
        guard !heldConnects.isEmpty else { return }
        let over = heldConnects.filter { isOver($0.reason) }
        heldConnects.removeAll { isOver($0.reason) }
        for held in over { wake(held.connection, now: now) }
    }

    // MARK: Queues on the disk

    /// Whether a session's queue has to be read before its client can be answered; it will be.
    mutating func isUnread(_ slot: Int) -> Bool {
        guard sessions[slot].outgoing.isUnread else { return false }
        requestRows(slot)
        return true
    }

    private mutating func requestRows(_ slot: Int) {
        guard let committed = ledger?.committed else { return }
        let request = sessions[slot].outgoing.request(sessions[slot].reference, committed: committed)
        if let request { queueRequests.append(request) }
    }

    /// What shall be read from the disk; each is answered by `take`.
    package mutating func takeQueueRequests() -> [QueueRequest] {
        guard !queueRequests.isEmpty else { return [] }
        defer { queueRequests = [] }
        return queueRequests
    }

    /// What was asked for. `isAll`: there was no more. The caller asks `takeWoken`.
    package mutating func take(
        _ rows: [QueuedMessage], of request: QueueRequest, isAll: Bool, now: Instant, into outbox: inout Outbox
    ) {
        wakeHeld(now) { $0 == .queue(request.reference) }
        let slot = slot(of: request.reference.number)
        guard sessions[slot].reference == request.reference else { return }
        guard let rules = ledger?.durability else { return }
        ledger?.spilledMessages -= sessions[slot].outgoing.spill.count
        let missing = sessions[slot].outgoing.take(
            rows, of: request, isAll: isAll, rules: rules, held: &held)
        ledger?.spilledMessages += sessions[slot].outgoing.spill.count
        counters.publishesDropped += UInt64(missing)
        if sessions[slot].connection != Session.noConnection { catchUp(sessions[slot].connection, into: &outbox) }
    }

    /// Whether what is retained may be sent for a session's new subscriptions: behind their SUBACK.
    func mayReadRetained(_ slot: Int) -> Bool {
        guard sessions[slot].subscribedIn != 0, let ledger else { return true }
        return sessions[slot].subscribedIn <= ledger.committed
    }

    // MARK: The start

    /// A session that was on the disk lives here from now on.
    package mutating func restore(_ restored: RestoredSession, as reference: SessionReference, now: Instant) {
        let slot = slot(of: reference.number)
        while sessions.count <= slot { sessions.append(Session()) }
        var session = Session(client: restored.client, reference: reference)
        session.cleanSession = false
        session.participant = restored.participant
        session.accessGeneration = accessGeneration &- 1  // Its rights are asked for when it needs them.
        session.isMember = restored.hasSharedSubscriptions
        for identifier in restored.inbound { _ = session.incoming.insert(identifier) }
        session.outgoing = OutgoingMessages(
            session: restored.session, spill: .init(restored), nextSequence: restored.nextSequence)
        if let will = restored.will {
            session.hasStoredWill = true
            session.isWillDue = true
            let silence = will.silence == 0 ? Limits.unreadPatience : will.silence
            pendingWills.append(PendingWill(slot: slot, reference: reference, will: will.will, due: now + silence))
        }
        ledger?.spilledMessages += restored.queued
        session.absentSince = restored.absentSince ?? now
        sessions[slot] = session
        if restored.absentSince == nil { storeSession(slot) }
    }

    /// All sessions are restored.
    package mutating func endRestoring() {
        pendingWills.sort { ($1.due, $1.slot) < ($0.due, $0.slot) }
        if limits.sessionExpiry > 0 {
            absent = ArrivalOrder()
            beginExpiry()
        }
        sweptSessions = 0  // Some of them are perhaps nobody's any more.
    }

    /// Of clients that were connected when the broker ended, and did not come back.
    mutating func publishPendingWills(_ now: Instant, into outbox: inout Outbox) {
        while let pending = pendingWills.last, pending.due <= now {
            pendingWills.removeLast()
            let slot = pending.slot
            guard sessions[slot].reference == pending.reference, sessions[slot].isWillDue else { continue }
            storeWill(nil, slot, silence: 0)
            guard mayPublishWill(pending.will.message, slot) else { continue }
            publish(pending.will, of: sessions[slot].participant, into: &outbox)
        }
    }
}
