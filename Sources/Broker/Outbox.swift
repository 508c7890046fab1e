package import Access
package import MQTT

/// A connection's slot on its shard.
package typealias ConnectionNumber = UInt32

/// Why a connection ends.
package enum CloseReason: Error, Equatable, Sendable {
    /// DISCONNECT: the only end that discards the will [MQTT-3.14.4-3].
    case disconnected
    /// The peer closed, or the network failed.
    case lost(String)
    case malformed(MalformedPacket)
    /// A well-formed packet at the wrong time.
    case protocolViolation(String)
    case packetTooLarge(bytes: Int)
    case keepAliveExpired
    case connectTimeout
    case takenOver
    /// `memory_limit` is reached, and it takes too slowly what is sent to it.
    case memoryShortage
    case refused(ConnectReturnCode)
    /// What it signed in with no longer counts.
    case notAuthorized
    /// Somebody who manages the broker has ended its session.
    case sessionRemoved
    /// The same, but for the session.
    case endedByAdministrator
    case serverStops

    static let beforeConnect = protocolViolation("a packet before CONNECT [MQTT-3.1.0-1]")
}

/// What is worth a line in the log, or has to be known by whoever manages devices. Rare: no message causes one, but those of
/// devices.
package enum BrokerEvent: Equatable, Sendable {
    case connected(
        ConnectionNumber, client: ClientIdentifier, version: ProtocolVersion, userName: [UInt8]?, cleanSession: Bool,
        keepAlive: UInt16, sessionPresent: Bool)
    case closed(ConnectionNumber, client: ClientIdentifier?, reason: CloseReason)
    /// Only where `ShardState.tellsOfDevices`.
    case deviceMessage(DeviceMessage)
    /// An administrator asks for something; `ShardState.answer` answers.
    case request(ConnectionNumber, person: String, payload: [UInt8])
    /// The device has acknowledged it.
    case commandDelivered(UInt64, device: String)
    /// Only where `Outbox.notesSubscriptions`; so is its counterpart.
    case subscribed(client: ClientIdentifier, filter: [UInt8], qos: QoS)
    case unsubscribed(client: ClientIdentifier, filter: [UInt8])
    /// The connection's output is at its bound; named once a connection.
    case slowReader(ConnectionNumber, client: ClientIdentifier)
    /// The session's queue is at its limit; named once until it has drained.
    case queueFull(client: ClientIdentifier)
    /// Clients throw each other out of a session again and again: from now on each newcomer waits.
    case takeoverFight(ConnectionNumber, against: ConnectionNumber, client: ClientIdentifier)
    /// There is calm again.
    case takeoverFightOver(client: ClientIdentifier, takeovers: Int)
    /// Somebody guesses: from now on sign-ins wait, or are refused without a look at the password.
    case signInsThrottled(SignInThrottle.Beginning, name: [UInt8], SignInThrottle.Source)
}

/// A message on one of the topics on which devices report (`devices/{deviceId}/...`): for whoever manages them, besides those
/// who have subscribed.
package struct DeviceMessage: Equatable, Sendable {
    package enum Kind: Sendable, Equatable {
        case health, status, otaStatus
        /// Telemetry: that it came is all that is told.
        case other
    }

    /// As the topic has it; nobody may be registered by that name.
    package let device: String
    package let kind: Kind
    package let payload: [UInt8]
}

/// What should happen, as a test or a person reads it. `Outbox` keeps it in 12 bytes.
package enum Effect: Equatable, Sendable {
    case acknowledgeConnect(ConnectionNumber, ConnectAcknowledgement)
    case publish(
        ConnectionNumber, ApplicationMessage, qos: QoS, packetIdentifier: PacketIdentifier, isDuplicate: Bool,
        isRetained: Bool)
    case acknowledge(ConnectionNumber, Acknowledgement)
    case acknowledgeSubscribe(ConnectionNumber, SubscribeAcknowledgement)
    case respondToPing(ConnectionNumber)
    case close(ConnectionNumber)
    case move(ConnectionNumber, shard: Int)
    case verify(ConnectionNumber)
}

