/// What a client publishes when it is gone without a DISCONNECT (3.1.2.5).
package struct WillMessage: Sendable, Equatable {
    package let message: ApplicationMessage
    package let qos: QoS
    package let isRetained: Bool

    package init(message: ApplicationMessage, qos: QoS, isRetained: Bool) {
        self.message = message
        self.qos = qos
        self.isRetained = isRetained
    }
}

/// The first packet of a connection (3.1).
package struct Connect: Sendable, Equatable {
    package var version: ProtocolVersion
    package var cleanSession: Bool
    /// Seconds; 0 turns the rule off (3.1.2.10).
    package var keepAlive: UInt16
    /// UTF-8; empty when the client leaves the choice to the server (3.1.3.1).
    package var clientIdentifier: [UInt8]
    package var will: WillMessage?
    package var userName: [UInt8]?
    package var password: [UInt8]?

    package init(
        version: ProtocolVersion = .mqtt311, cleanSession: Bool = true, keepAlive: UInt16 = 60,
        clientIdentifier: [UInt8], will: WillMessage? = nil, userName: [UInt8]? = nil, password: [UInt8]? = nil
    ) {
        self.version = version
        self.cleanSession = cleanSession
        self.keepAlive = keepAlive
        self.clientIdentifier = clientIdentifier
        self.will = will
        self.userName = userName
        self.password = password
    }

    /// The longest body that a CONNECT can have, in bytes: five fields of 65,535 behind twelve (ten in MQTT 3.1.1).
    package static let maximumBodyBytes = 12 + 5 * (2 + 65_535)

    /// A CONNECT, or the protocol level that we do not speak and that is answered with return code 1 [MQTT-3.1.2-2].
    package enum Decoded: Sendable, Equatable {
        case connect(Connect)
        case unacceptableProtocolLevel(UInt8)
    }

    package static func decode(_ body: Span<UInt8>) throws(MalformedPacket) -> Decoded {
        var offset = 0
        let name = try body.binary(at: &offset)
        let level = try body.uint8(at: &offset)
        let version: ProtocolVersion
        switch (body.extracting(name).copied(), level) {
        case (Self.name, ProtocolVersion.mqtt311.rawValue): version = .mqtt311
        case (Self.name31, ProtocolVersion.mqtt31.rawValue): version = .mqtt31
        case (Self.name, _): return .unacceptableProtocolLevel(level)
        default: throw .wrongProtocolName
        }

        let flags = try ConnectFlags(body.uint8(at: &offset))
        let keepAlive = try body.uint16(at: &offset)
        // The order of the payload is fixed [MQTT-3.1.3-1].
        let clientIdentifier = try body.string(at: &offset)
        var will: WillMessage?
        if flags.hasWill {
            let topic = try body.string(at: &offset)
            try body.extracting(topic).validateTopicName()
            let payload = try body.binary(at: &offset)
            let message = ApplicationMessage(topic: body.extracting(topic), payload: body.extracting(payload))
            will = WillMessage(message: message, qos: flags.willQoS, isRetained: flags.willRetain)
        }
        let userName = flags.hasUserName ? try body.string(at: &offset) : nil
        let password = flags.hasPassword ? try body.binary(at: &offset) : nil
        guard offset == body.count else { throw .trailingBytes }
        return .connect(
            Connect(
                version: version, cleanSession: flags.cleanSession, keepAlive: keepAlive,
                clientIdentifier: body.extracting(clientIdentifier).copied(), will: will,
                userName: userName.map { body.extracting($0).copied() },
                password: password.map { body.extracting($0).copied() }
            )
        )
    }

    package func encode(into bytes: inout [UInt8]) {
        var flags: UInt8 = cleanSession ? 0b10 : 0
        if let will { flags |= 0b100 | will.qos.rawValue << 3 | (will.isRetained ? 0b10_0000 : 0) }
        if userName != nil { flags |= 0b1000_0000 }
        if password != nil { flags |= 0b0100_0000 }
        var body: [UInt8] = []
        body.append(field: version == .mqtt31 ? Self.name31 : Self.name)
        body.append(version.rawValue)
        body.append(flags)
        body.append(uint16: keepAlive)
        body.append(field: clientIdentifier)
        if let will {
            body.append(field: will.message.topic)
            body.append(field: will.message.payload)
        }
        if let userName { body.append(field: userName) }
        if let password { body.append(field: password) }
        bytes.append(fixedHeader: ControlPacketType.connect.rawValue << 4, remainingLength: body.count)
        bytes.append(contentsOf: body)
    }

    private static let name = Array("MQTT".utf8)
    private static let name31 = Array("MQIsdp".utf8)
}

/// The byte of Connect Flags, once they are known not to contradict each other (3.1.2.3).
struct ConnectFlags {
    private let byte: UInt8

    init(_ byte: UInt8) throws(MalformedPacket) {
        self.byte = byte
        guard byte & 1 == 0 else { throw .reservedConnectFlag }
        guard hasWill || byte & 0b11_1000 == 0, byte & 0b1_1000 != 0b1_1000 else { throw .inconsistentWill }
        guard hasUserName || !hasPassword else { throw .passwordWithoutUserName }
    }

    var cleanSession: Bool { byte & 0b10 != 0 }
    var hasWill: Bool { byte & 0b100 != 0 }
    var willQoS: QoS { QoS(rawValue: byte >> 3 & 0b11) ?? .atMostOnce }
    var willRetain: Bool { byte & 0b10_0000 != 0 }
    var hasPassword: Bool { byte & 0b0100_0000 != 0 }
    var hasUserName: Bool { byte & 0b1000_0000 != 0 }
}

/// Table 3.1.
package enum ConnectReturnCode: UInt8, Sendable, Equatable {
    case accepted = 0
    case unacceptableProtocolVersion, identifierRejected, serverUnavailable, badUserNameOrPassword, notAuthorized
}

/// 3.2
package struct ConnectAcknowledgement: Sendable, Equatable {
    package let sessionPresent: Bool
    package let returnCode: ConnectReturnCode

    package init(sessionPresent: Bool, returnCode: ConnectReturnCode) {
        self.sessionPresent = sessionPresent
        self.returnCode = returnCode
    }

    package func encode(into bytes: inout [UInt8]) {
        bytes.append(fixedHeader: ControlPacketType.connectAcknowledgement.rawValue << 4, remainingLength: 2)
        bytes.append(sessionPresent ? 1 : 0)
        bytes.append(returnCode.rawValue)
    }

    static func decode(_ body: Span<UInt8>) throws(MalformedPacket) -> ConnectAcknowledgement {
        var offset = 0
        let (flags, code) = try (body.uint8(at: &offset), body.uint8(at: &offset))
        guard offset == body.count else { throw .trailingBytes }
        guard flags & ~1 == 0 else { throw .reservedFlags(flags) }
        guard let returnCode = ConnectReturnCode(rawValue: code) else { throw .invalidReturnCode(code) }
        return ConnectAcknowledgement(sessionPresent: flags == 1, returnCode: returnCode)
    }
}
