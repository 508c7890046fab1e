import Locks
package import MQTT

/// PUBLISH (3.3) on its way from a client to all sessions that want it.
extension ShardState {
    /// What the first byte of a PUBLISH asks for and its listener, or the server, doesn't allow. MQTT 3.1.1 has no other
    /// answer than to close.
    func breach(of header: FixedHeader, by number: ConnectionNumber) -> CloseReason? {
        guard let qos = QoS(rawValue: header.byte >> 1 & 0b11) else { return nil }  // Malformed: the codec's to say.
        if qos > rules[Int(connections[Int(number)].listener)].maximumQoS {
            return .protocolViolation("a PUBLISH of QoS \(qos.rawValue), over max_qos")
        }
        if header.byte & 1 != 0, !limits.isRetainAvailable {
            return .protocolViolation("a PUBLISH with RETAIN, and retain_available is false")
        }
        return nil
    }

    @inline(__always)
    mutating func publish(
        _ header: FixedHeader, _ body: Span<UInt8>, from number: ConnectionNumber, into outbox: inout Outbox
    ) throws(MalformedPacket) {
        let publish = try Publish(header, body)
        counters.publishesReceived += 1
        counters.publishBytesReceived += UInt64(publish.payload.count)
        if limits.throttlesPublishers { charge(number, bytes: header.packetLength, &outbox) }
        let topic = body.extracting(publish.topic)
        neededCommit = nil
        switch publish.qos {
        case .atMostOnce: take(publish, topic, body, number, into: &outbox)
        case .atLeastOnce:
            (handingOver, handover) = (number, 0)
            take(publish, topic, body, number, into: &outbox)
            handingOver = nil
            if handover != 0, isHandedOver(&outbox) { neededCommit = nil }
            // [MQTT-4.3.2-2]
            acknowledge(
                number, .publishAcknowledgement, publish.packetIdentifier, &outbox, after: neededCommit, or: handover)
        case .exactlyOnce:
            // Routed when it first comes; until PUBREL the identifier says that it has been [MQTT-4.3.3-2].
            let slot = connections[Int(number)].slot
            if sessions[slot].incoming.insert(publish.packetIdentifier) {
                take(publish, topic, body, number, into: &outbox)
                if sessions[slot].stored != 0 { keepInbound(publish.packetIdentifier, topic, slot) }
            } else {
                neededCommit = ledger?.latest()  // It was perhaps not on the disk yet.
            }
            acknowledge(number, .publishReceived, publish.packetIdentifier, &outbox, after: neededCommit)
        }
    }

    @inline(__always)
    private mutating func take(
        _ publish: Publish, _ topic: Span<UInt8>, _ body: Span<UInt8>, _ number: ConnectionNumber,
        into outbox: inout Outbox
    ) {
        guard !isMounted(number) else {
            guard let mounted = mounted(topic, number) else {
                counters.publishesDropped += 1
                return
            }
            return takeMounted(publish, mounted.span, body, number, into: &outbox)
        }
        takeMounted(publish, topic, body, number, into: &outbox)
    }

    @inline(__always)
    private mutating func takeMounted(
        _ publish: Publish, _ topic: Span<UInt8>, _ body: Span<UInt8>, _ number: ConnectionNumber,
        into outbox: inout Outbox
    ) {
        if tellsOfDevices, topic.beginsWithDollar, tellRequest(topic, body.extracting(publish.payload), number, &outbox)
        {
            return
        }
        guard isWelcome(topic, payloadBytes: publish.payload.count) else { return }
        let slot = connections[Int(number)].slot
        guard mayWrite(slot, topic) else {
            counters.publishesDenied += 1
            return
        }
        if tellsOfDevices { tellOfDevice(topic, body.extracting(publish.payload), &outbox) }
        route(publish, topic, body.extracting(publish.payload), slot, into: &outbox)
    }

    /// Whether a client's message is taken. One that is not is acknowledged and dropped [MQTT-3.3.5-2].
    mutating func isWelcome(_ topic: Span<UInt8>, payloadBytes: Int) -> Bool {
        if topic.isServersOwn {
            counters.publishesDenied += 1
            return false
        }
        if limits.payloadBytes > 0, payloadBytes > limits.payloadBytes {
            counters.publishesDropped += 1
            return false
        }
        return true
    }

