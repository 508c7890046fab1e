/// What is published: a topic name and a payload, in the form that a PUBLISH of QoS 0 has behind its fixed header, so
/// that forwarding one is one copy. The bytes are shared by all sessions that hold the message.
package struct ApplicationMessage: Sendable, Equatable {
    /// The topic's length in two bytes, the topic, the payload.
    package let bytes: [UInt8]

    package init(topic: Span<UInt8>, payload: Span<UInt8>) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(2 + topic.count + payload.count)
        bytes.append(uint16: UInt16(topic.count))
        bytes.append(copying: topic)
        bytes.append(copying: payload)
        self.bytes = bytes
    }

    /// A message whose topic the caller knows to be valid.
    package init(topic: String, payload: [UInt8]) {
        self.init(topic: Array(topic.utf8).span, payload: payload.span)
    }

    /// From bytes that already have the form of `bytes`.
    package init(body: Span<UInt8>) { bytes = body.copied() }

    package var topicRange: Range<Int> { 2..<payloadStart }
    package var payloadStart: Int { 2 + (Int(bytes[0]) << 8 | Int(bytes[1])) }
    package var topic: [UInt8] { Array(bytes[topicRange]) }
    package var payload: [UInt8] { Array(bytes[payloadStart...]) }
    package var payloadCount: Int { bytes.count - payloadStart }
}

/// The header of a PUBLISH (3.3) and where its fields lie in the packet's body.
package struct Publish: Sendable, Equatable {
    package let qos: QoS
    package let isDuplicate: Bool
    package let isRetained: Bool
    /// Zero at QoS 0 [MQTT-2.3.1-5].
    package let packetIdentifier: PacketIdentifier
    package let topic: Range<Int>
    package let payload: Range<Int>

    @inline(__always)
    package init(_ header: FixedHeader, _ body: Span<UInt8>) throws(MalformedPacket) {
        guard let qos = QoS(rawValue: header.byte >> 1 & 0b11) else { throw .qualityOfServiceThree }
        self.qos = qos
        isDuplicate = header.byte & 0b1000 != 0
        isRetained = header.byte & 1 != 0
        guard qos != .atMostOnce || !isDuplicate else { throw .duplicateAtMostOnce }
        var offset = 0
        topic = try body.binary(at: &offset)
        try body.extracting(topic).validateTopicName()
        packetIdentifier = qos == .atMostOnce ? 0 : try body.packetIdentifier(at: &offset)
        payload = offset..<body.count
    }

    /// The first byte of a PUBLISH.
    @inline(__always)
    package static func firstByte(qos: QoS, isDuplicate: Bool, isRetained: Bool) -> UInt8 {
        ControlPacketType.publish.rawValue << 4 | (isDuplicate ? 0b1000 : 0) | qos.rawValue << 1 | (isRetained ? 1 : 0)
    }

    /// Appends everything of a PUBLISH up to its payload. `message` has the form of `ApplicationMessage.bytes`.
    @inline(__always)
    package static func encodeHead(
        of message: Span<UInt8>, qos: QoS, packetIdentifier: PacketIdentifier, isDuplicate: Bool, isRetained: Bool,
        into bytes: inout [UInt8]
    ) -> Int {
        let first = firstByte(qos: qos, isDuplicate: isDuplicate, isRetained: isRetained)
        let payloadStart = 2 + (Int(message[0]) << 8 | Int(message[1]))
        bytes.append(fixedHeader: first, remainingLength: message.count + (qos == .atMostOnce ? 0 : 2))
        bytes.append(copying: message.extracting(0..<payloadStart))
        if qos != .atMostOnce { bytes.append(uint16: packetIdentifier) }
        return payloadStart
    }

    /// Appends a whole PUBLISH.
    @inline(__always)
    package static func encode(
        _ message: Span<UInt8>, qos: QoS, packetIdentifier: PacketIdentifier = 0, isDuplicate: Bool = false,
        isRetained: Bool = false, into bytes: inout [UInt8]
    ) {
        if qos == .atMostOnce {
            bytes.append(
                fixedHeader: firstByte(qos: qos, isDuplicate: isDuplicate, isRetained: isRetained),
                remainingLength: message.count
            )
            return bytes.append(copying: message)
        }
        let payloadStart = encodeHead(
            of: message, qos: qos, packetIdentifier: packetIdentifier, isDuplicate: isDuplicate, isRetained: isRetained,
            into: &bytes
        )
        bytes.append(copying: message.extracting(payloadStart..<message.count))
    }
}
