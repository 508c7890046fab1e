/// PUBACK, PUBREC, PUBREL, PUBCOMP and UNSUBACK: a type and a Packet Identifier (3.4 to 3.7, 3.11).
package struct Acknowledgement: Sendable, Equatable {
    package let type: ControlPacketType
    package let packetIdentifier: PacketIdentifier

    package init(_ type: ControlPacketType, _ packetIdentifier: PacketIdentifier) {
        self.type = type
        self.packetIdentifier = packetIdentifier
    }

    /// The Packet Identifier of a body that holds nothing else.
    @inline(__always)
    package static func packetIdentifier(of body: Span<UInt8>) throws(MalformedPacket) -> PacketIdentifier {
        var offset = 0
        let identifier = try body.packetIdentifier(at: &offset)
        guard offset == body.count else { throw .trailingBytes }
        return identifier
    }

    @inline(__always)
    package func encode(into bytes: inout [UInt8]) {
        bytes.append(fixedHeader: type.rawValue << 4 | type.reservedFlags, remainingLength: 2)
        bytes.append(uint16: packetIdentifier)
    }
}
