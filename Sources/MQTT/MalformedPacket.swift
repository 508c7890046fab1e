/// Why bytes are not the control packet that they claim to be. Closes the connection that sent them [MQTT-4.8.0-1].
package enum MalformedPacket: Error, Hashable, Sendable {
    /// A field reaches past the end of its packet.
    case truncated
    /// Bytes are left over after the last field.
    case trailingBytes
    /// The Remaining Length has a fifth byte (2.2.3).
    case remainingLengthTooLong
    /// Types 0 and 15 (2.2.1), or a type that this end never receives.
    case unexpectedType(UInt8)
    /// [MQTT-2.2.2-2]
    case reservedFlags(UInt8)
    /// [MQTT-1.5.3-1]
    case invalidUTF8
    /// [MQTT-1.5.3-2]
    case nullCharacter
    /// [MQTT-3.1.2-1]
    case wrongProtocolName
    /// [MQTT-3.1.2-3]
    case reservedConnectFlag
    /// A will's QoS or RETAIN without a will [MQTT-3.1.2-11], or a will of QoS 3 [MQTT-3.1.2-14].
    case inconsistentWill
    /// [MQTT-3.1.2-22]
    case passwordWithoutUserName
    /// [MQTT-3.3.1-4]
    case qualityOfServiceThree
    /// [MQTT-3.3.1-2]
    case duplicateAtMostOnce
    /// [MQTT-2.3.1-1]
    case zeroPacketIdentifier
    /// [MQTT-3.3.2-2], [MQTT-4.7.3-1]
    case invalidTopicName
    /// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1]
    case invalidTopicFilter
    /// [MQTT-3-8.3-4]
    case invalidRequestedQoS(UInt8)
    /// [MQTT-3.8.3-3], [MQTT-3.10.3-2]
    case noTopicFilters
    /// A return code that the specification does not have (3.2.2.3, 3.9.3).
    case invalidReturnCode(UInt8)
}

extension MalformedPacket: CustomStringConvertible {
    /// One sentence for the log, with the statement that was broken.
    package var description: String {
        switch self {
        case .truncated: "a field reaches past the end of its packet"
        case .trailingBytes: "bytes are left over at the end of a packet"
        case .remainingLengthTooLong: "the Remaining Length has more than four bytes"
        case .unexpectedType(let type): "packet type \(type) is not for a server"
        case .reservedFlags(let flags): "reserved flags are \(flags) [MQTT-2.2.2-2]"
        case .invalidUTF8: "a string is not UTF-8 [MQTT-1.5.3-1]"
        case .nullCharacter: "a string holds U+0000 [MQTT-1.5.3-2]"
        case .wrongProtocolName: "the protocol name is not MQTT [MQTT-3.1.2-1]"
        case .reservedConnectFlag: "the reserved connect flag is set [MQTT-3.1.2-3]"
        case .inconsistentWill: "the will flags contradict each other [MQTT-3.1.2-11] [MQTT-3.1.2-14]"
        case .passwordWithoutUserName: "a password without a user name [MQTT-3.1.2-22]"
        case .qualityOfServiceThree: "QoS 3 [MQTT-3.3.1-4]"
        case .duplicateAtMostOnce: "DUP on a message of QoS 0 [MQTT-3.3.1-2]"
        case .zeroPacketIdentifier: "the packet identifier is 0 [MQTT-2.3.1-1]"
        case .invalidTopicName: "an invalid topic name [MQTT-3.3.2-2] [MQTT-4.7.3-1]"
        case .invalidTopicFilter: "an invalid topic filter [MQTT-4.7.1-2] [MQTT-4.7.1-3]"
        case .invalidRequestedQoS(let byte): "the requested QoS is \(byte) [MQTT-3-8.3-4]"
        case .noTopicFilters: "no topic filter at all [MQTT-3.8.3-3] [MQTT-3.10.3-2]"
        case .invalidReturnCode(let code): "return code \(code) does not exist"
        }
    }
}
