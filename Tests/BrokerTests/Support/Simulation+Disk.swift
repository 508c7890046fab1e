import MQTT

@testable import Broker

/// What the broker has promised, and what of it has to be there after a crash. A shard knows which round is open with it when
/// it handles a packet, so of each thing it is known whether it is on the disk: what acknowledgements say is held against that.
extension Simulation {
    /// A PUBLISH that the broker has handled, and that is perhaps not on the disk.
    final class Message {
        let topic: String
        let payload: String
        let qos: QoS
        let identifier: PacketIdentifier
        let publisher: Session
        let tag: Int
        /// In which it gets to the disk, wherever it goes.
        let round: CommitTicket
        let durability: Durability
        /// PUBACK or PUBREC has gone out.
        var isAnswered = false
        /// Who is owed it at QoS 1 or 2.
        var receivers: [Session] = []

        /// `identifier`: 0 where nobody waits for an acknowledgement.
        init(
            _ message: ApplicationMessage, _ qos: QoS, _ identifier: PacketIdentifier = 0, by publisher: Session,
            on tag: Int, in round: CommitTicket, _ durability: Durability
        ) {
            topic = String(decoding: message.topic, as: UTF8.self)
            payload = String(decoding: message.payload, as: UTF8.self)
            self.qos = qos
            self.identifier = identifier
            self.publisher = publisher
            self.tag = tag
            self.round = round
            self.durability = durability
        }
    }

    /// A message of QoS 1 or 2 in the queue of a persistent session.
    final class Queued {
        let payload: String
        let qos: QoS
        let durability: Durability
        /// The rounds in which it came, went out first, was known to be received, and was over.
        let came: CommitTicket
        var sent: CommitTicket?
        var received: CommitTicket?
        var over: CommitTicket?
        /// It was perhaps kept out.
        var mayBeDropped = false

        init(_ message: Message, _ qos: QoS) {
            payload = message.payload
            self.qos = qos
            durability = message.durability
            came = message.round
        }

        /// What a broker finds that begins.
        init(_ row: SimulatedDisk.Row, _ durability: Durability) {
            payload = row.message.map { String(decoding: $0.payload, as: UTF8.self) } ?? "what is released"
            qos = row.qos
            self.durability = durability
            came = 0
            if row.packetIdentifier != 0 { sent = 0 }
            if row.isReleased { received = 0 }
        }

        func isNext(_ delivery: Delivery) -> Bool {
            sent == nil && payload == delivery.payload && qos == delivery.qos
        }
    }

    /// One that was stored for a topic.
    struct Retained {
        let payload: String
        let round: CommitTicket
        let durability: Durability
        var isPromised = false
    }

    func durability(of topic: String) -> Durability {
        let rule = settings.durability.rules.first {
            NaiveDirectory.matches(String(decoding: $0.filter, as: UTF8.self), topic)
        }
        return rule?.durability ?? settings.durability.standard
    }

    func durability(of message: ApplicationMessage) -> Durability {
        durability(of: String(decoding: message.topic, as: UTF8.self))
    }

    func retain(_ message: Message) {
        guard settings.hasDisk, isKept(message) else { return }
        let stored = Retained(payload: message.payload, round: message.round, durability: message.durability)
        retained[message.topic, default: []].append(stored)
    }

    /// A client hears that it has none of its earlier sessions any more.
    func forgetSessions(of name: String) {
        guard settings.hasDisk else { return }
        for session in endedSessions[name] ?? [] { session.isForgotten = true }
        guard settings.durability.standard == .acknowledged else { return }
        for session in endedSessions.removeValue(forKey: name) ?? []
        where session.journal.discardedIn ?? 0 > broker.roundsWritten {
            fail("\(name) is told that its session is gone, and it is not gone on the disk")
        }
    }

    // MARK: Promises

    /// A packet on its way to a client says that something is on the disk.
    func promised(_ packet: ControlPacket, _ session: Session, tag: Int) {
        switch packet {
        case .subscribeAcknowledgement(let acknowledgement):
            guard settings.durability.standard == .acknowledged else { return }
            session.journal.acknowledgeSubscription(acknowledgement.packetIdentifier, tag: tag)
        case .acknowledgement(let acknowledgement):
            let identifier = acknowledgement.packetIdentifier
            switch acknowledgement.type {
            case .unsubscribeAcknowledgement:
                guard settings.durability.standard == .acknowledged else { return }
                session.journal.acknowledgeSubscription(identifier, tag: tag)
            case .publishAcknowledgement:
                answered { $0.qos == .atLeastOnce && $0.identifier == identifier && $0.tag == tag }
            case .publishReceived:
                if session.incoming[identifier] == .acknowledged { session.journal.acknowledgeReceived(identifier) }
                answered { $0.qos == .exactlyOnce && $0.identifier == identifier && $0.publisher === session }
            case .publishComplete:
                if settings.durability.promisesAnything { session.journal.acknowledgeReleased(identifier) }
            case .publishRelease: session.inFlight[identifier]?.isReleased = true
            default: break
            }
        default: break
        }
    }