/// Why the connection that a packet came from is not read after it.
package struct Hold: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// A shard's mailbox was full for a message that must not be dropped.
    package static let mailbox = Hold(rawValue: 1)
    /// A pause, which `ShardState.takeWoken` ends.
    package static let rest = Hold(rawValue: 2)
    /// The same, and the packet has not been handled: it comes again after the pause.
    package static let packet = Hold(rawValue: 4)
}

/// One effect: 12 bytes, whatever it is.
package struct EffectRecord: Sendable {
    package enum Kind: UInt8, Sendable {
        /// `detail` is the first byte of the PUBLISH, `index` the message.
        case publish
        /// `detail` is the return code, `packet` 1 when the session is present.
        case acknowledgeConnect
        /// `detail` is the type.
        case acknowledge
        /// `index` names the SUBACK.
        case acknowledgeSubscribe
        case respondToPing
        /// `detail` is 1 when a CONNACK that must arrive goes before.
        case close
        /// `index` is the shard.
        case move
        /// `index` names the check of a password; its result goes to `ShardState.finish`.
        case verify
    }

    package let kind: Kind
    package let detail: UInt8
    package let packet: PacketIdentifier
    package let connection: ConnectionNumber
    package let index: UInt32
}

/// Messages that travel together: short ones in one run of bytes, long ones shared.
package struct MessageBatch: Sendable {
    private struct Place: Sendable {
        let start: UInt32
        let byteCount: UInt32
        var shared: ApplicationMessage?
        /// Where several sessions have it on the disk.
        var sharedOnDisk: SharedMessage = 0
        var handover: HandoverNumber = 0

        init(start: Int, count: Int, shared: ApplicationMessage? = nil) {
            self.start = UInt32(start)
            byteCount = UInt32(count)
            self.shared = shared
        }

        var count: Int { Int(byteCount) }
        var range: Range<Int> { Int(start)..<Int(start + byteCount) }
    }

    private var bytes: [UInt8] = []
    private var places: [Place] = []

    package init() {}

    package var count: Int { places.count }
    package var byteCount: Int { bytes.count }

    package mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
    }

    package mutating func add(topic: Span<UInt8>, payload: Span<UInt8>) -> Int {
        let count = 2 + topic.count + payload.count
        guard count <= Limits.copiedBytes else { return add(ApplicationMessage(topic: topic, payload: payload)) }
        let start = bytes.count
        bytes.append(UInt8(topic.count >> 8))
        bytes.append(UInt8(truncatingIfNeeded: topic.count))
        bytes.append(copying: topic)
        bytes.append(copying: payload)
        places.append(Place(start: start, count: count))
        return places.count - 1
    }

    package mutating func add(_ message: ApplicationMessage) -> Int {
        places.append(Place(start: 0, count: message.bytes.count, shared: message))
        return places.count - 1
    }

    /// Adds a message of another batch.
    package mutating func add(_ index: Int, of other: borrowing MessageBatch) -> Int {
        let place = other.places[index]
        if let shared = place.shared, place.count > Limits.copiedBytes {
            places.append(Place(start: 0, count: place.count, shared: shared))
        } else {
            let start = bytes.count
            other.withBytes(of: index) { bytes.append(copying: $0) }
            places.append(Place(start: start, count: place.count))
        }
        places[places.count - 1].sharedOnDisk = place.sharedOnDisk
        places[places.count - 1].handover = place.handover
        return places.count - 1
    }

    package func byteCount(of index: Int) -> Int { places[index].count }

    func sharedOnDisk(_ index: Int) -> SharedMessage { places[index].sharedOnDisk }
    mutating func shareOnDisk(_ index: Int, as number: SharedMessage) { places[index].sharedOnDisk = number }

    func handover(_ index: Int) -> HandoverNumber { places[index].handover }
    mutating func handOver(_ index: Int, as number: HandoverNumber) { places[index].handover = number }

    /// Bytes of the message's payload.
    @inline(__always)
    func payloadCount(of index: Int) -> Int {
        withBytes(of: index) { $0.count - 2 - (Int($0[0]) << 8 | Int($0[1])) }
    }

    /// The message as a value that can be kept, made once.
    package mutating func shared(_ index: Int) -> ApplicationMessage {
        if let shared = places[index].shared { return shared }
        let message = ApplicationMessage(
            body: bytes.span.extracting(places[index].range))
        places[index].shared = message
        return message
    }

    /// The message when it is long enough to be shared instead of copied.
    @inline(__always)
    package func longMessage(_ index: Int) -> ApplicationMessage? {
        places[index].count > Limits.copiedBytes ? places[index].shared : nil
    }

    /// The message in the form of `ApplicationMessage.bytes`.
    @inline(__always)
    package func withBytes<Result>(of index: Int, _ body: (Span<UInt8>) -> Result) -> Result {
        let place = places[index]
        if let shared = place.shared { return body(shared.bytes.span) }
        return body(bytes.span.extracting(place.range))
    }
}

