import MQTT

@testable import Broker

/// What the broker has promised, and what of it has to be there after a crash.
extension Simulation {
    /// A PUBLISH that the broker has handled and not acknowledged.
    final class Message {
        let topic: String
        let payload: String
        let qos: QoS
        let identifier: PacketIdentifier
        let publisher: Session
        let tag: Int
        /// At QoS 2, in the journal of its publisher.
        let place: Int
        /// Who is owed it at QoS 1 or 2.
        var receivers: [Session] = []
        var retained: Retained?

        init(
            _ message: ApplicationMessage, _ qos: QoS, _ identifier: PacketIdentifier, by publisher: Session,
            on tag: Int, at place: Int
        ) {
            topic = String(decoding: message.topic, as: UTF8.self)
            payload = String(decoding: message.payload, as: UTF8.self)
            self.qos = qos
            self.identifier = identifier
            self.publisher = publisher
            self.tag = tag
            self.place = place
        }
    }

    /// One that was stored for a topic.
    final class Retained {
        let payload: String
        var isPromised = false

        init(_ payload: String) { self.payload = payload }
    }

    func retain(_ message: Message) {
        guard settings.hasDisk else { return }
        let stored = Retained(message.payload)
        message.retained = stored
        retained[message.topic, default: []].append(stored)
    }

    // MARK: Promises

    /// A packet on its way to a client says that something is on the disk.
    func promised(_ packet: ControlPacket, _ session: Session, tag: Int) {
        switch packet {
        case .subscribeAcknowledgement(let acknowledgement):
            session.journal.acknowledgeSubscription(acknowledgement.packetIdentifier, tag: tag)
        case .acknowledgement(let acknowledgement):
            let identifier = acknowledgement.packetIdentifier
            switch acknowledgement.type {
            case .unsubscribeAcknowledgement: session.journal.acknowledgeSubscription(identifier, tag: tag)
            case .publishAcknowledgement:
                promise { $0.qos == .atLeastOnce && $0.identifier == identifier && $0.tag == tag }
            case .publishReceived:
                session.journal.acknowledgeReceived(identifier)
                promise { $0.qos == .exactlyOnce && $0.identifier == identifier && $0.publisher === session }
            case .publishComplete: session.journal.acknowledgeReleased(identifier)
            case .publishRelease: session.inFlight[identifier]?.isReleased = true
            default: break
            }
        default: break
        }
    }

    /// The oldest of those messages is acknowledged.
    private func promise(_ isMeant: (Message) -> Bool) {
        guard let index = messages.firstIndex(where: isMeant) else { return }
        promise(messages.remove(at: index))
    }

    private func promise(_ message: Message) {
        for receiver in message.receivers { receiver.promised.insert(message.payload) }
        message.retained?.isPromised = true
    }

    // MARK: A crash

    /// The disk has this after a crash. What else there was is gone; what was promised must not be.
    func survive(_ disk: SimulatedDisk) {
        if let wrong = disk.problem { fail(wrong) }
        var places: [ObjectIdentifier: Int] = [:]
        for client in clients {
            let stored = disk.session(of: client.name)
            guard let session = sessions[client.name], !session.isClean else {
                if stored != nil { fail("\(client.name) has a session on the disk, and should not have one") }
                sessions[client.name] = nil
                continue
            }
            let found = stored.map(Self.state)
            guard let place = session.journal.settle(on: found) else {
                return fail("\(client.name): the disk has \(found.map { "\($0)" } ?? "no session")")
            }
            // Without a session nobody can tell how far it had come: it was not begun, or it was discarded.
            if found != nil { places[ObjectIdentifier(session)] = place } else { sessions[client.name] = nil }
            session.subscriptions = (found?.subscriptions ?? [:]).sorted { $0.key < $1.key }
                .map { (filter: $0.key, qos: $0.value) }
            session.incoming = found?.incoming ?? []
        }
        settleMessages(places)
        for client in clients {
            if let session = sessions[client.name], let queue = disk.queue(of: client.name) {
                let rows = queue.map { "#\($0.packetIdentifier)\($0.isReleased ? " released" : "")" }
                trace?("\(client.name) has \(rows.joined(separator: ", ")) on the disk")
                settleInFlight(of: session, client.name, queue)
            }
        }
        settleRetained(disk.payloads)
    }