    /// Hands a message to all who subscribed.
    @inline(__always)
    mutating func route(
        _ publish: Publish, _ topic: Span<UInt8>, _ payload: Span<UInt8>, _ slot: Int, into outbox: inout Outbox
    ) {
        if publish.isRetained {
            let message = ApplicationMessage(topic: topic, payload: payload)
            return store(message, qos: publish.qos, by: sessions[slot].participant, into: &outbox)
        }
        receivers.removeAll(keepingCapacity: true)
        directory.withLock { $0.match(topic, into: &receivers) }
        guard !receivers.isEmpty else { return }
        deliver(outbox.add(topic: topic, payload: payload), qos: publish.qos, into: &outbox)
    }

    /// The same for a message that no packet brought: a will, or the server's own.
    package mutating func route(
        _ message: ApplicationMessage, qos: QoS, isRetained: Bool, by publisher: Participant? = nil,
        isServersOwn: Bool = false, into outbox: inout Outbox
    ) {
        if isRetained { return store(message, qos: qos, by: publisher, isServersOwn: isServersOwn, into: &outbox) }
        receivers.removeAll(keepingCapacity: true)
        directory.withLock { $0.match(message.bytes.span.extracting(message.topicRange), into: &receivers) }
        deliver(outbox.add(message), qos: qos, into: &outbox)
    }

    /// What is the server's own is kept whatever `memory_limit` has given up, and never on the disk: it is made anew.
    mutating func store(
        _ message: ApplicationMessage, qos: QoS, by publisher: Participant?, isServersOwn: Bool = false,
        into outbox: inout Outbox
    ) {
        receivers.removeAll(keepingCapacity: true)
        let mayGrow = isServersOwn || shedding < .storage
        let durability = isServersOwn ? .memory : durability(of: message)
        let isLasting = durability > .memory
        let isKept = directory.withLock {
            $0.retain(
                message, qos: qos, by: publisher, mayGrow: mayGrow, isLasting: isLasting, into: &receivers)
        }
        if !isKept { countNotStored() }
        if isKept, isLasting { neededCommit = ledger?.note(waits: durability == .acknowledged) }
        if !receivers.isEmpty { deliver(outbox.add(message), qos: qos, into: &outbox) }
    }

    /// Gives the outbox's message to all `receivers`: here, or by mail to their shards. RETAIN is 0, whatever it was
    /// [MQTT-3.3.1-9].
    @inline(__always)
    mutating func deliver(_ message: Int, qos: QoS, into outbox: inout Outbox) {
        storing = 0
        unmountedCopy = nil
        if ledger != nil { noteLasting(message, qos: qos, &outbox) }
        var place: (shard: Int, index: Int?) = (-1, nil)
        var places: [Int?] = []
        for index in receivers.indices {
            let receiver = receivers[index]
            let home = shards == 1 ? shard : Int(receiver.session.number) % shards
            if home == shard {
                deliver(message, qos: granted(qos, receiver.maximumQoS), to: receiver.session, into: &outbox)
                continue
            }
            let delivered = granted(qos, receiver.maximumQoS)
            if mailboxIsFull[home] {
                if delivered == .atMostOnce {
                    counters.publishesDropped += 1
                    continue
                }
                outbox.holdPublisher()
            }
            if place.shard != home {  // Most often one other shard; with more, where the message is in each one's mail.
                if place.shard >= 0 {
                    if places.isEmpty { places = Array(repeating: nil, count: shards) }
                    places[place.shard] = place.index
                }
                place = (home, places.isEmpty ? nil : places[home])
            }
            outbox.forward(message, qos: delivered, to: receiver, on: home, at: &place.index)
        }
    }

    /// Mail from another shard, in the order in which it was sent.
    package mutating func deliver(_ mail: borrowing Mail, from sender: Int, into outbox: inout Outbox) {
        ledger?.beginMail(from: sender)
        defer { ledger?.endMail() }
        var (latest, index) = (UInt32.max, 0)
        for item in mail.items {
            if item.message != latest {
                latest = item.message
                storing = 0
                unmountedCopy = nil
                index = outbox.add(Int(item.message), of: mail.messages)
            }
            deliver(index, qos: item.qos, to: item.receiver.session, into: &outbox)
        }
        settleHandovers(&outbox)
        for handover in mail.settled { settle(handover, &outbox) }
    }