    /// The oldest of those messages is acknowledged.
    private func answered(_ isMeant: (Message) -> Bool) {
        guard let message = messages.first(where: { !$0.isAnswered && isMeant($0) }) else { return }
        message.isAnswered = true
        guard message.durability == .acknowledged else { return }
        promise(message)
        for index in (retained[message.topic] ?? []).indices
        where retained[message.topic]?[index].payload == message.payload {
            retained[message.topic]?[index].isPromised = true
        }
    }

    private func promise(_ message: Message) {
        for receiver in message.receivers { receiver.promised.insert(message.payload) }
    }

    /// These rounds are on the disk, whoever has heard of it.
    func noteWritten(through round: CommitTicket) {
        for message in messages where message.round <= round { promise(message) }
        messages.removeAll { $0.round <= round }
        for session in sessions.values { session.queue.removeAll { $0.over ?? .max <= round } }
    }

    // MARK: A crash

    /// The disk has this after a crash, with the rounds through `written`. What else there was is gone. The next broker begins
    /// now.
    func survive(_ disk: SimulatedDisk, written: CommitTicket, now: Instant) {
        if let wrong = disk.problem { fail(wrong) }
        noteWritten(through: written)
        for message in messages where message.qos == .exactlyOnce && message.durability == .acknowledged {
            for receiver in message.receivers
            where !receiver.isClean && receiver.sentExactlyOnce.contains(message.payload) {
                fail("\(message.payload) went out before it was on the disk")
            }
        }
        messages = []
        pendingWills = []
        for client in clients {
            let name = client.name
            let possible = (endedSessions[name] ?? []) + (sessions[name].map { $0.isClean ? [] : [$0] } ?? [])
            let session = possible.last { $0.journal.state(after: written) != nil }
            let expected = session?.journal.state(after: written)
            let found = disk.session(of: name).map(Self.state)
            if found != expected {
                let texts = [expected, found].map { $0.map { "\($0)" } ?? "no session" }
                return fail("\(name): the disk should have \(texts[0]), and has \(texts[1])")
            }
            endedSessions[name] = nil
            if let lost = sessions[name], lost !== session {
                lostIdentifiers[name, default: []].formUnion(lost.inFlight.keys)
            }
            sessions[name] = session
            guard let session, let found, let rows = disk.queue(of: name) else { continue }
            begin(session, name, from: found, rows, written: written)
            if let will = found.will { pend(will, of: session, name, now) }
            if found.absentSince == nil { session.journal.append(.missed(now), in: 1) }
        }
        settleRetained(disk.payloads, written)
    }

    private func begin(
        _ session: Session, _ name: String, from found: SessionJournal.State, _ rows: [SimulatedDisk.Row],
        written: CommitTicket
    ) {
        let texts = rows.map { "#\($0.packetIdentifier)\($0.isReleased ? " released" : "")" }
        trace?("\(name) has \(texts.joined(separator: ", ")) on the disk")
        checkQueue(of: session, name, rows, written)
        checkLength(of: rows, name)
        checkInFlight(of: session, name, rows, written)
        // Then it comes again: its publisher does not know that it came, or the broker not that it was received.
        for queued in session.queue where queued.durability < .acknowledged {
            if max(queued.sent ?? 0, queued.received ?? 0) > written {
                session.gotExactlyOnce.remove(queued.payload)
            }
        }
        session.owedExactlyOnce.formIntersection(session.promised)
        session.owedAtLeastOnce.formIntersection(session.promised)
        if session.journal.isDiscarded {
            let late = Set(session.queue.filter { $0.came == written }.map(\.payload))
                .subtracting(rows.compactMap { $0.message.map { String(decoding: $0.payload, as: UTF8.self) } })
            session.owedExactlyOnce.subtract(late)
            session.owedAtLeastOnce.subtract(late)
        }
        if session.isForgotten { (session.gotExactlyOnce, session.isForgotten) = ([], false) }
        session.journal.begin(from: found)
        session.subscriptions = found.subscriptions.sorted { $0.key < $1.key }.map { (filter: $0.key, qos: $0.value) }
        session.incoming = Dictionary(uniqueKeysWithValues: found.incoming.map { ($0, .memory) })
        (session.queue, session.inFlight) = ([], [:])
        (session.hasStoredQueue, session.isUnread) = (!rows.isEmpty, !rows.isEmpty)
        for row in rows {
            let queued = Queued(row, durability(of: row))
            if !row.isRetained {
                session.queue.append(queued)
                session.mayMiss.remove(queued.payload)
            }
            guard row.packetIdentifier != 0 else { continue }
            session.inFlight[row.packetIdentifier] = .init(
                payload: queued.payload, qos: row.qos, durability: queued.durability, sent: 0,
                queued: row.isRetained ? nil : queued, received: row.isReleased ? 0 : nil)
        }
    }

    private func durability(of row: SimulatedDisk.Row) -> Durability {
        if let message = row.message { return durability(of: message) }
        return settings.durability.promisesAnything ? .acknowledged : settings.durability.standard
    }

