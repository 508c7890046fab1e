/// Watches one connection of the fuzzer: what the client sent, as the specification reads it, and whether what the
/// broker sends can be the answer of a conforming one. Says what is wrong as a sentence; nil while nothing is.
package struct FuzzWitness {
    private enum Phase: Equatable {
        case awaitingConnect
        case connected
        /// Speaks a protocol of which nothing is known here: it may be refused with CONNACK 1, or go on in its own way.
        case foreign
        /// The client said DISCONNECT or broke the protocol: what it sends from now on means nothing.
        case over(String)
    }

    private var phase = Phase.awaitingConnect
    private var unread: [UInt8] = []
    private var cameByteCount = 0
    private(set) var connect: ClientPacket.Connect?
    private(set) var connack: UInt8?
    private var sessionPresent = false
    /// Whether each of its packets must have been answered when it ends.
    private var owesAll = true

    // Of what was sent and waits for its answer.
    private var pubacks: [UInt16] = []
    private var pubrecs: [UInt16] = []
    private var subacks: [(identifier: UInt16, qos: [UInt8])] = []
    private var unsubacks: [UInt16] = []
    private var pubcomps: [UInt16] = []
    private var pingresps = 0
    /// PUBREL that must be answered: those of messages that were sent here.
    private var owedPubcomps: [UInt16] = []
    private var unreleased = Set<UInt16>()

    private var subscriptions: [(filter: [UInt8], qos: UInt8)] = []
    /// How often each identifier may be given to a new message: once, and again for each answer that could free it.
    private var releases: [UInt16: Int] = [:]
    private var given: [UInt16: Int] = [:]
    private var recs: [UInt16: Int] = [:]
    /// What the client may answer: the packet and its identifier.
    private var dueReplies = Set<[UInt16]>()

    /// Names that last on the broker: of sessions, of retained messages.
    package private(set) var lastingSession: [UInt8]?
    package private(set) var retainedTopics: [[UInt8]] = []

    package init() {}

    /// The broker must close the connection without any more from us.
    package var mustBeClosed: Bool {
        if case .over = phase { return true }
        return connack.map { $0 != 0 } ?? false
    }

    /// Somebody else may have ended the connection, so that nothing is owed any more.
    package mutating func mayBeGone() { owesAll = false }

    package var clientIdentifier: [UInt8]? { connect?.clientIdentifier }

    // MARK: What the client sends

    /// Returns whether something must come back.
    @discardableResult
    package mutating func sent(_ bytes: [UInt8]) -> Bool {
        if case .over = phase { return true }
        unread += bytes
        var rest = unread[...]
        var awaitsAnswer = false
        while true {
            switch Frame.cut(rest) {
            case .frame(let frame, let byteCount):
                rest = rest.dropFirst(byteCount)
                if take(frame) { awaitsAnswer = true }
            case .endlessLength:
                breakProtocol("a Remaining Length of five bytes")
                rest = []
            case .incomplete:
                unread = Array(rest)
                return awaitsAnswer
            }
            if case .over = phase {
                unread = []
                return true
            }
        }
    }

    private mutating func breakProtocol(_ reason: String) {
        guard phase != .foreign else { return }
        phase = .over(reason)
    }

    private mutating func take(_ frame: Frame) -> Bool {
        guard phase != .foreign else { return false }
        let (packet, isDisputed) = ClientPacket.read(frame, version: connect?.version)
        if isDisputed { owesAll = false }
        switch packet {
        case .connect(let connect):
            self.connect = connect
            phase = .connected
            if !connect.cleanSession { lastingSession = connect.clientIdentifier }
            if let topic = connect.retainedWill { retainedTopics.append(topic) }
        case .foreign:
            phase = .foreign
            owesAll = false
        case .publish(let publication):
            disputeIfUsed(publication.identifier)
            if publication.isRetained { retainedTopics.append(publication.topic) }
            if publication.qos == 1 { pubacks.append(publication.identifier) }
            if publication.qos == 2 {
                pubrecs.append(publication.identifier)
                unreleased.insert(publication.identifier)
            }
            return publication.qos > 0
        case .reply(.pubrel, let identifier):
            pubcomps.append(identifier)
            if unreleased.remove(identifier) != nil { owedPubcomps.append(identifier) } else { owesAll = false }
        case .reply(let kind, let identifier):
            // Nothing says what a broker does with an answer to what it never sent.
            if dueReplies.remove([UInt16(kind.rawValue), identifier]) == nil { owesAll = false }
            if kind == .pubrec { recs[identifier, default: 0] += 1 }
            releases[identifier, default: 0] += 1
            return kind == .pubrec
        case .subscribe(let identifier, let requests):
            disputeIfUsed(identifier)
            subscriptions += requests
            subacks.append((identifier, requests.map(\.qos)))
        case .unsubscribe(let identifier):
            disputeIfUsed(identifier)
            unsubacks.append(identifier)
        case .pingreq: pingresps += 1
        case .disconnect: phase = .over("DISCONNECT")
        case .violation(let reason): breakProtocol(reason)
        }
        return true
    }

    /// A client must not use an identifier twice at a time [MQTT-2.3.1-2]; nothing says what a broker does then.
    private mutating func disputeIfUsed(_ identifier: UInt16) {
        let isUsed =
            pubacks.contains(identifier) || pubrecs.contains(identifier) || unreleased.contains(identifier)
            || unsubacks.contains(identifier) || subacks.contains { $0.identifier == identifier }
        if identifier > 0, isUsed { owesAll = false }
    }

    // MARK: What the broker sends

    package mutating func came(_ frame: Frame) -> String? {
        cameByteCount += frame.body.count + 2
        let packet = frame.packet
        if phase == .foreign {
            // CONNACK 1, and nothing then [MQTT-3.1.2-2]; or what we can't judge.
            if connack == 1 { return "\(packet) after CONNACK 1" }
            if case .connack(_, 1) = packet { connack = 1 }
            return nil
        }
        if case .illegal(let reason) = packet { return "\(reason): \(hexadecimal(frame.bytes()))" }
        guard let connack else { return first(packet) }
        guard connack == 0 else { return "\(packet) after CONNACK \(connack)" }
        switch packet {
        case .connack: return "a second CONNACK"
        case .publish(let publication): return came(publication)
        case .reply(.puback, let identifier):
            guard pubacks.first == identifier else {  // [MQTT-4.6.0-2]
                return "PUBACK \(identifier), where \(pubacks.first.map { "\($0) is next" } ?? "none is due")"
            }
            pubacks.removeFirst()
        case .reply(.pubrec, let identifier):
            guard pubrecs.first == identifier else {  // [MQTT-4.6.0-3]
                return "PUBREC \(identifier), where \(pubrecs.first.map { "\($0) is next" } ?? "none is due")"
            }
            pubrecs.removeFirst()
        case .reply(.pubrel, let identifier):
            if let count = recs[identifier], count > 0 {
                recs[identifier] = count - 1
            } else if !sessionPresent {
                return "PUBREL \(identifier), where no PUBREC was sent"
            }
            dueReplies.insert([UInt16(Packet.Kind.pubcomp.rawValue), identifier])
        case .reply(.pubcomp, let identifier):
            guard pubcomps.remove(identifier) else { return "PUBCOMP \(identifier), where no PUBREL was sent" }
            _ = owedPubcomps.remove(identifier)
        case .reply(.unsuback, let identifier):
            guard unsubacks.remove(identifier) else {
                return "UNSUBACK \(identifier), where no UNSUBSCRIBE was sent"
            }
        case .reply: return "\(packet) from a server"
        case .suback(let identifier, let codes): return came(suback: identifier, codes)
        case .pingresp:
            guard pingresps > 0 else { return "PINGRESP without PINGREQ" }
            pingresps -= 1
        case .illegal: break
        }
        return nil
    }

    private mutating func first(_ packet: Packet) -> String? {
        guard case .connack(let flags, let code) = packet else { return "\(packet) before CONNACK [MQTT-3.2.0-1]" }
        guard let connect else { return "\(packet), but no CONNECT was sent" }
        connack = code
        sessionPresent = flags & 1 != 0
        if flags > 1 { return "\(packet) with reserved flags" }
        if code > 5 { return "\(packet), which does not exist [MQTT-3.2.2-6]" }
        if code > 0, sessionPresent { return "\(packet) with Session Present [MQTT-3.2.2-4]" }
        if connect.cleanSession, sessionPresent { return "Session Present of a clean session [MQTT-3.2.2-1]" }
        return nil
    }

    private mutating func came(_ publication: Packet.Publication) -> String? {
        let text = "\(Packet.publish(publication))"
        let isText = String(validating: publication.topic, as: UTF8.self) != nil && !publication.topic.contains(0)
        guard isText, TopicText.isName(publication.topic) else { return "\(text): no topic name" }
        // A session that was there before may have more subscriptions.
        if !sessionPresent {
            let wanted = subscriptions.filter {
                TopicText.matches($0.filter, publication.topic)
                    || TopicText.shared($0.filter).map { TopicText.matches($0, publication.topic) } ?? false
            }
            guard let qos = wanted.map(\.qos).max() else { return "\(text), to which nobody subscribed here" }
            guard publication.qos <= qos else { return "\(text) above the requested QoS \(qos)" }
        }
        guard publication.qos > 0 else { return publication.isDuplicate ? "\(text) [MQTT-3.3.1-2]" : nil }
        guard publication.identifier > 0 else { return "\(text) [MQTT-2.3.1-1]" }
        let reply = publication.qos == 1 ? Packet.Kind.puback : .pubrec
        dueReplies.insert([UInt16(reply.rawValue), publication.identifier])
        if publication.isDuplicate {
            return sessionPresent ? nil : "\(text) on a connection that it can't have been sent on before"
        }
        given[publication.identifier, default: 0] += 1
        guard given[publication.identifier, default: 0] <= 1 + releases[publication.identifier, default: 0] else {
            return "\(text), whose identifier is in use [MQTT-2.3.1-2]"
        }
        return nil
    }

    private mutating func came(suback identifier: UInt16, _ codes: [UInt8]) -> String? {
        let text = "\(Packet.suback(identifier: identifier, codes: codes))"
        guard let place = subacks.firstIndex(where: { $0.identifier == identifier }) else {
            return "\(text), where no such SUBSCRIBE was sent"
        }
        let requested = subacks.remove(at: place).qos
        guard requested.count == codes.count else { return "\(text) for \(requested.count) filters [MQTT-3.9.3-1]" }
        let isGranted = zip(codes, requested).allSatisfy { $0 == 0x80 || $0 <= $1 }
        return isGranted ? nil : "\(text) for \(requested)"
    }

    // MARK: The end

    /// The broker has closed the connection. `rest`: bytes that are no whole packet.
    package func closed(_ rest: some Collection<UInt8>, endedByUs: Bool) -> String? {
        // What the kernel held back of much output is lost when the broker resets.
        if !rest.isEmpty, cameByteCount < 32 << 10, phase != .foreign {
            return "half a packet before the end: \(hexadecimal(rest))"
        }
        guard owesAll, !mustBeClosed, connect != nil else { return nil }
        // The beginning of a packet may be reason enough, its flags or its length.
        guard endedByUs || unread.isEmpty else { return nil }
        guard connack != nil else { return "no CONNACK" }
        if let identifier = pubacks.first { return "no PUBACK \(identifier)" }
        if let identifier = pubrecs.first { return "no PUBREC \(identifier)" }
        if let missing = subacks.first { return "no SUBACK \(missing.identifier)" }
        if let identifier = unsubacks.first { return "no UNSUBACK \(identifier)" }
        if let identifier = owedPubcomps.first { return "no PUBCOMP \(identifier)" }
        if pingresps > 0 { return "no PINGRESP" }
        return endedByUs ? nil : "the broker closes the connection without a reason"
    }

    /// The broker has not closed a connection in time.
    package var staysOpen: String {
        if case .over(let reason) = phase { return "the broker does not close a connection after: \(reason)" }
        return "the broker does not close a connection that its client has closed"
    }

    /// Bytes that can't be a packet.
    package func cameEndless() -> String? {
        phase == .foreign ? nil : "a Remaining Length of five bytes"
    }
}

extension [UInt16] {
    /// Removes the first that is equal; false if there is none.
    fileprivate mutating func remove(_ number: UInt16) -> Bool {
        guard let place = firstIndex(of: number) else { return false }
        remove(at: place)
        return true
    }
}