    /// When all is over, and the last commit too: nothing is left behind.
    func checkDisk() {
        for client in clients where !client.cleanSession {
            guard var journal = sessions[client.name]?.journal else { continue }
            let next = journal.next
            if journal.settle(on: broker.disk.session(of: client.name).map(Self.state)) != next {
                fail("\(client.name): the disk does not have what is so")
            }
            let queue = broker.disk.queue(of: client.name) ?? []
            if !queue.isEmpty { fail("\(client.name): \(queue.count) messages stay on the disk") }
        }
    }

    private static func state(of stored: SimulatedDisk.Session) -> SessionJournal.State {
        var state = SessionJournal.State(incoming: stored.inbound)
        for (filter, qos) in stored.subscriptions { state.subscriptions[String(decoding: filter, as: UTF8.self)] = qos }
        return state
    }

    /// A QoS 2 message of a persistent session is there with its Packet Identifier, for everybody; without that nobody has
    /// it. What else was not acknowledged may be there or not.
    private func settleMessages(_ places: [ObjectIdentifier: Int]) {
        for message in messages where message.qos == .exactlyOnce {
            guard let place = places[ObjectIdentifier(message.publisher)] else { continue }
            if message.place < place {
                promise(message)
            } else {
                for receiver in message.receivers where !receiver.isClean {
                    if receiver.sentExactlyOnce.contains(message.payload) {
                        fail("\(message.payload) went out before its identifier was on the disk")
                    }
                }
            }
        }
        messages = []
        for session in sessions.values {
            session.owedExactlyOnce.formIntersection(session.promised)
            session.owedAtLeastOnce.formIntersection(session.promised)
        }
    }

    private func settleInFlight(of session: Session, _ name: String, _ queue: [SimulatedDisk.Row]) {
        var inFlight: [PacketIdentifier: Session.InFlight] = [:]
        for row in queue where row.packetIdentifier != 0 {
            if inFlight[row.packetIdentifier] != nil { fail("\(name): \(row.packetIdentifier) is there twice") }
            let payload = row.message.map { String(decoding: $0.payload, as: UTF8.self) }
            inFlight[row.packetIdentifier] = .init(
                payload: payload ?? "what is released", qos: row.qos, isReceived: row.isReleased)
        }
        for (identifier, before) in session.inFlight.sorted(by: { $0.key < $1.key }) where before.qos == .exactlyOnce {
            let text = "\(name): \(before.payload) #\(identifier)"
            guard let now = inFlight[identifier], now.qos == .exactlyOnce else {
                fail("\(text) is not on the disk")
                continue
            }
            if before.isReleased, !now.isReceived { fail("\(text) is not released on the disk") }
            if !now.isReceived, now.payload != before.payload { fail("\(text) is \(now.payload) on the disk") }
            if now.isReceived, !before.isReceived { fail("\(text) is released on the disk") }
        }
        session.inFlight = inFlight
    }

    private func settleRetained(_ found: [String: String]) {
        for topic in retained.keys.sorted() {
            let stored = retained[topic] ?? []
            let oldest = stored.lastIndex(where: \.isPromised) ?? 0
            guard let payload = found[topic] else {
                if stored.contains(where: \.isPromised) { fail("what is retained for \(topic) is lost") }
                retained[topic] = nil
                continue
            }
            guard let place = stored[oldest...].lastIndex(where: { $0.payload == payload }) else {
                fail("\(payload) is retained for \(topic)")
                continue
            }
            stored[place].isPromised = true
            retained[topic] = [stored[place]]
        }
    }
}