/// Messages for the sessions of another shard: collected in a turn, posted at its end.
package struct Mail: Sendable {
    struct Item: Sendable {
        let receiver: Receiver
        let qos: QoS
        let message: UInt32
    }

    fileprivate(set) var messages = MessageBatch()
    fileprivate(set) var items: [Item] = []

    /// Handovers of the receiving shard that have been settled by one client each.
    fileprivate(set) var settled: [HandoverNumber] = []

    package init() {}

    package var isEmpty: Bool { items.isEmpty && settled.isEmpty }
    /// What it weighs in a mailbox.
    package var byteCount: Int {
        messages.byteCount + longBytes + items.count * MemoryLayout<Item>.stride
            + settled.count * MemoryLayout<HandoverNumber>.stride
    }
    fileprivate var longBytes = 0
}

/// What a shard has decided and nobody has done yet. Cleared, it keeps its memory.
package struct Outbox: ~Copyable {
    package private(set) var records: [EffectRecord] = []
    package private(set) var messages = MessageBatch()
    package private(set) var subscribeAcknowledgements: [SubscribeAcknowledgement] = []
    package private(set) var passwordChecks: [PasswordCheck] = []
    package private(set) var events: [BrokerEvent] = []
    /// For each shard what goes there. Stays until it is taken.
    package private(set) var mail: [Mail]
    /// What the sender of the packet has to wait for.
    package var hold: Hold = []
    /// Whether somebody wants to read of every subscription.
    package var notesSubscriptions = false

    package init(shards: Int) { mail = Array(repeating: Mail(), count: shards) }

    /// Forgets what has been done; mail and `hold` stay until they are taken.
    package mutating func clear() {
        records.removeAll(keepingCapacity: true)
        messages.removeAll()
        if !subscribeAcknowledgements.isEmpty { subscribeAcknowledgements.removeAll(keepingCapacity: true) }
        if !passwordChecks.isEmpty { passwordChecks.removeAll(keepingCapacity: true) }
        if !events.isEmpty { events.removeAll(keepingCapacity: true) }
    }

    package mutating func takeMail(for shard: Int) -> Mail {
        var taken = Mail()
        swap(&taken, &mail[shard])
        return taken
    }

    // MARK: For the broker

    mutating func add(topic: Span<UInt8>, payload: Span<UInt8>) -> Int { messages.add(topic: topic, payload: payload) }
    mutating func add(_ message: ApplicationMessage) -> Int { messages.add(message) }
    mutating func add(_ index: Int, of other: borrowing MessageBatch) -> Int { messages.add(index, of: other) }
    mutating func shared(_ message: Int) -> ApplicationMessage { messages.shared(message) }
    mutating func shareOnDisk(_ message: Int, as number: SharedMessage) {
        messages.shareOnDisk(message, as: number)
    }

    @inline(__always)
    private mutating func record(
        _ kind: EffectRecord.Kind, _ connection: ConnectionNumber, detail: UInt8 = 0, packet: PacketIdentifier = 0,
        index: Int = 0
    ) {
        records.append(
            EffectRecord(kind: kind, detail: detail, packet: packet, connection: connection, index: UInt32(index))
        )
    }

    @inline(__always)
    mutating func publish(
        _ message: Int, to connection: ConnectionNumber, qos: QoS, packetIdentifier: PacketIdentifier,
        isDuplicate: Bool, isRetained: Bool
    ) {
        let first = Publish.firstByte(qos: qos, isDuplicate: isDuplicate, isRetained: isRetained)
        record(.publish, connection, detail: first, packet: packetIdentifier, index: message)
    }

    mutating func acknowledgeConnect(_ connection: ConnectionNumber, _ code: ConnectReturnCode, sessionPresent: Bool) {
        record(.acknowledgeConnect, connection, detail: code.rawValue, packet: sessionPresent ? 1 : 0)
    }

    mutating func acknowledge(_ connection: ConnectionNumber, _ acknowledgement: Acknowledgement) {
        record(
            .acknowledge, connection, detail: acknowledgement.type.rawValue, packet: acknowledgement.packetIdentifier
        )
    }

    mutating func acknowledgeSubscribe(_ connection: ConnectionNumber, _ acknowledgement: SubscribeAcknowledgement) {
        subscribeAcknowledgements.append(acknowledgement)
        record(.acknowledgeSubscribe, connection, index: subscribeAcknowledgements.count - 1)
    }

    mutating func respondToPing(_ connection: ConnectionNumber) { record(.respondToPing, connection) }
    /// `isRefusal`: a CONNACK goes before, and must arrive.
    mutating func close(_ connection: ConnectionNumber, isRefusal: Bool = false) {
        record(.close, connection, detail: isRefusal ? 1 : 0)
    }
    mutating func move(_ connection: ConnectionNumber, to shard: Int) { record(.move, connection, index: shard) }
    mutating func verify(_ connection: ConnectionNumber, _ check: PasswordCheck) {
        passwordChecks.append(check)
        record(.verify, connection, index: passwordChecks.count - 1)
    }
    mutating func handOver(_ message: Int, as number: HandoverNumber) { messages.handOver(message, as: number) }
    mutating func settle(_ handover: HandoverNumber, on shard: Int) { mail[shard].settled.append(handover) }
    mutating func note(_ event: BrokerEvent) { events.append(event) }
    mutating func holdPublisher() { hold.insert(.mailbox) }

    /// Puts a message of this outbox into the mail of `shard`; `place` is where it is there already, if it is.
    mutating func forward(_ message: Int, qos: QoS, to receiver: Receiver, on shard: Int, at place: inout Int?) {
        let index = place ?? mail[shard].messages.add(message, of: messages)
        if place == nil, messages.longMessage(message) != nil {
            mail[shard].longBytes += messages.byteCount(of: message)
        }
        place = index
        mail[shard].items.append(Mail.Item(receiver: receiver, qos: qos, message: UInt32(index)))
    }

    // MARK: For tests

    /// The effects as values, in their order.
    package var effects: [Effect] {
        records.map { record in
            switch record.kind {
            case .publish:
                .publish(
                    record.connection, messages.withBytes(of: Int(record.index)) { ApplicationMessage(body: $0) },
                    qos: QoS(rawValue: record.detail >> 1 & 0b11) ?? .atMostOnce, packetIdentifier: record.packet,
                    isDuplicate: record.detail & 0b1000 != 0, isRetained: record.detail & 1 != 0
                )
            case .acknowledgeConnect:
                .acknowledgeConnect(
                    record.connection,
                    ConnectAcknowledgement(
                        sessionPresent: record.packet == 1,
                        returnCode: ConnectReturnCode(rawValue: record.detail) ?? .serverUnavailable
                    )
                )
            case .acknowledge:
                .acknowledge(
                    record.connection,
                    Acknowledgement(
                        ControlPacketType(rawValue: record.detail) ?? .publishAcknowledgement, record.packet)
                )
            case .acknowledgeSubscribe:
                .acknowledgeSubscribe(record.connection, subscribeAcknowledgements[Int(record.index)])
            case .respondToPing: .respondToPing(record.connection)
            case .close: .close(record.connection)
            case .move: .move(record.connection, shard: Int(record.index))
            case .verify: .verify(record.connection)
            }
        }
    }
}
