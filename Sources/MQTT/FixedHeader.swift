/// A Packet Identifier (2.3.1): not zero while it is in use.
package typealias PacketIdentifier = UInt16

/// How hard delivery is tried (4.3).
package enum QoS: UInt8, Sendable, Comparable, CaseIterable {
    case atMostOnce = 0
    case atLeastOnce = 1
    case exactlyOnce = 2

    package static func < (left: QoS, right: QoS) -> Bool { left.rawValue < right.rawValue }
}

/// The fourteen kinds of packet (2.2.1).
package enum ControlPacketType: UInt8, Sendable, CaseIterable {
    case connect = 1
    case connectAcknowledgement, publish, publishAcknowledgement, publishReceived, publishRelease, publishComplete
    case subscribe, subscribeAcknowledgement, unsubscribe, unsubscribeAcknowledgement
    case pingRequest, pingResponse, disconnect

    /// The flags that the type must carry (Table 2.2); PUBLISH has flags of its own.
    var reservedFlags: UInt8 {
        switch self {
        case .publishRelease, .subscribe, .unsubscribe: 0b0010
        default: 0
        }
    }
}

/// The start of every packet: type, flags and how much follows (2.2).
package struct FixedHeader: Sendable, Equatable {
    /// The most that four bytes of Remaining Length can say, in bytes.
    package static let maximumRemainingLength = 268_435_455

    /// Type in the upper half, flags in the lower.
    package let byte: UInt8
    /// Bytes that follow this header.
    package let remainingLength: Int
    /// Bytes of the header itself, 2 to 5.
    package let length: Int

    /// The whole packet in bytes.
    package var packetLength: Int { length + remainingLength }

    /// Reads the header that begins at `offset`; nil while its bytes have not all come.
    @inline(__always)
    package init?(_ bytes: Span<UInt8>, at offset: Int) throws(MalformedPacket) {
        guard bytes.count - offset >= 2 else { return nil }
        byte = bytes[offset]
        let first = bytes[offset + 1]
        if first < 0x80 {
            remainingLength = Int(first)
            length = 2
            return
        }
        var value = Int(first & 0x7F)
        for index in 1...3 {
            guard offset + 1 + index < bytes.count else { return nil }
            let next = bytes[offset + 1 + index]
            value |= Int(next & 0x7F) << (7 * index)
            if next < 0x80 {
                remainingLength = value
                length = 2 + index
                return
            }
        }
        throw .remainingLengthTooLong
    }

    /// The type, once its flags are known to be right [MQTT-2.2.2-2]. MQTT 3.1 lets a client set DUP on what it repeats
    /// (PUBREL, SUBSCRIBE, UNSUBSCRIBE).
    @inline(__always)
    package func type(for version: ProtocolVersion = .mqtt311) throws(MalformedPacket) -> ControlPacketType {
        guard let type = ControlPacketType(rawValue: byte >> 4) else { throw .unexpectedType(byte >> 4) }
        let flags = byte & 0x0F
        if type == .publish || flags == type.reservedFlags { return type }
        if version == .mqtt31, type.reservedFlags != 0, flags == type.reservedFlags | 0b1000 { return type }
        throw .reservedFlags(flags)
    }
}

/// What a CONNECT may ask to speak.
package enum ProtocolVersion: UInt8, Sendable {
    /// MQTT 3.1, protocol name "MQIsdp".
    case mqtt31 = 3
    /// MQTT 3.1.1, protocol name "MQTT".
    case mqtt311 = 4
}