    private static func state(of stored: SimulatedDisk.Session) -> SessionJournal.State {
        var state = SessionJournal.State(incoming: stored.inbound, absentSince: stored.row.absentSince)
        state.will = stored.will.map { String(decoding: $0.will.message.payload, as: UTF8.self) }
        for (filter, qos) in stored.subscriptions { state.subscriptions[String(decoding: filter, as: UTF8.self)] = qos }
        return state
    }

    /// In the queue of a session is what came through a round that was written, and was not over by then. What was over one
    /// round later is perhaps not written at all.
    private func checkQueue(
        of session: Session, _ name: String, _ rows: [SimulatedDisk.Row], _ written: CommitTicket
    ) {
        var (certain, possible): ([String: Int], [String: Int]) = ([:], [:])
        for queued in session.queue where queued.came <= written && queued.over ?? .max > written {
            let text = queued.received ?? .max <= written ? "what is released" : queued.payload
            possible[text, default: 0] += 1
            // Not even on the disk when it need not, unless the queue is long.
            guard queued.durability > .memory, !queued.mayBeDropped else { continue }
            // What has come from another shard for a session that was about to end does not come again with it.
            if session.journal.isDiscarded, queued.came == written { continue }
            if queued.over ?? .max > written + 1 { certain[text, default: 0] += 1 }
        }
        var found: [String: Int] = [:]
        for row in rows where !row.isRetained {
            let payload = row.message.map { String(decoding: $0.payload, as: UTF8.self) }
            if settings.burst == 1, !session.hasStoredQueue, durability(of: row) == .memory {
                fail("\(name): \(payload ?? "") is on the disk")
            }
            found[payload ?? "what is released", default: 0] += 1
        }
        for (text, count) in found.sorted(by: { $0.key < $1.key }) where count > possible[text] ?? 0 {
            fail("\(name): \(text) is on the disk \(count) times, not \(possible[text] ?? 0)")
        }
        for (text, count) in certain.sorted(by: { $0.key < $1.key }) where count > found[text] ?? 0 {
            fail("\(name): \(text) is on the disk \(found[text] ?? 0) times, not \(count)")
        }
    }

    /// A QoS 2 message that went out has its Packet Identifier on the disk.
    private func checkInFlight(
        of session: Session, _ name: String, _ rows: [SimulatedDisk.Row], _ written: CommitTicket
    ) {
        var there: [PacketIdentifier: (row: SimulatedDisk.Row, payload: String)] = [:]
        for row in rows where row.packetIdentifier != 0 {
            if there[row.packetIdentifier] != nil { fail("\(name): \(row.packetIdentifier) is there twice") }
            let payload = row.message.map { String(decoding: $0.payload, as: UTF8.self) }
            there[row.packetIdentifier] = (row, payload ?? "what is released")
        }
        for (identifier, before) in session.inFlight.sorted(by: { $0.key < $1.key }) where before.qos == .exactlyOnce {
            let text = "\(name): \(before.payload) #\(identifier)"
            let now = there[identifier]
            if now == nil || now?.payload != before.payload { lostIdentifiers[name, default: []].insert(identifier) }
            let durability = before.durability
            guard durability == .acknowledged || durability == .relaxed && before.sent <= written else { continue }
            guard let now, now.row.qos == .exactlyOnce else {
                fail("\(text) is not on the disk")
                continue
            }
            let isReleased = durability == .acknowledged ? before.isReleased : before.received ?? .max <= written
            if isReleased, !now.row.isReleased { fail("\(text) is not released on the disk") }
            if !now.row.isReleased, now.payload != before.payload { fail("\(text) is \(now.payload) on the disk") }
            if now.row.isReleased, before.received == nil { fail("\(text) is released on the disk") }
        }
    }

    /// What is retained gets to the disk with a round, or with the one before.
    private func settleRetained(_ found: [String: String], _ written: CommitTicket) {
        for topic in found.keys.sorted() where retained[topic] == nil { fail("\(topic) is retained") }
        for topic in retained.keys.sorted() {
            let stored = retained[topic] ?? []
            let oldest = stored.lastIndex { $0.durability > .memory && ($0.isPromised || $0.round <= written) }
            retained[topic] = nil
            guard let payload = found[topic] else {
                if oldest != nil { fail("what is retained for \(topic) is lost") }
                continue
            }
            let possible = stored[(oldest ?? 0)...].filter { $0.durability > .memory && $0.round <= written + 1 }
            guard possible.contains(where: { $0.payload == payload }) else {
                fail("\(payload) is retained for \(topic)")
                continue
            }
            retained[topic] = [
                Retained(payload: payload, round: 0, durability: possible[0].durability, isPromised: true)
            ]
        }
    }

    // MARK: The end

    /// When all is over, and the last commit too: nothing is left behind.
    func checkDisk() {
        for client in clients where !client.cleanSession {
            guard let journal = sessions[client.name]?.journal else { continue }
            if broker.disk.session(of: client.name).map(Self.state) != journal.state(after: .max) {
                fail("\(client.name): the disk does not have what is so")
            }
            let queue = broker.disk.queue(of: client.name) ?? []
            if !queue.isEmpty { fail("\(client.name): \(queue.count) messages stay on the disk") }
        }
    }
}
