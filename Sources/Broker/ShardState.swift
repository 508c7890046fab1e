import DequeModule
package import Locks
package import MQTT

/// Every rule of MQTT for the connections and sessions of one shard: packets and time come in, effects go into an
/// `Outbox`. Knows no socket, no clock and no queue. Owned by one shard; the directory is shared by all.
package struct ShardState: Sendable {
    package let shard: Int
    package let shards: Int
    package let limits: Limits
    let directory: Lock<Directory>
    package internal(set) var counters = Counters()

    var connections: [Connection] = []
    var sessions: [Session] = []
    var timers: TimerWheel
    /// Connections whose session has more to send than one step may.
    var catchingUp: [ConnectionNumber] = []
    /// Shards whose mailbox is full at the moment.
    package var mailboxIsFull: [Bool]

    private var receivers: [Receiver] = []
    private var due: [UInt32] = []

    package init(shard: Int, of shards: Int, limits: Limits, directory: Lock<Directory>, now: Instant) {
        self.shard = shard
        self.shards = shards
        self.limits = limits
        self.directory = directory
        timers = TimerWheel(now: now)
        mailboxIsFull = Array(repeating: false, count: shards)
    }

    // MARK: Connections

    /// A new connection, from which a CONNECT is awaited. The caller gives the number, and may use it again once the
    /// connection's end is in the outbox. `isPlaced` says that it was moved here, where its session shall live.
    package mutating func open(
        _ number: ConnectionNumber, isPlaced: Bool = false, allowsAnonymous: Bool = true, now: Instant
    ) {
        while connections.count <= Int(number) { connections.append(Connection()) }
        connections[Int(number)] = Connection()
        connections[Int(number)].phase = .awaitingConnect
        connections[Int(number)].isPlaced = isPlaced
        connections[Int(number)].allowsAnonymous = allowsAnonymous
        connections[Int(number)].latestPacket = now
        timers.schedule(number, at: now + limits.connectTimeout)
        counters.connections += 1
    }

    /// A packet has come whole. Whatever is wrong with it ends the connection [MQTT-4.8.0-1].
    package mutating func receive(
        _ header: FixedHeader, _ body: Span<UInt8>, from number: ConnectionNumber, now: Instant,
        into outbox: inout Outbox
    ) {
        counters.packetsReceived += 1
        connections[Int(number)].latestPacket = now
        guard header.packetLength <= limits.packetBytes || connections[Int(number)].phase != .connected else {
            return end(number, .packetTooLarge(bytes: header.packetLength), into: &outbox)
        }
        do throws(MalformedPacket) {
            let type = try header.type(for: connections[Int(number)].version)
            switch (connections[Int(number)].phase, type) {
            case (.connected, .publish): try publish(header, body, from: number, into: &outbox)
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
                outbox.respondToPing(number)
            case (.connected, .disconnect):
                guard body.isEmpty else { throw .trailingBytes }
                end(number, .disconnected, into: &outbox)
            case (.connected, .connect):  // [MQTT-3.1.0-2]
                end(number, .protocolViolation("a second CONNECT [MQTT-3.1.0-2]"), into: &outbox)
            case (.awaitingConnect, .connect):
                switch try Connect.decode(body) {
                case .connect(let connect): self.connect(connect, number, now, &outbox)
                case .unacceptableProtocolLevel: refuse(number, .unacceptableProtocolVersion, &outbox)
                }
            case (.awaitingConnect, _):
                end(number, .protocolViolation("a packet before CONNECT [MQTT-3.1.0-1]"), into: &outbox)
            case (.free, _): break  // Closed by an earlier packet of the same read [MQTT-3.1.4-5].
            case (.connected, _): throw .unexpectedType(type.rawValue)
            }
        } catch {
            end(number, .malformed(error), into: &outbox)
        }
    }

    /// Whether the connection is open still; packets that were read with the one that ended it are not handled.
    @inline(__always)
    package func isOpen(_ number: ConnectionNumber) -> Bool { connections[Int(number)].phase != .free }

    /// Looks at a packet of which only the header has come, so that nothing is kept for one that will be refused.
    package mutating func announce(
        _ header: FixedHeader, from number: ConnectionNumber, into outbox: inout Outbox
    ) {
        let connection = connections[Int(number)]
        do throws(MalformedPacket) {
            let type = try header.type(for: connection.version)
            if connection.phase == .awaitingConnect {
                if type != .connect {  // [MQTT-3.1.0-1]
                    end(number, .protocolViolation("a packet before CONNECT [MQTT-3.1.0-1]"), into: &outbox)
                } else if header.remainingLength > Connect.maximumBodyBytes {
                    throw .trailingBytes
                }
            }
        } catch {
            end(number, .malformed(error), into: &outbox)
        }
        if header.packetLength > limits.packetBytes, connection.phase == .connected {
            end(number, .packetTooLarge(bytes: header.packetLength), into: &outbox)
        }
    }

    /// Bytes that are no packet at all.
    package mutating func refuse(
        _ error: MalformedPacket, from number: ConnectionNumber, into outbox: inout Outbox
    ) {
        end(number, .malformed(error), into: &outbox)
    }

    /// Acknowledgements of this connection that wait for the disk; at `Limits.waitingAcknowledgements` it isn't read.
    package func waitingAcknowledgements(_ number: ConnectionNumber) -> Int {
        connections[Int(number)].acknowledgements.count
    }

    /// Ends a connection for a reason that lies outside of its packets.
    package mutating func end(_ number: ConnectionNumber, _ reason: CloseReason, into outbox: inout Outbox) {
        let connection = connections[Int(number)]
        guard connection.phase != .free else { return }
        connections[Int(number)] = Connection()
        timers.cancel(number)
        counters.connections -= 1
        var client: ClientIdentifier?
        if connection.phase == .connected {
            let slot = connection.slot
            client = sessions[slot].client
            sessions[slot].connection = Session.noConnection
            if sessions[slot].cleanSession {
                removeSession(slot)
            } else {
                let reference = sessions[slot].reference
                directory.withLock { $0.setConnected(reference, false) }
                sessions[slot].outgoing.rewind()
            }
        }
        if case .refused = reason { outbox.close(number, isRefusal: true) } else { outbox.close(number) }
        outbox.note(.closed(number, client: client, reason: reason))
        // After the session has let go of the connection, so that a client never gets its own will here [MQTT-3.1.2-8].
        if let will = connection.will, reason != .disconnected { publish(will, into: &outbox) }
    }

    /// Publishes the wills of all connections, which are about to end with the server, while their receivers are still
    /// there.
    package mutating func publishWills(into outbox: inout Outbox) {
        for number in connections.indices {
            guard let will = connections[number].will else { continue }
            connections[number].will = nil
            publish(will, into: &outbox)
        }
    }

    private mutating func publish(_ will: WillMessage, into outbox: inout Outbox) {
        let topic = will.message.bytes.span.extracting(will.message.topicRange)
        guard isWelcome(topic, payloadBytes: will.message.payloadCount) else { return }
        route(will.message, qos: will.qos, isRetained: will.isRetained, into: &outbox)
    }

    /// Ends all connections.
    package mutating func shutDown(into outbox: inout Outbox) {
        for number in connections.indices { end(ConnectionNumber(number), .serverStops, into: &outbox) }
    }

    /// The connection leaves for another shard: nothing of it stays here.
    private mutating func move(_ number: ConnectionNumber, to shard: Int, _ outbox: inout Outbox) {
        connections[Int(number)] = Connection()
        timers.cancel(number)
        counters.connections -= 1
        outbox.move(number, to: shard)
    }

    // MARK: CONNECT

    private mutating func connect(
        _ connect: Connect, _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) {
        guard connections[Int(number)].allowsAnonymous else { return refuse(number, .notAuthorized, &outbox) }
        if connect.clientIdentifier.isEmpty, !connect.cleanSession || connect.version == .mqtt31 {
            return refuse(number, .identifierRejected, &outbox)  // [MQTT-3.1.3-8]; MQTT 3.1 always wants one
        }
        let isNameless = connect.clientIdentifier.isEmpty
        let client = isNameless ? Self.inventedIdentifier() : ClientIdentifier(connect.clientIdentifier)
        let isPlaced = connections[Int(number)].isPlaced
        let (directory, shard) = (directory, shard)
        var home = directory.withLock { $0.home(of: client, askedFrom: shard, isPlaced: isPlaced) }
        if case .here(let reference, isNew: false) = home {
            let earlier = sessions[slot(of: reference.number)].connection
            if earlier != Session.noConnection {  // [MQTT-3.1.4-2]
                end(earlier, .takenOver, into: &outbox)
                // A clean session is gone with its connection, and another shard may already have made it anew.
                home = directory.withLock { $0.home(of: client, askedFrom: shard, isPlaced: true) }
            }
        }
        switch home {
        case .elsewhere(let other): move(number, to: other, &outbox)
        case .here(let reference, let isNew):
            accept(connect, of: client, as: reference, isNew: isNew, number, now, &outbox)
        }
    }

    private mutating func accept(
        _ connect: Connect, of client: ClientIdentifier, as reference: SessionReference, isNew: Bool,
        _ number: ConnectionNumber, _ now: Instant, _ outbox: inout Outbox
    ) {
        let slot = slot(of: reference.number)
        while sessions.count <= slot { sessions.append(Session()) }
        if isNew {
            sessions[slot] = Session(client: client, reference: reference)
        } else if connect.cleanSession {  // [MQTT-3.1.2-6]
            closeCursors(slot)
            directory.withLock { $0.removeSubscriptions(of: reference) }
            sessions[slot] = Session(client: client, reference: reference)
        }
        directory.withLock { $0.setConnected(reference, true) }
        counters.connectionsAccepted += 1
        sessions[slot].connection = number
        sessions[slot].cleanSession = connect.cleanSession

        let silence = Int64(connect.keepAlive) * 1500  // [MQTT-3.1.2-24]
        connections[Int(number)].phase = .connected
        connections[Int(number)].slot = slot
        connections[Int(number)].version = connect.version
        connections[Int(number)].will = connect.will
        connections[Int(number)].silence = silence
        if silence > 0 { timers.schedule(number, at: now + silence) } else { timers.cancel(number) }

        let sessionPresent = !isNew && !connect.cleanSession  // [MQTT-3.2.2-1] to [MQTT-3.2.2-3]
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
    private mutating func refuse(
        _ number: ConnectionNumber, _ code: ConnectReturnCode, _ outbox: inout Outbox
    ) {
        outbox.acknowledgeConnect(number, code, sessionPresent: false)  // [MQTT-3.2.2-4]
        end(number, .refused(code), into: &outbox)
    }

    /// A Client Identifier for a client that brings none [MQTT-3.1.3-6]: 122 random bits, so nobody has it.
    private static func inventedIdentifier() -> ClientIdentifier {
        var generator = SystemRandomNumberGenerator()
        let (high, low) = (
            UInt64.random(in: 0...(.max), using: &generator), UInt64.random(in: 0...(.max), using: &generator)
        )
        return ClientIdentifier("auto-" + String(high, radix: 16) + String(low, radix: 16))
    }

    // MARK: PUBLISH

    @inline(__always)
    private mutating func publish(
        _ header: FixedHeader, _ body: Span<UInt8>, from number: ConnectionNumber, into outbox: inout Outbox
    ) throws(MalformedPacket) {
        let publish = try Publish(header, body)
        counters.publishesReceived += 1
        counters.publishBytesReceived += UInt64(publish.payload.count)
        let topic = body.extracting(publish.topic)
        let isWelcome = isWelcome(topic, payloadBytes: publish.payload.count)
        switch publish.qos {
        case .atMostOnce:
            if isWelcome { route(publish, topic, body.extracting(publish.payload), into: &outbox) }
        case .atLeastOnce:
            if isWelcome { route(publish, topic, body.extracting(publish.payload), into: &outbox) }
            acknowledge(number, .publishAcknowledgement, publish.packetIdentifier, &outbox)  // [MQTT-4.3.2-2]
        case .exactlyOnce:
            // Routed when it first comes; until PUBREL the identifier says that it has been [MQTT-4.3.3-2].
            let isFirst = sessions[connections[Int(number)].slot].incoming.insert(publish.packetIdentifier)
            if isFirst && isWelcome { route(publish, topic, body.extracting(publish.payload), into: &outbox) }
            acknowledge(number, .publishReceived, publish.packetIdentifier, &outbox)
        }
    }

    /// Whether a client's message is taken. One that is not is acknowledged and dropped [MQTT-3.3.5-2].
    private mutating func isWelcome(_ topic: Span<UInt8>, payloadBytes: Int) -> Bool {
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
    private mutating func route(
        _ publish: Publish, _ topic: Span<UInt8>, _ payload: Span<UInt8>, into outbox: inout Outbox
    ) {
        if publish.isRetained {
            let message = ApplicationMessage(topic: topic, payload: payload)
            return store(message, qos: publish.qos, into: &outbox)
        }
        receivers.removeAll(keepingCapacity: true)
        directory.withLock { $0.match(topic, into: &receivers) }
        guard !receivers.isEmpty else { return }
        deliver(outbox.add(topic: topic, payload: payload), qos: publish.qos, into: &outbox)
    }

    /// The same for a message that no packet brought: a will, or the server's own.
    package mutating func route(
        _ message: ApplicationMessage, qos: QoS, isRetained: Bool, into outbox: inout Outbox
    ) {
        if isRetained { return store(message, qos: qos, into: &outbox) }
        receivers.removeAll(keepingCapacity: true)
        directory.withLock { $0.match(message.bytes.span.extracting(message.topicRange), into: &receivers) }
        deliver(outbox.add(message), qos: qos, into: &outbox)
    }

    private mutating func store(_ message: ApplicationMessage, qos: QoS, into outbox: inout Outbox) {
        receivers.removeAll(keepingCapacity: true)
        directory.withLock { $0.retain(message, qos: qos, into: &receivers) }
        if !receivers.isEmpty { deliver(outbox.add(message), qos: qos, into: &outbox) }
    }

    /// Gives the outbox's message to all `receivers`: here, or by mail to their shards. RETAIN is 0, whatever it was
    /// [MQTT-3.3.1-9].
    @inline(__always)
    private mutating func deliver(_ message: Int, qos: QoS, into outbox: inout Outbox) {
        var place: (shard: Int, index: Int?) = (-1, nil)
        var places: [Int?] = []
        for index in receivers.indices {
            let receiver = receivers[index]
            let home = shards == 1 ? shard : Int(receiver.session.number) % shards
            if home == shard {
                deliver(message, qos: min(qos, receiver.maximumQoS), to: receiver.session, into: &outbox)
                continue
            }
            let delivered = min(qos, receiver.maximumQoS)
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
    package mutating func deliver(_ mail: borrowing Mail, into outbox: inout Outbox) {
        var (latest, index) = (UInt32.max, 0)
        for item in mail.items {
            if item.message != latest {
                latest = item.message
                index = outbox.add(Int(item.message), of: mail.messages)
            }
            deliver(index, qos: item.qos, to: item.receiver.session, into: &outbox)
        }
    }

    @inline(__always)
    private mutating func deliver(
        _ message: Int, qos: QoS, to reference: SessionReference, into outbox: inout Outbox
    ) {
        let slot = slot(of: reference.number)
        guard slot < sessions.count, sessions[slot].reference == reference else { return }
        let connection = sessions[slot].connection
        if qos == .atMostOnce {
            if connection == Session.noConnection {
                if limits.queuesAtMostOnce { queue(outbox.shared(message), qos: qos, for: slot, into: &outbox) }
                return
            }
            guard !connections[Int(connection)].isFull else {
                counters.publishesDropped += 1
                return
            }
            countPublish(bytes: outbox.messages.byteCount(of: message))
            return outbox.publish(
                message, to: connection, qos: qos, packetIdentifier: 0, isDuplicate: false, isRetained: false
            )
        }
        let canGo =
            connection != Session.noConnection && !connections[Int(connection)].isFull
            && sessions[slot].outgoing.hasRoom(limits)
        queue(outbox.shared(message), qos: qos, for: slot, into: &outbox)
        guard canGo, let (item, _) = sessions[slot].outgoing.next(limits) else { return }
        countPublish(bytes: outbox.messages.byteCount(of: message))
        outbox.publish(
            message, to: connection, qos: qos, packetIdentifier: item.packetIdentifier, isDuplicate: false,
            isRetained: false
        )
    }

    private mutating func queue(
        _ message: ApplicationMessage, qos: QoS, isRetained: Bool = false, for slot: Int, into outbox: inout Outbox
    ) {
        switch sessions[slot].outgoing.append(message, qos: qos, isRetained: isRetained, limits: limits) {
        case .waits: break
        case .isDropped:
            counters.publishesDropped += 1
            if !sessions[slot].isNamedFull {
                sessions[slot].isNamedFull = true
                outbox.note(.queueFull(client: sessions[slot].client))
            }
        }
    }

    @inline(__always)
    private mutating func countPublish(bytes: Int) {
        counters.publishesSent += 1
        counters.publishBytesSent += UInt64(bytes)
    }

    // MARK: Acknowledgements

    /// Answers a packet in its turn. `ticket` names the commit that must be on disk before; nil needs none.
    @inline(__always)
    private mutating func acknowledge(
        _ number: ConnectionNumber, _ type: ControlPacketType, _ identifier: PacketIdentifier, _ outbox: inout Outbox,
        after ticket: CommitTicket? = nil
    ) {
        let acknowledgement = Acknowledgement(type, identifier)
        if connections[Int(number)].acknowledgements.mayLeave(acknowledgement, after: ticket) {
            outbox.acknowledge(number, acknowledgement)
        }
    }

    private mutating func acknowledged(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        // An identifier that nothing awaits is ignored: after a reconnect it may answer what was sent before.
        guard sessions[connections[Int(number)].slot].outgoing.acknowledge(identifier) else { return }
        catchUp(number, into: &outbox)
    }

    private mutating func received(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        // Also for one that nothing awaits: the client then finishes the handshake and frees the identifier.
        _ = sessions[connections[Int(number)].slot].outgoing.received(identifier)
        outbox.acknowledge(number, Acknowledgement(.publishRelease, identifier))  // [MQTT-4.6.0-4]
    }

    private mutating func released(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        sessions[connections[Int(number)].slot].incoming.remove(identifier)
        acknowledge(number, .publishComplete, identifier, &outbox)
    }

    private mutating func completed(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        guard sessions[connections[Int(number)].slot].outgoing.complete(identifier) else { return }
        catchUp(number, into: &outbox)
    }

    // MARK: SUBSCRIBE, UNSUBSCRIBE

    private mutating func subscribe(
        _ subscribe: Subscribe, _ body: Span<UInt8>, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        let slot = connections[Int(number)].slot
        let reference = sessions[slot].reference
        var codes: [SubscribeReturnCode] = []
        codes.reserveCapacity(subscribe.requests.count)
        for request in subscribe.requests {  // [MQTT-3.8.4-4]
            let filter = body.extracting(request.filter)
            let cursor = directory.withLock { $0.subscribe(reference, to: filter, at: request.maximumQoS) }
            if let cursor { startReading(cursor, slot) }
            codes.append(.granted(request.maximumQoS))
        }
        let acknowledgement = SubscribeAcknowledgement(
            packetIdentifier: subscribe.packetIdentifier, returnCodes: codes
        )
        outbox.acknowledgeSubscribe(number, acknowledgement)
        catchUp(number, into: &outbox)
    }

    private mutating func unsubscribe(
        _ unsubscribe: Unsubscribe, _ body: Span<UInt8>, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        let slot = connections[Int(number)].slot
        let reference = sessions[slot].reference
        for range in unsubscribe.filters {
            let filter = body.extracting(range)
            directory.withLock { $0.unsubscribe(reference, from: filter) }
            stopReading(filter, slot)
        }
        acknowledge(number, .unsubscribeAcknowledgement, unsubscribe.packetIdentifier, &outbox)  // [MQTT-3.10.4-5]
    }

    /// A repeated SUBSCRIBE begins to read what is retained anew [MQTT-3.8.4-3].
    private mutating func startReading(_ cursor: RetainedCursor, _ slot: Int) {
        stopReading(cursor.filter.bytes.span, slot)
        sessions[slot].cursors.append(cursor)
    }

    private mutating func stopReading(_ filter: Span<UInt8>, _ slot: Int) {
        for index in sessions[slot].cursors.indices {
            let known = sessions[slot].cursors[index].filter.bytes
            guard filter.isEqual(to: known.span) else { continue }
            var cursor = sessions[slot].cursors.remove(at: index)
            return directory.withLock { $0.close(&cursor) }
        }
    }

    private mutating func closeCursors(_ slot: Int) {
        for var cursor in sessions[slot].cursors { directory.withLock { $0.close(&cursor) } }
        sessions[slot].cursors = []
    }

    // MARK: Catching up

    /// The connection's output has reached its bound, or is below it again.
    package mutating func setFull(_ number: ConnectionNumber, _ isFull: Bool, into outbox: inout Outbox) {
        guard connections[Int(number)].phase == .connected else { return }
        connections[Int(number)].isFull = isFull
        if isFull {
            guard !connections[Int(number)].isNamedSlow else { return }
            connections[Int(number)].isNamedSlow = true
            outbox.note(.slowReader(number, client: sessions[connections[Int(number)].slot].client))
        } else {
            catchUp(number, into: &outbox)
        }
    }

    /// Whether `work` has something to do.
    package var hasWork: Bool { !catchingUp.isEmpty }

    /// One more step for each connection that is catching up.
    package mutating func work(into outbox: inout Outbox) {
        var numbers: [ConnectionNumber] = []
        swap(&numbers, &catchingUp)
        for number in numbers {
            connections[Int(number)].isCatchingUp = false
            if connections[Int(number)].phase == .connected { catchUp(number, into: &outbox) }
        }
    }

    /// Sends what waits for a session: what is to be re-sent, its queue, what is retained for its new subscriptions. At
    /// most one step of it; the rest comes with `work`.
    private mutating func catchUp(_ number: ConnectionNumber, into outbox: inout Outbox) {
        let slot = connections[Int(number)].slot
        guard !connections[Int(number)].isFull else { return }
        var budget = Limits.messagesPerStep
        while budget > 0, let (item, isDuplicate) = sessions[slot].outgoing.next(limits) {
            send(item, isDuplicate: isDuplicate, to: number, into: &outbox)
            budget -= 1
        }
        if sessions[slot].outgoing.waiting == 0 { sessions[slot].isNamedFull = false }
        var slices = Limits.slicesPerStep
        while budget > 0, slices > 0, !sessions[slot].cursors.isEmpty, sessions[slot].outgoing.hasRoom(limits) {
            budget -= readRetained(slot, number, limit: budget, into: &outbox)
            slices -= 1
        }
        let hasMore =
            budget == 0 || (slices == 0 && !sessions[slot].cursors.isEmpty && sessions[slot].outgoing.hasRoom(limits))
        if hasMore, !connections[Int(number)].isCatchingUp {
            connections[Int(number)].isCatchingUp = true
            catchingUp.append(number)
        }
    }

    private mutating func send(
        _ item: OutgoingMessages.Item, isDuplicate: Bool, to number: ConnectionNumber, into outbox: inout Outbox
    ) {
        guard let message = item.message else {  // After PUBREC never the message again [MQTT-4.3.3-1].
            return outbox.acknowledge(number, Acknowledgement(.publishRelease, item.packetIdentifier))
        }
        countPublish(bytes: message.bytes.count)
        outbox.publish(
            outbox.add(message), to: number, qos: item.qos, packetIdentifier: item.packetIdentifier,
            isDuplicate: isDuplicate && item.qos != .atMostOnce, isRetained: item.isRetained
        )
    }

    /// One slice of the retained messages for the oldest of the session's new subscriptions [MQTT-3.3.1-6]. Returns how
    /// many there were.
    private mutating func readRetained(
        _ slot: Int, _ number: ConnectionNumber, limit: Int, into outbox: inout Outbox
    ) -> Int {
        var found: [RetainedMessage] = []
        var cursor = sessions[slot].cursors.removeFirst()
        directory.withLock { $0.readRetained(&cursor, steps: Limits.nodesPerSlice, limit: limit, into: &found) }
        if !cursor.isFinished { sessions[slot].cursors.prepend(cursor) }
        for retained in found {
            let qos = min(retained.qos, cursor.maximumQoS)
            if qos == .atMostOnce {
                countPublish(bytes: retained.message.bytes.count)
                outbox.publish(
                    outbox.add(retained.message), to: number, qos: qos, packetIdentifier: 0, isDuplicate: false,
                    isRetained: true
                )
                continue
            }
            queue(retained.message, qos: qos, isRetained: true, for: slot, into: &outbox)
            if let (item, isDuplicate) = sessions[slot].outgoing.next(limits) {
                send(item, isDuplicate: isDuplicate, to: number, into: &outbox)
            }
        }
        return found.count
    }

    // MARK: Time

    /// Ends the connections whose time is up.
    package mutating func tick(_ now: Instant, into outbox: inout Outbox) {
        due.removeAll(keepingCapacity: true)
        timers.expire(now, into: &due)
        let numbers = due
        for number in numbers {
            let connection = connections[Int(number)]
            switch connection.phase {
            case .free: break
            case .awaitingConnect:
                let deadline = connection.latestPacket + limits.connectTimeout
                if deadline <= now {
                    end(number, .connectTimeout, into: &outbox)
                } else {
                    timers.schedule(number, at: deadline)
                }
            case .connected:
                // Timers aren't moved with each packet: one that comes up looks when the last packet came.
                let deadline = connection.isHeld ? now + connection.silence : connection.latestPacket + connection.silence
                if deadline <= now {
                    end(number, .keepAliveExpired, into: &outbox)
                } else {
                    timers.schedule(number, at: deadline)
                }
            }
        }
    }

    /// When `tick` has something to do next.
    package func nextTick() -> Instant? { timers.nextExpiry() }

    /// The connection is not read until a mailbox has room: its silence is ours.
    package mutating func setHeld(_ number: ConnectionNumber, _ isHeld: Bool, now: Instant) {
        connections[Int(number)].isHeld = isHeld
        connections[Int(number)].latestPacket = now
    }

    /// The peer of a connection that is not being read takes what is sent to it: it is alive.
    package mutating func noteProgress(_ number: ConnectionNumber, now: Instant) {
        connections[Int(number)].latestPacket = now
    }

    // MARK: Counting what only the owner of the sockets sees

    package mutating func countReceived(bytes: Int) { counters.bytesReceived += UInt64(bytes) }
    package mutating func countSent(bytes: Int) { counters.bytesSent += UInt64(bytes) }
    package mutating func countSent(packets: Int) { counters.packetsSent += UInt64(packets) }

    // MARK: Sessions

    @inline(__always)
    private func slot(of number: SessionNumber) -> Int { shards == 1 ? Int(number) : Int(number) / shards }

    private mutating func removeSession(_ slot: Int) {
        closeCursors(slot)
        let reference = sessions[slot].reference
        directory.withLock { $0.remove(reference) }
        sessions[slot] = Session()
    }

    /// The identifier of the connection's client, once it is connected.
    package func client(of number: ConnectionNumber) -> ClientIdentifier? {
        let connection = connections[Int(number)]
        return connection.phase == .connected ? sessions[connection.slot].client : nil
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
