/// Any packet as a value that owns its bytes: for tools and tests, where clarity counts more than a copy. The broker
/// itself decodes in place.
package enum ControlPacket: Sendable, Equatable {
    case connect(Connect)
    /// A CONNECT whose protocol level we do not speak.
    case unacceptableConnect(level: UInt8)
    case connectAcknowledgement(ConnectAcknowledgement)
    case publish(
        ApplicationMessage, qos: QoS, packetIdentifier: PacketIdentifier = 0, isDuplicate: Bool = false,
        isRetained: Bool = false)
    /// PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK.
    case acknowledgement(Acknowledgement)
    case subscribe([Subscription], packetIdentifier: PacketIdentifier)
    case subscribeAcknowledgement(SubscribeAcknowledgement)
    case unsubscribe([[UInt8]], packetIdentifier: PacketIdentifier)
    case pingRequest
    case pingResponse
    case disconnect

    /// Decodes the packet whose fixed header is `header` and whose remaining bytes are `body`.
    package init(
        _ header: FixedHeader, _ body: Span<UInt8>, version: ProtocolVersion = .mqtt311
    ) throws(MalformedPacket) {
        let type = try header.type(for: version)
        switch type {
        case .connect:
            self =
                switch try Connect.decode(body) {
                case .connect(let connect): .connect(connect)
                case .unacceptableProtocolLevel(let level): .unacceptableConnect(level: level)
                }
        case .connectAcknowledgement: self = .connectAcknowledgement(try ConnectAcknowledgement.decode(body))
        case .publish:
            let publish = try Publish(header, body)
            let message = ApplicationMessage(
                topic: body.extracting(publish.topic), payload: body.extracting(publish.payload)
            )
            self = .publish(
                message, qos: publish.qos, packetIdentifier: publish.packetIdentifier,
                isDuplicate: publish.isDuplicate, isRetained: publish.isRetained
            )
        case .publishAcknowledgement, .publishReceived, .publishRelease, .publishComplete, .unsubscribeAcknowledgement:
            self = .acknowledgement(Acknowledgement(type, try Acknowledgement.packetIdentifier(of: body)))
        case .subscribe:
            let subscribe = try Subscribe(body)
            let subscriptions = subscribe.requests.map { request in
                Subscription(filter: body.extracting(request.filter).copied(), maximumQoS: request.maximumQoS)
            }
            self = .subscribe(subscriptions, packetIdentifier: subscribe.packetIdentifier)
        case .subscribeAcknowledgement: self = .subscribeAcknowledgement(try SubscribeAcknowledgement(body))
        case .unsubscribe:
            let unsubscribe = try Unsubscribe(body)
            let filters = unsubscribe.filters.map { body.extracting($0).copied() }
            self = .unsubscribe(filters, packetIdentifier: unsubscribe.packetIdentifier)
        case .pingRequest, .pingResponse, .disconnect:
            guard body.isEmpty else { throw .trailingBytes }
            self = type == .pingRequest ? .pingRequest : type == .pingResponse ? .pingResponse : .disconnect
        }
    }

    /// The first packet in `bytes` at `offset`, which moves past it; nil while it is incomplete.
    package static func next(
        in bytes: [UInt8], at offset: inout Int, version: ProtocolVersion = .mqtt311
    ) throws(MalformedPacket) -> ControlPacket? {
        guard let header = try FixedHeader(bytes.span, at: offset) else { return nil }
        guard bytes.count - offset >= header.packetLength else { return nil }
        let body = (offset + header.length)..<(offset + header.packetLength)
        offset += header.packetLength
        return try ControlPacket(header, bytes.span.extracting(body), version: version)
    }

    package func encode(into bytes: inout [UInt8]) {
        switch self {
        case .connect(let connect): connect.encode(into: &bytes)
        case .unacceptableConnect(let level):
            bytes += [ControlPacketType.connect.rawValue << 4, 12, 0, 4] + Array("MQTT".utf8) + [level, 2, 0, 0, 0, 0]
        case .connectAcknowledgement(let acknowledgement): acknowledgement.encode(into: &bytes)
        case .publish(let message, let qos, let packetIdentifier, let isDuplicate, let isRetained):
            Publish.encode(
                message.bytes.span, qos: qos, packetIdentifier: packetIdentifier, isDuplicate: isDuplicate,
                isRetained: isRetained, into: &bytes
            )
        case .acknowledgement(let acknowledgement): acknowledgement.encode(into: &bytes)
        case .subscribe(let subscriptions, let packetIdentifier):
            Subscribe.encode(subscriptions, packetIdentifier: packetIdentifier, into: &bytes)
        case .subscribeAcknowledgement(let acknowledgement): acknowledgement.encode(into: &bytes)
        case .unsubscribe(let filters, let packetIdentifier):
            Unsubscribe.encode(filters, packetIdentifier: packetIdentifier, into: &bytes)
        case .pingRequest: bytes.append(fixedHeader: ControlPacketType.pingRequest.rawValue << 4, remainingLength: 0)
        case .pingResponse: bytes.append(fixedHeader: ControlPacketType.pingResponse.rawValue << 4, remainingLength: 0)
        case .disconnect: bytes.append(fixedHeader: ControlPacketType.disconnect.rawValue << 4, remainingLength: 0)
        }
    }
}