    @inline(__always)
    mutating func deliver(
        _ message: Int, qos: QoS, to reference: SessionReference, into outbox: inout Outbox
    ) {
        let slot = slot(of: reference.number)
        guard slot < sessions.count, sessions[slot].reference == reference else { return }
        guard outbox.messages.withBytes(of: message, { mayReceive(slot, $0) }) else {
            return passOver(slot, message, qos, outbox)
        }
        let connection = sessions[slot].isBarred ? Session.noConnection : sessions[slot].connection
        if connection != Session.noConnection, !sees(message, number: connection, outbox) {
            return passOver(slot, message, qos, outbox)
        }
        if qos == .atMostOnce {
            if connection == Session.noConnection {
                if limits.queuesAtMostOnce { queue(message, qos: qos, for: slot, into: &outbox) }
                return
            }
            // Not past those that wait [MQTT-4.6.0-6].
            if limits.queuesAtMostOnce, sessions[slot].outgoing.waiting > 0 {
                return queue(message, qos: qos, for: slot, into: &outbox)
            }
            guard !connections[Int(connection)].isFull else {
                counters.publishesDropped += 1
                if shedding >= .queues { counters.memoryMessagesDropped += 1 }
                return
            }
            return send(message, qos: qos, to: connection, into: &outbox)
        }
        let canGo =
            connection != Session.noConnection && !connections[Int(connection)].isFull
            && sessions[slot].outgoing.hasRoom(limits)
        queue(message, qos: qos, for: slot, into: &outbox)
        guard canGo, let (item, _) = nextMessage(slot) else {
            if connection == Session.noConnection { ledger?.noteWaiting(outbox.messages.handover(message)) }
            return
        }
        send(message, qos: qos, packetIdentifier: item.packetIdentifier, to: connection, into: &outbox)
    }

    /// A session does not get a message of its own: its client has nothing to acknowledge.
    private mutating func passOver(_ slot: Int, _ message: Int, _ qos: QoS, _ outbox: borrowing Outbox) {
        if qos > .atMostOnce, sessions[slot].stored != 0 { ledger?.settle(outbox.messages.handover(message)) }
    }

    @inline(__always)
    private mutating func queue(_ message: Int, qos: QoS, for slot: Int, into outbox: inout Outbox) {
        let (shared, handover) = (outbox.messages.sharedOnDisk(message), outbox.messages.handover(message))
        let isQueued = queue(
            outbox.shared(message), qos: qos, shared: shared, handover: qos > .atMostOnce ? handover : 0, for: slot,
            into: &outbox)
        if !isQueued { passOver(slot, message, qos, outbox) }
    }

    /// Returns whether there was room.
    @discardableResult
    mutating func queue(
        _ message: ApplicationMessage, qos: QoS, isRetained: Bool = false, shared: SharedMessage = 0,
        handover: HandoverNumber = 0, for slot: Int, into outbox: inout Outbox
    ) -> Bool {
        if shedding >= .queues, sheds(qos, for: slot) { return false }
        var keeping = OutgoingMessages.Keeping()
        if sessions[slot].stored != 0 {
            keeping = .init(durability: durability(of: message), shared: shared, handover: handover)
        }
        let admission = sessions[slot].outgoing.append(
            message, qos: qos, isRetained: isRetained, keeping: keeping, limits: limits, held: &held, as: &storing,
            ledger: &ledger
        )
        guard admission == .isDropped else { return true }
        counters.publishesDropped += 1
        if !sessions[slot].isNamedFull {
            sessions[slot].isNamedFull = true
            outbox.note(.queueFull(client: sessions[slot].client))
        }
        return false
    }

    /// The QoS with which a message goes to a subscription [MQTT-3.8.4-6], unless `upgrade_outgoing_qos` asks for more.
    @inline(__always)
    func granted(_ qos: QoS, _ maximumQoS: QoS) -> QoS { limits.upgradesQoS ? maximumQoS : min(qos, maximumQoS) }

    /// Sends a message of the outbox to a connection.
    @inline(__always)
    mutating func send(
        _ message: Int, qos: QoS, packetIdentifier: PacketIdentifier = 0, isDuplicate: Bool = false,
        isRetained: Bool = false, to number: ConnectionNumber, into outbox: inout Outbox
    ) {
        counters.publishesSent += 1
        counters.publishBytesSent += UInt64(outbox.messages.payloadCount(of: message))
        let message = isMounted(number) ? unmounted(message, for: number, &outbox) : message
        outbox.publish(
            message, to: number, qos: qos, packetIdentifier: packetIdentifier, isDuplicate: isDuplicate,
            isRetained: isRetained
        )
    }
}

private let serversOwnTrees = [Array("$SYS".utf8), Array("$CONTROL".utf8)]

extension Span where Element == UInt8 {
    /// Whether only the server writes to this topic: clients don't talk to each other there (4.7.2).
    fileprivate var isServersOwn: Bool {
        guard beginsWithDollar else { return false }
        return serversOwnTrees.contains { tree in
            count >= tree.count && extracting(0..<tree.count).isEqual(to: tree.span)
                && (count == tree.count || self[tree.count] == UInt8(ascii: "/"))
        }
    }
}
