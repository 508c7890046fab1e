package import Access
import DequeModule
package import Locks
package import MQTT

/// Every rule of MQTT for the connections and sessions of one shard: packets and time come in, effects go into an
/// `Outbox`. Knows no socket, no clock and no queue. Owned by one shard; the directory is shared by all.
package struct ShardState: Sendable {
    package let shard: Int
    package let shards: Int
    package private(set) var limits: Limits
    /// By listener.
    package private(set) var rules: [ListenerRules]
    private var restrictsPublish: Bool
    /// Whether any listener has a mount point: what every message would have to ask its connection else.
    let hasMountPoints: Bool
    let directory: Lock<Directory>
    /// Who guesses passwords, at whatever shard.
    let throttle: Lock<SignInThrottle>
    /// Who may connect, and do what.
    package internal(set) var access: AccessControl
    /// Changes with `access`, so that rights made from an older one are seen to be stale.
    var accessGeneration: UInt32 = 0
    /// While sessions are reviewed for other rules: the next one.
    var sweptSessions: Int?
    /// Of the publisher of the retained message that was last asked about.
    var publishersRights: (publisher: Participant, rights: Rights)?
    package internal(set) var counters = Counters()

    var connections: [Connection] = []
    var sessions: [Session] = []
    /// Sessions whose client is away, the longest first, by slot; kept while `limits.sessionExpiry` is set.
    var absent = ArrivalOrder()
    var timers: TimerWheel
    /// Connections whose session has more to send than one step may.
    var catchingUp = Deque<ConnectionNumber>()
    /// Shards whose mailbox is full at the moment.
    package var mailboxIsFull: [Bool]

    /// Commits that acknowledgements wait for; nil where nothing is on a disk.
    var ledger: Ledger?
    /// The one that what the packet at hand has changed is in.
    var neededCommit: CommitTicket?
    /// Who publishes that packet, at QoS 1, and the handover that makes the commit needless; 0: nothing does.
    var handingOver: ConnectionNumber?
    var handover: HandoverNumber = 0
    /// Connections with acknowledgements that wait for one.
    var awaitingCommit: [ConnectionNumber] = []
    /// Handshakes of QoS 2 that the last commit has moved on, and whose clients are about to take the next step; in the open
    /// round it doesn't wait for the one after.
    package internal(set) var handshakesDue = 0
    /// Sessions whose next message waits for one, or is not read yet, by slot.
    var awaitingDisk: [Int] = []
    /// Connections whose CONNECT waits for the disk.
    var heldConnects: [HeldConnect] = []
    /// Wills that an earlier process has left, the first to come last.
    var pendingWills: [PendingWill] = []
    /// When those go out that wait behind acknowledgements; nil: there are none.
    var pingsDue: Instant?
    /// No round has ended since they should have: the disk is slow, or fails.
    var isDiskLate = false
    /// What shall be read from queues on the disk.
    var queueRequests: [QueueRequest] = []
    /// The messages that sessions hold, and the number of the one that is being delivered.
    var held = HeldMessages()
    var storing: HeldMessages.Number = 0
    /// The copy without the mount point of the message that is being delivered, for the clients of one listener.
    var unmountedCopy: (listener: ListenerNumber, message: Int)?
    var throttles: [Throttle] = []
    /// What clients owe that are away, and who of them went first.
    var debts: [ClientIdentifier: Throttle] = [:]
    var debtors = Deque<ClientIdentifier>()
    /// Connections whose pause is over.
    var woken: [ConnectionNumber] = []
    var fights = TakeoverFights()
    var waiters: [Waiter] = []
    /// What `memory_limit` keeps from being done, and the first session whose QoS 0 queue has not been dropped for it.
    package internal(set) var shedding = Shedding.none
    var sheddingFrom: Int?

    /// What devices report is told.
    package var tellsOfDevices = false
    /// On their way to devices.
    var commands: [CommandPlace: PendingCommand] = [:]

    var receivers: [Receiver] = []
    private var due: [UInt32] = []

    package init(
        shard: Int, of shards: Int, limits: Limits, rules: [ListenerRules], access: AccessControl,
        directory: Lock<Directory>, throttle: Lock<SignInThrottle>, now: Instant
    ) {
        self.shard = shard
        self.shards = shards
        self.limits = limits
        self.rules = rules
        self.access = access
        self.directory = directory
        self.throttle = throttle
        restrictsPublish = Self.restrictsPublish(limits, rules)
        hasMountPoints = rules.contains { !$0.mountPoint.isEmpty }
        timers = TimerWheel(now: now)
        mailboxIsFull = Array(repeating: false, count: shards)
        directory.withLock { $0.sessionLimit = limits.sessions }
    }

    /// Other limits and rules from now on; `rules` has as many listeners as before.
    package mutating func adopt(_ limits: Limits, _ rules: [ListenerRules]) {
        let had = self.limits
        self.limits = limits
        self.rules = rules
        restrictsPublish = Self.restrictsPublish(limits, rules)
        directory.withLock { $0.sessionLimit = limits.sessions }
        if had.sessionExpiry == 0, limits.sessionExpiry > 0 { beginExpiry() }
    }

    /// Whether a PUBLISH may be against the rules by what its first byte says.
    private static func restrictsPublish(_ limits: Limits, _ rules: [ListenerRules]) -> Bool {
        !limits.isRetainAvailable || rules.contains { $0.maximumQoS < .exactlyOnce }
    }

    // MARK: Connections

    /// A new connection, from which a CONNECT is awaited. The caller gives the number, and may use it again once the
    /// connection's end is in the outbox. `isPlaced` says that it was moved here, where its session shall live.
    package mutating func open(
        _ number: ConnectionNumber, listener: ListenerNumber = 0, isPlaced: Bool = false,
        proof: ConnectionProof? = nil, now: Instant
    ) {
        while connections.count <= Int(number) { connections.append(Connection()) }
        connections[Int(number)] = Connection()
        connections[Int(number)].phase = .awaitingConnect
        connections[Int(number)].isPlaced = isPlaced
        connections[Int(number)].listener = listener
        connections[Int(number)].proof = proof
        connections[Int(number)].isMounted = !rules[Int(listener)].mountPoint.isEmpty
        connections[Int(number)].latestPacket = now
        timers.schedule(number, at: now + limits.connectTimeout)
        counters.connections += 1
        if !isPlaced { counters.connectionsOpened += 1 }
        if Int(number) < throttles.count { throttles[Int(number)] = Throttle() }
    }

    /// A proxy has said for whom it speaks.
    package mutating func setProof(_ number: ConnectionNumber, _ proof: ConnectionProof) {
        connections[Int(number)].proof = proof
    }

    /// A packet has come whole. Throws what is wrong with it; the caller posts the mail that is in the outbox, so that
    /// nothing overtakes it, and then ends the connection for that reason [MQTT-4.8.0-1].
    package mutating func receive(
        _ header: FixedHeader, _ body: Span<UInt8>, from number: ConnectionNumber, now: Instant,
        into outbox: inout Outbox
    ) throws(CloseReason) {
        // A CONNECT that was moved here has been counted where it came in.
        if !connections[Int(number)].isPlaced || connections[Int(number)].phase != .awaitingConnect {
            counters.packetsReceived += 1
        }
        connections[Int(number)].latestPacket = now
        if sweptSessions != nil, isEndedByRules(number, now: now, into: &outbox) { return }
        guard header.packetLength <= limits.packetBytes || connections[Int(number)].phase != .connected else {
            throw .packetTooLarge(bytes: header.packetLength)
        }
        var violation: CloseReason?
        do throws(MalformedPacket) {
            let type = try header.type(for: connections[Int(number)].version)
            switch (connections[Int(number)].phase, type) {
            case (.connected, .publish):
                if restrictsPublish { violation = breach(of: header, by: number) }
                if limits.throttlesPublishers, violation == nil, mustEarn(number, &outbox) { break }
                if violation == nil { try publish(header, body, from: number, into: &outbox) }
            case (.connected, .publishAcknowledgement):
                acknowledged(try Acknowledgement.packetIdentifier(of: body), number, &outbox)
            case (.connected, .publishReceived):
                received(try Acknowledgement.packetIdentifier(of: body), number, &outbox)
            case (.connected, .publishRelease):
                released(try Acknowledgement.packetIdentifier(of: body), number, &outbox)
            case (.connected, .publishComplete):
                completed(try Acknowledgement.packetIdentifier(of: body), number, &outbox)
            case (.connected, .subscribe): subscribe(try Subscribe(body), body, number, &outbox)
            case (.connected, .unsubscribe): unsubscribe(try Unsubscribe(body), body, number, &outbox)
            case (.connected, .pingRequest):
                guard body.isEmpty else { throw .trailingBytes }
                respondToPing(number, now, &outbox)
            case (.connected, .disconnect):
                guard body.isEmpty else { throw .trailingBytes }
                end(number, .disconnected, now: now, into: &outbox)
            case (.connected, .connect):  // [MQTT-3.1.0-2]
                violation = .protocolViolation("a second CONNECT [MQTT-3.1.0-2]")
            case (.awaitingConnect, .connect):
                if !connections[Int(number)].isPlaced { counters.connectsReceived += 1 }
                switch try Connect.decode(body) {
                case .connect(let connect): self.connect(connect, number, now, &outbox)
                case .unacceptableProtocolLevel: refuse(number, .unacceptableProtocolVersion, now, &outbox)
                }
            case (.awaitingConnect, _):
                violation = .beforeConnect
            case (.free, _): break  // Closed by an earlier packet of the same read [MQTT-3.1.4-5].
            case (.connected, _): throw .unexpectedType(type.rawValue)
            }
        } catch {
            throw .malformed(error)
        }
        if let violation { throw violation }
    }

    /// Whether the connection is open still; packets that were read with the one that ended it are not handled.
    @inline(__always)
    package func isOpen(_ number: ConnectionNumber) -> Bool { connections[Int(number)].phase != .free }

    /// Looks at a packet of which only the header has come, so that nothing is kept for one that will be refused. Throws
    /// like `receive`.
    package func announce(_ header: FixedHeader, from number: ConnectionNumber) throws(CloseReason) {
        let connection = connections[Int(number)]
        let type: ControlPacketType
        do throws(MalformedPacket) {
            type = try header.type(for: connection.version)
        } catch {
            throw .malformed(error)
        }
        switch connection.phase {
        case .awaitingConnect where type != .connect: throw .beforeConnect
        case .awaitingConnect where header.remainingLength > Connect.maximumBodyBytes: throw .malformed(.trailingBytes)
        case .connected where header.packetLength > limits.packetBytes:
            throw .packetTooLarge(bytes: header.packetLength)
        default: break
        }
    }

    /// Acknowledgements of this connection that wait for the disk; at `Limits.waitingAcknowledgements` it isn't read.
    package func waitingAcknowledgements(_ number: ConnectionNumber) -> Int {
        let count = connections[Int(number)].acknowledgements.count
        return count > 0 && (ledger?.isFull ?? false) ? Limits.waitingAcknowledgements : count
    }

    /// Bytes of changes that no round has taken yet: of this shard, and of the others, as they were lately.
    package var uncommittedBytes: Int { ledger?.byteCount ?? 0 }
    package mutating func setUncommittedBytesElsewhere(_ bytes: Int) { ledger?.bytesElsewhere = bytes }

    /// Ends a connection for a reason that lies outside of its packets.
    package mutating func end(
        _ number: ConnectionNumber, _ reason: CloseReason, now: Instant, into outbox: inout Outbox
    ) {
        let connection = connections[Int(number)]
        guard connection.phase != .free else { return }
        connections[Int(number)] = Connection()
        timers.cancel(number)
        stopWaiting(number)
        if !heldConnects.isEmpty { heldConnects.removeAll { $0.connection == number } }
        counters.connections -= 1
        var client: ClientIdentifier?
        var (will, publisher) = (connection.will, Participant?.none)
        if connection.phase == .connected {
            let slot = connection.slot
            publisher = sessions[slot].participant
            // Who has lost their right to be here says nothing more.
            if reason == .disconnected || reason == .notAuthorized { will = nil }
            if let message = will?.message, !mayPublishWill(message, slot) { will = nil }
            client = sessions[slot].client
            if limits.throttlesPublishers { keepDebt(of: sessions[slot].client, number, now: now) }
            sessions[slot].connection = Session.noConnection
            sessions[slot].isBarred = false
            storeWill(nil, slot, silence: 0)
            if !waiters.isEmpty, reason != .takenOver { hurryWaiters(for: sessions[slot].client) }
            if sessions[slot].cleanSession {
                removeSession(slot)
            } else {
                let reference = sessions[slot].reference
                directory.withLock { $0.setConnected(reference, false) }
                sessions[slot].outgoing.rewind()
                noteAbsent(slot, since: now)
            }
        }
        if case .refused = reason { outbox.close(number, isRefusal: true) } else { outbox.close(number) }
        outbox.note(.closed(number, client: client, reason: reason))
        // After the session has let go of the connection, over which its own will could not go [MQTT-3.1.2-8].
        if let will { publish(will, of: publisher, into: &outbox) }
    }

    /// Publishes the wills of all connections, which are about to end with the server, while their receivers are still
    /// there.
    package mutating func publishWills(into outbox: inout Outbox) {
        for number in connections.indices {
            guard let will = connections[number].will else { continue }
            connections[number].will = nil
            let slot = connections[number].slot
            // With what comes of it, or it would come again.
            if connections[number].phase == .connected { storeWill(nil, slot, silence: 0) }
            guard mayPublishWill(will.message, slot) else { continue }
            publish(will, of: sessions[slot].participant, into: &outbox)
        }
    }

    /// Whether the session's client has the right to its will now that it is due.
    mutating func mayPublishWill(_ message: ApplicationMessage, _ slot: Int) -> Bool {
        if mayWrite(slot, message.bytes.span.extracting(message.topicRange)), !sessions[slot].isBarred { return true }
        counters.publishesDenied += 1
        return false
    }

    mutating func publish(_ will: WillMessage, of publisher: Participant?, into outbox: inout Outbox) {
        let topic = will.message.bytes.span.extracting(will.message.topicRange)
        guard isWelcome(topic, payloadBytes: will.message.payloadCount) else { return }
        route(will.message, qos: will.qos, isRetained: will.isRetained, by: publisher, into: &outbox)
    }

    /// Ends all connections.
    package mutating func shutDown(now: Instant, into outbox: inout Outbox) {
        for number in connections.indices { end(ConnectionNumber(number), .serverStops, now: now, into: &outbox) }
    }

    /// The connection leaves for another shard: nothing of it stays here.
    mutating func move(_ number: ConnectionNumber, to shard: Int, _ outbox: inout Outbox) {
        connections[Int(number)] = Connection()
        timers.cancel(number)
        counters.connections -= 1
        outbox.move(number, to: shard)
    }

    // MARK: Time

    /// Ends the connections and the sessions whose time is up.
    package mutating func tick(_ now: Instant, into outbox: inout Outbox) {
        expireSessions(now)
        publishPendingWills(now, into: &outbox)
        answerLatePings(now, into: &outbox)
        ledger?.judgeHandovers(now)
        fights.expire(now)
        noteEndedFights(&outbox)
        due.removeAll(keepingCapacity: true)
        timers.expire(now, into: &due)
        let numbers = due
        for number in numbers {
            let connection = connections[Int(number)]
            if let end = connection.pausedUntil {
                if end <= now { wake(number, now: now) } else { timers.schedule(number, at: end) }
                continue
            }
            switch connection.phase {
            case .free: break
            case .awaitingConnect:
                let deadline = connection.latestPacket + limits.connectTimeout
                if deadline <= now, connection.verification.isUnderWay {
                    // It has done its part: the broker is too busy to check its password in time.
                    counters.signInsCrowdedOut += 1
                    refuse(number, .serverUnavailable, now, &outbox)
                } else if deadline <= now, heldConnects.contains(where: { $0.connection == number }) {
                    refuse(number, .serverUnavailable, now, &outbox)
                } else if deadline <= now {
                    end(number, .connectTimeout, now: now, into: &outbox)
                } else {
                    timers.schedule(number, at: deadline)
                }
            case .connected:
                // Timers aren't moved with each packet: one that comes up looks when the last packet came.
                let silence = connection.isUnread ? max(connection.silence, Limits.unreadPatience) : connection.silence
                let deadline = connection.latestPacket + silence
                if deadline <= now {
                    end(number, .keepAliveExpired, now: now, into: &outbox)
                } else {
                    timers.schedule(number, at: deadline)
                }
            }
        }
    }

    /// When `tick` has something to do next.
    package mutating func nextTick() -> Instant? {
        let others = [
            nextSessionExpiry, fights.nextCheck, pendingWills.last?.due, pingsDue, ledger?.nextJudgement(),
        ].compactMap { $0 }
        return others.reduce(timers.nextExpiry()) { min($0 ?? $1, $1) }
    }

    /// The connection is not read from now on, or is again: what it doesn't say then is not its silence.
    package mutating func setUnread(_ number: ConnectionNumber, _ isUnread: Bool, now: Instant) {
        connections[Int(number)].isUnread = isUnread
        connections[Int(number)].latestPacket = now
        let silence = connections[Int(number)].silence
        if silence > 0, !isPaused(number) { timers.schedule(number, at: now + silence) }
    }

    @inline(__always)
    package func isUnread(_ number: ConnectionNumber) -> Bool { connections[Int(number)].isUnread }

    /// The peer of a connection that is not read takes what is sent to it: it is alive.
    package mutating func noteProgress(_ number: ConnectionNumber, now: Instant) {
        connections[Int(number)].latestPacket = now
    }

    // MARK: Counting what only the owner of the sockets sees

    package mutating func countReceived(bytes: Int) { counters.bytesReceived += UInt64(bytes) }
    package mutating func countSent(bytes: Int) { counters.bytesSent += UInt64(bytes) }
    package mutating func countHeldPublisher() { counters.publishersHeld += 1 }
    package mutating func countSent(packets: Int) { counters.packetsSent += UInt64(packets) }

    // MARK: Sessions

    /// Client, owner, since when it is away, and how many messages wait for it or are on their way.
    package var sessionFigures: [(ClientIdentifier, Participant?, absentSince: Instant?, queued: Int)] {
        sessions.filter { $0.reference.number != .max }.map { session in
            (
                session.client, session.participant, session.isAbsent ? session.absentSince : nil,
                session.outgoing.items.count + session.outgoing.spill.count
            )
        }
    }

    /// Ends the session of a client that lives here, and its connection. False: there is none.
    package mutating func removeSession(
        of client: ClientIdentifier, now: Instant, into outbox: inout Outbox
    ) -> Bool {
        guard let slot = sessions.firstIndex(where: { $0.client == client && $0.reference.number != .max }) else {
            return false
        }
        let (reference, connection) = (sessions[slot].reference, sessions[slot].connection)
        if connection != Session.noConnection { end(connection, .sessionRemoved, now: now, into: &outbox) }
        if sessions[slot].reference == reference { removeSession(slot) }
        return true
    }

    @inline(__always)
    func slot(of number: SessionNumber) -> Int { shards == 1 ? Int(number) : Int(number) / shards }

    /// Returns the commit after which it is gone on the disk too; nil for none.
    @discardableResult
    mutating func removeSession(_ slot: Int) -> CommitTicket? {
        closeCursors(slot)
        sessions[slot].outgoing.releaseAll(held: &held)
        let reference = sessions[slot].reference
        // A few at a time, for everybody waits for the lock.
        while directory.withLock({ $0.removeSubscriptions(of: reference, atMost: Limits.nodesPerSlice) }) {}
        absent.remove(UInt32(slot))
        let (stored, client) = (sessions[slot].stored, sessions[slot].client)
        ledger?.spilledMessages -= sessions[slot].outgoing.spill.count
        sessions[slot] = Session()
        var (round, ticket): (CommitTicket?, CommitTicket?) = (nil, nil)
        if stored != 0, let waits = ledger?.waits {
            ledger?.remove(stored)
            round = ledger?.round
            ticket = ledger?.note(waits: waits)
        }
        // At once, for another shard may be asked for this client in between.
        let committed = ledger?.committed ?? 0
        directory.withLock { directory in
            directory.remove(reference)
            if let round { directory.noteRemoval(of: client, in: round, committed: committed) }
        }
        return ticket
    }
}
