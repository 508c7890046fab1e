import MQTT
import Testing

// One table drives all tests of the codec: a row is one packet as bytes, and the value that they are or the reason why
// they are none. What can be enumerated (flags, ill-formed text, filters) is, below the rows that are written out.
// Where several things are wrong at once, the row expects the one that comes first in the packet.

@Suite struct `Coding control packets` {
    @Test(arguments: CodecTable.rows) func `decodes each row`(_ row: CodecRow) {
        #expect(row.decoded == row.expected.map { $0 })
    }

    @Test(arguments: CodecTable.validRows) func `encodes the value of each row`(_ row: CodecRow) throws {
        var bytes: [UInt8] = []
        try row.expected.get().encode(into: &bytes)
        #expect((bytes == row.bytes) == row.isCanonical, "\(hexText(bytes))")
        #expect(decode(bytes) == row.expected.map { $0 })
    }

    @Test(arguments: CodecTable.rows.filter { $0.expected != .failure(.remainingLengthTooLong) })
    func `awaits the rest of a packet that has not all come`(_ row: CodecRow) {
        for count in row.bytes.indices {
            #expect(decode(Array(row.bytes.prefix(count)), version: row.version) == .success(nil), "\(count) bytes")
        }
    }

    @Test(arguments: CodecTable.validRows)
    func `refuses a body that is cut short, unless it is a shorter packet [MQTT-3.1.4-1]`(_ row: CodecRow) throws {
        let header = try #require(try FixedHeader(row.bytes.span, at: 0))
        let shorterPackets = try row.expected.get().shorterPackets
        for count in 0..<header.remainingLength {
            var bytes: [UInt8] = []
            bytes.append(fixedHeader: header.byte, remainingLength: count)
            bytes += row.bytes[header.length...].prefix(count)
            let result = decode(bytes, version: row.version)
            if let shorter = shorterPackets[count] {
                #expect(result == .success(shorter), "\(hexText(bytes))")
            } else {
                #expect(throws: MalformedPacket.self, "\(hexText(bytes))") { try result.get() }
            }
        }
    }

    @Test(arguments: CodecTable.validRows.filter { !$0.hasOpenEnd })
    func `refuses a byte behind the last field`(_ row: CodecRow) throws {
        let header = try #require(try FixedHeader(row.bytes.span, at: 0))
        var bytes: [UInt8] = []
        bytes.append(fixedHeader: header.byte, remainingLength: header.remainingLength + 1)
        bytes += row.bytes[header.length...] + [0]
        #expect(throws: MalformedPacket.self) { try decode(bytes, version: row.version).get() }
    }

    @Test func `takes fields of 65,535 bytes [MQTT-4.7.3-3]`() throws {
        let longest = Array(repeating: UInt8(ascii: "/"), count: 65_535)
        let message = ApplicationMessage(topic: longest.span, payload: longest.span)
        let connect = Connect(
            version: .mqtt31, clientIdentifier: longest,
            will: WillMessage(message: message, qos: .exactlyOnce, isRetained: true),
            userName: longest, password: longest
        )
        let packets: [ControlPacket] = [
            .connect(connect),
            .publish(message, qos: .atLeastOnce, packetIdentifier: 1),
            .subscribe([Subscription(filter: longest, maximumQoS: .atMostOnce)], packetIdentifier: 1),
            .unsubscribe([longest, longest], packetIdentifier: 1),
        ]
        for packet in packets {
            var bytes: [UInt8] = []
            packet.encode(into: &bytes)
            #expect(decode(bytes) == .success(packet))
        }
        // The name of MQTT 3.1 is the longer one.
        var bytes: [UInt8] = []
        connect.encode(into: &bytes)
        #expect(try FixedHeader(bytes.span, at: 0)?.remainingLength == Connect.maximumBodyBytes)
    }

    @Test func `refuses a protocol name of 65,535 bytes [MQTT-3.1.2-1]`() {
        let body = [0xFF, 0xFF] + Array(repeating: UInt8(ascii: "M"), count: 65_535) + hex("04 02 003C 0001 'a'")
        var bytes: [UInt8] = []
        bytes.append(fixedHeader: 0x10, remainingLength: body.count)
        #expect(decode(bytes + body) == .failure(.wrongProtocolName))
    }

    @Test func `has a row for each of the fourteen packets`() {
        #expect(Set(CodecTable.validRows.map { $0.bytes[0] >> 4 }) == Set(1...14))
    }

    @Test func `names each row once`() {
        let names = CodecTable.rows.map(\.name)
        #expect(Dictionary(grouping: names, by: \.self).filter { $0.value.count > 1 }.isEmpty)
    }
}

/// The first packet in `bytes`; nil while it is incomplete.
func decode(_ bytes: [UInt8], version: ProtocolVersion = .mqtt311) -> Result<ControlPacket?, MalformedPacket> {
    var offset = 0
    do {
        return .success(try ControlPacket.next(in: bytes, at: &offset, version: version))
    } catch {
        return .failure(error)
    }
}

/// The bytes of one packet and what they mean.
struct CodecRow: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    let expected: Result<ControlPacket, MalformedPacket>
    /// What the client speaks.
    var version = ProtocolVersion.mqtt311
    /// Whether encoding the value gives these bytes; else the packet is one that we accept and never write.
    var isCanonical = true

    var decoded: Result<ControlPacket?, MalformedPacket> { decode(bytes, version: version) }
    var isValid: Bool { if case .success = expected { true } else { false } }
    /// Whether whatever follows the last field belongs to it.
    var hasOpenEnd: Bool {
        switch expected {
        case .success(.publish), .success(.unacceptableConnect), .success(.subscribeAcknowledgement): true
        default: false
        }
    }
    var testDescription: String { "\(name): \(hexText(bytes))" }
}

extension ControlPacket {
    /// What is left of this packet when its body ends early, by the length of that body: a shorter payload, fewer
    /// filters, fewer return codes. At all other lengths a field is cut.
    fileprivate var shorterPackets: [Int: ControlPacket] {
        var packets: [Int: ControlPacket] = [:]
        switch self {
        case .publish(let message, let qos, let packetIdentifier, let isDuplicate, let isRetained):
            for count in 0..<message.payloadCount {
                let shorter = ApplicationMessage(
                    body: message.bytes.span.extracting(first: message.payloadStart + count))
                packets[shorter.bytes.count + (qos == .atMostOnce ? 0 : 2)] = .publish(
                    shorter, qos: qos, packetIdentifier: packetIdentifier, isDuplicate: isDuplicate,
                    isRetained: isRetained)
            }
        case .subscribe(let subscriptions, let packetIdentifier):
            for count in 1..<subscriptions.count {
                let fewer = Array(subscriptions.prefix(count))
                packets[fewer.reduce(2) { $0 + 2 + $1.filter.count + 1 }] = .subscribe(
                    fewer, packetIdentifier: packetIdentifier)
            }
        case .subscribeAcknowledgement(let all):
            for count in 1..<all.returnCodes.count {
                packets[2 + count] = .subscribeAcknowledgement(
                    SubscribeAcknowledgement(
                        packetIdentifier: all.packetIdentifier, returnCodes: Array(all.returnCodes.prefix(count))))
            }
        case .unsubscribe(let filters, let packetIdentifier):
            for count in 1..<filters.count {
                let fewer = Array(filters.prefix(count))
                packets[fewer.reduce(2) { $0 + 2 + $1.count }] = .unsubscribe(
                    fewer, packetIdentifier: packetIdentifier)
            }
        case .unacceptableConnect:
            // What follows the protocol level is in a language that we do not speak.
            for count in 7..<64 { packets[count] = self }
        default: break
        }
        return packets
    }
}

enum CodecTable {
    static let rows: [CodecRow] =
        connectRows + connectFlagRows + connectAcknowledgementRows + publishRows + acknowledgementRows + subscribeRows
        + subscribeAcknowledgementRows + unsubscribeRows + emptyPacketRows + framingRows + fixedHeaderFlagRows
        + textRows + topicNameRows + topicFilterRows

    static let validRows: [CodecRow] = rows.filter(\.isValid)

    // MARK: CONNECT (3.1)

    private static let connectRows: [CodecRow] = [
        valid("CONNECT [MQTT-3.1.3-3]", "10 0D 0004 'MQTT' 04 02 003C 0001 'a'", connect()),
        valid(
            "CONNECT to a kept session [MQTT-3.1.2-4]", "10 0D 0004 'MQTT' 04 00 003C 0001 'a'",
            connect(cleanSession: false)),
        valid("CONNECT, no client identifier [MQTT-3.1.3-6]", "10 0C 0004 'MQTT' 04 02 003C 0000", connect("")),
        // The codec passes it on: the broker answers with return code 2.
        valid(
            "CONNECT, no client identifier for a kept session [MQTT-3.1.3-8]", "10 0C 0004 'MQTT' 04 00 003C 0000",
            connect("", cleanSession: false)),
        valid(
            "CONNECT, client identifier of 23 bytes [MQTT-3.1.3-5]",
            "10 23 0004 'MQTT' 04 02 003C 0017 '0123456789abcdefghijklM'", connect("0123456789abcdefghijklM")),
        valid("CONNECT, no keep alive (3.1.2.10)", "10 0D 0004 'MQTT' 04 02 0000 0001 'a'", connect(keepAlive: 0)),
        valid(
            "CONNECT, longest keep alive (3.1.2.10)", "10 0D 0004 'MQTT' 04 02 FFFF 0001 'a'",
            connect(keepAlive: 65_535)),
        valid(
            "CONNECT with all fields in order [MQTT-3.1.3-1]",
            "10 25 0004 'MQTT' 04 F6 0102 0002 'id' 0003 'w/t' 0004 'gone' 0004 'user' 0004 'pass'",
            connect(
                "id", keepAlive: 258, will: will("w/t", text("gone"), .exactlyOnce, isRetained: true), userName: "user",
                password: text("pass"))),
        valid(
            "CONNECT, zero-length will payload [MQTT-3.1.2-9]", "10 12 0004 'MQTT' 04 06 003C 0001 'a' 0001 'w' 0000",
            connect(will: will("w", []))),
        valid(
            "CONNECT, binary will payload [MQTT-3.1.2-9]",
            "10 15 0004 'MQTT' 04 06 003C 0001 'a' 0001 'w' 0003 00 FF 80",
            connect(will: will("w", [0x00, 0xFF, 0x80]))),
        valid(
            "CONNECT, empty user name [MQTT-3.1.2-19]", "10 0F 0004 'MQTT' 04 82 003C 0001 'a' 0000",
            connect(userName: "")),
        valid(
            "CONNECT, empty password [MQTT-3.1.2-21]", "10 12 0004 'MQTT' 04 C2 003C 0001 'a' 0001 'u' 0000",
            connect(userName: "u", password: [])),
        valid(
            "CONNECT, binary password with NUL [MQTT-3.1.2-21]",
            "10 17 0004 'MQTT' 04 C2 003C 0001 'a' 0001 'u' 0005 00 FF C0 80 00",
            connect(userName: "u", password: [0x00, 0xFF, 0xC0, 0x80, 0x00])),

        valid("CONNECT, MQTT 3.1", "10 0F 0006 'MQIsdp' 03 02 003C 0001 'a'", connect(version: .mqtt31)),
        valid(
            "CONNECT, MQTT 3.1 with all fields",
            "10 1B 0006 'MQIsdp' 03 EE 003C 0001 'a' 0001 'w' 0001 'p' 0001 'u' 0001 's'",
            connect(
                version: .mqtt31, will: will("w", text("p"), .atLeastOnce, isRetained: true), userName: "u",
                password: text("s"))),
        malformed(
            "CONNECT, MQIsdp at level 4 [MQTT-3.1.2-1]", "10 0F 0006 'MQIsdp' 04 02 003C 0001 'a'", .wrongProtocolName),
        malformed(
            "CONNECT, MQIsdp at level 0x83 [MQTT-3.1.2-1]", "10 0F 0006 'MQIsdp' 83 02 003C 0001 'a'",
            .wrongProtocolName),
        malformed("CONNECT, no protocol name [MQTT-3.1.2-1]", "10 09 0000 04 02 003C 0001 'a'", .wrongProtocolName),
        malformed("CONNECT, MQTt [MQTT-3.1.2-1]", "10 0D 0004 'MQTt' 04 02 003C 0001 'a'", .wrongProtocolName),
        malformed("CONNECT, MQT [MQTT-3.1.2-1]", "10 0C 0003 'MQT' 04 02 003C 0001 'a'", .wrongProtocolName),
        malformed("CONNECT, MQTTT [MQTT-3.1.2-1]", "10 0E 0005 'MQTTT' 04 02 003C 0001 'a'", .wrongProtocolName),
        malformed(
            "CONNECT, MQTt at level 5 [MQTT-3.1.2-1]", "10 0D 0004 'MQTt' 05 02 003C 0001 'a'", .wrongProtocolName),

        valid("CONNECT, level 0 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 00 02 0000 0000", .unacceptableConnect(level: 0)),
        valid("CONNECT, level 1 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 01 02 0000 0000", .unacceptableConnect(level: 1)),
        valid("CONNECT, level 2 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 02 02 0000 0000", .unacceptableConnect(level: 2)),
        valid(
            "CONNECT, MQTT at level 3 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 03 02 0000 0000",
            .unacceptableConnect(level: 3)),
        valid("CONNECT, level 5 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 05 02 0000 0000", .unacceptableConnect(level: 5)),
        valid("CONNECT, level 6 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 06 02 0000 0000", .unacceptableConnect(level: 6)),
        valid(
            "CONNECT, level 0x83 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 83 02 0000 0000", .unacceptableConnect(level: 0x83)
        ),
        valid(
            "CONNECT, level 0x84 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' 84 02 0000 0000", .unacceptableConnect(level: 0x84)
        ),
        valid(
            "CONNECT, level 255 [MQTT-3.1.2-2]", "10 0C 0004 'MQTT' FF 02 0000 0000", .unacceptableConnect(level: 255)),
        valid(
            "CONNECT, MQTT 5 with properties [MQTT-3.1.2-2]", "10 13 0004 'MQTT' 05 02 003C 05 11 0000000A 0001 'a'",
            .unacceptableConnect(level: 5), isCanonical: false),
        valid(
            "CONNECT, level 5 and nothing behind it [MQTT-3.1.2-2]", "10 07 0004 'MQTT' 05",
            .unacceptableConnect(level: 5),
            isCanonical: false),

        malformed("CONNECT, no body [MQTT-3.1.4-1]", "10 00", .truncated),
        malformed("CONNECT, half the length of the name [MQTT-3.1.4-1]", "10 01 00", .truncated),
        malformed("CONNECT, half a name [MQTT-3.1.4-1]", "10 04 0004 'MQ'", .truncated),
        malformed("CONNECT, no level [MQTT-3.1.4-1]", "10 06 0004 'MQTT'", .truncated),
        malformed("CONNECT, no flags [MQTT-3.1.4-1]", "10 07 0004 'MQTT' 04", .truncated),
        malformed("CONNECT, no keep alive field [MQTT-3.1.4-1]", "10 08 0004 'MQTT' 04 02", .truncated),
        malformed("CONNECT, half a keep alive [MQTT-3.1.4-1]", "10 09 0004 'MQTT' 04 02 00", .truncated),
        malformed("CONNECT, no payload [MQTT-3.1.3-3]", "10 0A 0004 'MQTT' 04 02 003C", .truncated),
        malformed(
            "CONNECT, client identifier too long [MQTT-3.1.4-1]", "10 0D 0004 'MQTT' 04 02 003C 0002 'a'", .truncated),
        malformed(
            "CONNECT, client identifier of 65,535 bytes that are not there", "10 0D 0004 'MQTT' 04 02 003C FFFF 'a'",
            .truncated),
        malformed("CONNECT, no will topic [MQTT-3.1.2-9]", "10 0D 0004 'MQTT' 04 06 003C 0001 'a'", .truncated),
        malformed(
            "CONNECT, no will payload [MQTT-3.1.2-9]", "10 10 0004 'MQTT' 04 06 003C 0001 'a' 0001 'w'", .truncated),
        malformed(
            "CONNECT, will payload too long [MQTT-3.1.2-9]", "10 13 0004 'MQTT' 04 06 003C 0001 'a' 0001 'w' 0002 'p'",
            .truncated),
        malformed("CONNECT, no user name [MQTT-3.1.2-19]", "10 0D 0004 'MQTT' 04 82 003C 0001 'a'", .truncated),
        malformed("CONNECT, no password [MQTT-3.1.2-21]", "10 10 0004 'MQTT' 04 C2 003C 0001 'a' 0001 'u'", .truncated),
        malformed(
            "CONNECT, password too long [MQTT-3.1.2-21]", "10 13 0004 'MQTT' 04 C2 003C 0001 'a' 0001 'u' 0002 's'",
            .truncated),
        malformed(
            "CONNECT, a will without its flag [MQTT-3.1.2-11]",
            "10 13 0004 'MQTT' 04 02 003C 0001 'a' 0001 'w' 0001 'p'", .trailingBytes),
        malformed(
            "CONNECT, a user name without its flag [MQTT-3.1.2-18]", "10 10 0004 'MQTT' 04 02 003C 0001 'a' 0001 'u'",
            .trailingBytes),
        malformed(
            "CONNECT, a password without its flag [MQTT-3.1.2-20]",
            "10 13 0004 'MQTT' 04 82 003C 0001 'a' 0001 'u' 0001 's'",
            .trailingBytes),
        malformed(
            "CONNECT, one byte too many [MQTT-3.1.4-1]", "10 0E 0004 'MQTT' 04 02 003C 0001 'a' 00", .trailingBytes),
    ]

    /// Every byte of Connect Flags, with the fields that it announces; what is wrong is found from the lowest bit up.
    private static let connectFlagRows: [CodecRow] = (0...UInt8.max).map { flags in
        let hasWill = flags & 0b100 != 0
        let hasUserName = flags & 0b1000_0000 != 0
        let hasPassword = flags & 0b0100_0000 != 0
        let fields =
            hex("0004 'MQTT' 04") + [flags] + hex("003C 0001 'a'") + (hasWill ? hex("0001 'w' 0002 'by'") : [])
            + (hasUserName ? hex("0001 'u'") : []) + (hasPassword ? hex("0002 's' 00") : [])
        let expected: Result<ControlPacket, MalformedPacket> =
            if flags & 1 != 0 {
                .failure(.reservedConnectFlag)
            } else if !hasWill && flags & 0b11_1000 != 0 {
                .failure(.inconsistentWill)
            } else if let qos = QoS(rawValue: flags >> 3 & 0b11) {
                if hasPassword && !hasUserName {
                    .failure(.passwordWithoutUserName)
                } else {
                    .success(
                        connect(
                            cleanSession: flags & 0b10 != 0,
                            will: hasWill ? will("w", text("by"), qos, isRetained: flags & 0b10_0000 != 0) : nil,
                            userName: hasUserName ? "u" : nil, password: hasPassword ? text("s\0") : nil))
                }
            } else {
                .failure(.inconsistentWill)
            }
        return CodecRow(
            name: "CONNECT, flags \(hexText([flags])) [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-14] [MQTT-3.1.2-22]",
            bytes: packet(0x10, fields), expected: expected)
    }

    // MARK: CONNACK (3.2)

    private static let connectAcknowledgementRows: [CodecRow] = [
        valid("CONNACK [MQTT-3.1.4-4]", "20 02 00 00", connectAcknowledgement(.accepted)),
        valid(
            "CONNACK, session present [MQTT-3.2.2-2]", "20 02 01 00",
            connectAcknowledgement(.accepted, sessionPresent: true)),
        valid("CONNACK 1 [MQTT-3.1.2-2]", "20 02 00 01", connectAcknowledgement(.unacceptableProtocolVersion)),
        valid("CONNACK 2 [MQTT-3.1.3-9]", "20 02 00 02", connectAcknowledgement(.identifierRejected)),
        valid("CONNACK 3 (3.2.2.3)", "20 02 00 03", connectAcknowledgement(.serverUnavailable)),
        valid("CONNACK 4 (3.2.2.3)", "20 02 00 04", connectAcknowledgement(.badUserNameOrPassword)),
        valid("CONNACK 5 (3.2.2.3)", "20 02 00 05", connectAcknowledgement(.notAuthorized)),
        // A server must not send it; the codec does not judge.
        valid(
            "CONNACK, refused and yet a session [MQTT-3.2.2-4]", "20 02 01 05",
            connectAcknowledgement(.notAuthorized, sessionPresent: true)),
        malformed("CONNACK 6 (Table 3.1)", "20 02 00 06", .invalidReturnCode(6)),
        malformed("CONNACK 255 (Table 3.1)", "20 02 00 FF", .invalidReturnCode(255)),
        malformed("CONNACK, acknowledge flag 1 (3.2.2.1)", "20 02 02 00", .reservedFlags(0x02)),
        malformed("CONNACK, acknowledge flag 7 (3.2.2.1)", "20 02 81 00", .reservedFlags(0x81)),
        malformed("CONNACK, no body", "20 00", .truncated),
        malformed("CONNACK, no return code", "20 01 00", .truncated),
        malformed("CONNACK, one byte too many", "20 03 00 00 00", .trailingBytes),
    ]

    // MARK: PUBLISH (3.3)

    private static let publishRows: [CodecRow] = [
        valid(
            "PUBLISH at QoS 0 has no packet identifier [MQTT-2.3.1-5]", "30 07 0003 'a/b' 'hi'",
            .publish(message("a/b", "hi"), qos: .atMostOnce)),
        valid(
            "PUBLISH at QoS 1 [MQTT-4.3.2-1]", "32 09 0003 'a/b' 000A 'hi'",
            .publish(message("a/b", "hi"), qos: .atLeastOnce, packetIdentifier: 10)),
        valid(
            "PUBLISH at QoS 2 [MQTT-4.3.3-1]", "34 09 0003 'a/b' FFFF 'hi'",
            .publish(message("a/b", "hi"), qos: .exactlyOnce, packetIdentifier: 65_535)),
        valid(
            "PUBLISH, retained [MQTT-3.3.1-5]", "31 07 0003 'a/b' 'hi'",
            .publish(message("a/b", "hi"), qos: .atMostOnce, isRetained: true)),
        valid(
            "PUBLISH, DUP at QoS 1 [MQTT-3.3.1-1]", "3A 09 0003 'a/b' 0001 'hi'",
            .publish(message("a/b", "hi"), qos: .atLeastOnce, packetIdentifier: 1, isDuplicate: true)),
        valid(
            "PUBLISH, DUP and retained at QoS 2 [MQTT-3.3.1-1]", "3D 09 0003 'a/b' 0100 'hi'",
            .publish(
                message("a/b", "hi"), qos: .exactlyOnce, packetIdentifier: 256, isDuplicate: true, isRetained: true)),
        valid("PUBLISH, no payload (3.3.3)", "30 03 0001 'a'", .publish(message("a", ""), qos: .atMostOnce)),
        valid(
            "PUBLISH, no payload, retained [MQTT-3.3.1-10]", "33 05 0001 'a' 00FF",
            .publish(message("a", ""), qos: .atLeastOnce, packetIdentifier: 255, isRetained: true)),
        valid(
            "PUBLISH, binary payload (3.3.3)", "30 08 0001 'a' 00 FF C0 80 00",
            .publish(ApplicationMessage(topic: "a", payload: [0x00, 0xFF, 0xC0, 0x80, 0x00]), qos: .atMostOnce)),
        malformed("PUBLISH, QoS 3 [MQTT-3.3.1-4]", "36 07 0001 'a' 0001 'hi'", .qualityOfServiceThree),
        malformed("PUBLISH, DUP at QoS 0 [MQTT-3.3.1-2]", "38 05 0001 'a' 'hi'", .duplicateAtMostOnce),
        malformed("PUBLISH, packet identifier 0 at QoS 1 [MQTT-2.3.1-1]", "32 05 0001 'a' 0000", .zeroPacketIdentifier),
        malformed("PUBLISH, packet identifier 0 at QoS 2 [MQTT-2.3.1-1]", "34 05 0001 'a' 0000", .zeroPacketIdentifier),
        malformed("PUBLISH, no body [MQTT-3.3.2-1]", "30 00", .truncated),
        malformed("PUBLISH, half the length of the topic [MQTT-3.3.2-1]", "30 01 00", .truncated),
        malformed("PUBLISH, topic longer than the packet [MQTT-3.3.2-1]", "30 04 0003 'ab'", .truncated),
        malformed("PUBLISH, topic of 65,535 bytes that are not there [MQTT-3.3.2-1]", "30 04 FFFF 'ab'", .truncated),
        malformed("PUBLISH, no packet identifier at QoS 1 [MQTT-2.3.1-1]", "32 03 0001 'a'", .truncated),
        malformed("PUBLISH, half a packet identifier at QoS 2 [MQTT-2.3.1-1]", "34 04 0001 'a' 01", .truncated),
    ]

    // MARK: PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK (3.4 to 3.7, 3.11)

    private static let acknowledgementRows: [CodecRow] = [
        (0x40, "PUBACK", .publishAcknowledgement), (0x50, "PUBREC", .publishReceived),
        (0x62, "PUBREL", .publishRelease), (0x70, "PUBCOMP", .publishComplete),
        (0xB0, "UNSUBACK", .unsubscribeAcknowledgement),
    ].flatMap { (first: UInt8, name: String, type: ControlPacketType) -> [CodecRow] in
        let identifiers: [PacketIdentifier] = [1, 255, 256, 65_535]
        return identifiers.map { identifier in
            CodecRow(
                name: "\(name) \(identifier) [MQTT-2.3.1-6] [MQTT-2.3.1-7]",
                bytes: packet(first, [UInt8(identifier >> 8), UInt8(identifier & 0xFF)]),
                expected: .success(.acknowledgement(Acknowledgement(type, identifier))))
        } + [
            CodecRow(
                name: "\(name), packet identifier 0 [MQTT-2.3.1-1]", bytes: packet(first, [0, 0]),
                expected: .failure(.zeroPacketIdentifier)),
            CodecRow(name: "\(name), no body", bytes: packet(first, []), expected: .failure(.truncated)),
            CodecRow(name: "\(name), one byte", bytes: packet(first, [1]), expected: .failure(.truncated)),
            CodecRow(
                name: "\(name), one byte too many", bytes: packet(first, [0, 1, 0]), expected: .failure(.trailingBytes)),
        ]
    }

    // MARK: SUBSCRIBE (3.8)

    private static let subscribeRows: [CodecRow] = [
        valid("SUBSCRIBE at QoS 0 [MQTT-3.8.3-1]", "82 08 0001 0003 'a/b' 00", subscribe(("a/b", .atMostOnce))),
        valid("SUBSCRIBE at QoS 1 [MQTT-3.8.3-1]", "82 08 0001 0003 'a/b' 01", subscribe(("a/b", .atLeastOnce))),
        valid("SUBSCRIBE at QoS 2 [MQTT-3.8.3-1]", "82 08 0001 0003 'a/b' 02", subscribe(("a/b", .exactlyOnce))),
        valid(
            "SUBSCRIBE, packet identifier 65,535 [MQTT-3.8.4-2]", "82 06 FFFF 0001 'a' 00",
            subscribe(("a", .atMostOnce), packetIdentifier: 65_535)),
        valid(
            "SUBSCRIBE to three filters, in order [MQTT-3.8.4-4]", "82 12 0001 0003 'a/b' 00 0001 '#' 02 0003 'c/+' 01",
            subscribe(("a/b", .atMostOnce), ("#", .exactlyOnce), ("c/+", .atLeastOnce))),
        valid(
            "SUBSCRIBE to the same filter twice [MQTT-3.8.4-4]", "82 0A 0001 0001 'a' 00 0001 'a' 02",
            subscribe(("a", .atMostOnce), ("a", .exactlyOnce))),
        malformed("SUBSCRIBE to nothing [MQTT-3.8.3-3]", "82 02 0001", .noTopicFilters),
        malformed("SUBSCRIBE, packet identifier 0 [MQTT-2.3.1-1]", "82 06 0000 0001 'a' 00", .zeroPacketIdentifier),
        malformed("SUBSCRIBE, requested QoS 3 [MQTT-3-8.3-4]", "82 06 0001 0001 'a' 03", .invalidRequestedQoS(3)),
        malformed("SUBSCRIBE, requested QoS 4 [MQTT-3-8.3-4]", "82 06 0001 0001 'a' 04", .invalidRequestedQoS(4)),
        malformed("SUBSCRIBE, requested QoS 0x40 [MQTT-3-8.3-4]", "82 06 0001 0001 'a' 40", .invalidRequestedQoS(0x40)),
        malformed("SUBSCRIBE, requested QoS 0x80 [MQTT-3-8.3-4]", "82 06 0001 0001 'a' 80", .invalidRequestedQoS(0x80)),
        malformed("SUBSCRIBE, requested QoS 0x81 [MQTT-3-8.3-4]", "82 06 0001 0001 'a' 81", .invalidRequestedQoS(0x81)),
        malformed("SUBSCRIBE, requested QoS 0xFF [MQTT-3-8.3-4]", "82 06 0001 0001 'a' FF", .invalidRequestedQoS(0xFF)),
        malformed(
            "SUBSCRIBE, requested QoS 3 for the second filter [MQTT-3-8.3-4]", "82 0A 0001 0001 'a' 00 0001 'b' 03",
            .invalidRequestedQoS(3)),
        malformed(
            "SUBSCRIBE, second filter bad [MQTT-4.7.1-2]", "82 0B 0001 0001 'a' 00 0002 'b#' 00", .invalidTopicFilter),
        malformed(
            "SUBSCRIBE, second filter empty [MQTT-4.7.3-1]", "82 09 0001 0001 'a' 00 0000 00", .invalidTopicFilter),
        malformed("SUBSCRIBE, second filter cut short", "82 09 0001 0001 'a' 00 0002 'b'", .truncated),
        malformed("SUBSCRIBE, no body", "82 00", .truncated),
        malformed("SUBSCRIBE, half a packet identifier", "82 01 01", .truncated),
        malformed("SUBSCRIBE, half the length of a filter", "82 03 0001 00", .truncated),
        malformed("SUBSCRIBE, filter longer than the packet", "82 06 0001 0003 'ab'", .truncated),
        malformed("SUBSCRIBE, no requested QoS", "82 05 0001 0001 'a'", .truncated),
    ]

    // MARK: SUBACK (3.9)

    private static let subscribeAcknowledgementRows: [CodecRow] = [
        valid("SUBACK, granted QoS 0 [MQTT-3.9.3-2]", "90 03 0001 00", subscribeAcknowledgement(.granted(.atMostOnce))),
        valid(
            "SUBACK, granted QoS 1 [MQTT-3.9.3-2]", "90 03 0001 01", subscribeAcknowledgement(.granted(.atLeastOnce))),
        valid(
            "SUBACK, granted QoS 2 [MQTT-3.9.3-2]", "90 03 0001 02", subscribeAcknowledgement(.granted(.exactlyOnce))),
        valid("SUBACK, failure [MQTT-3.9.3-2]", "90 03 0001 80", subscribeAcknowledgement(.failure)),
        valid(
            "SUBACK, one code for each filter [MQTT-3.8.4-5] [MQTT-3.9.3-1]", "90 06 0001 02 80 00 01",
            subscribeAcknowledgement(
                .granted(.exactlyOnce), .failure, .granted(.atMostOnce), .granted(.atLeastOnce))),
        malformed("SUBACK, code 3 [MQTT-3.9.3-2]", "90 03 0001 03", .invalidReturnCode(3)),
        malformed("SUBACK, code 0x7F [MQTT-3.9.3-2]", "90 03 0001 7F", .invalidReturnCode(0x7F)),
        malformed("SUBACK, code 0x81 [MQTT-3.9.3-2]", "90 03 0001 81", .invalidReturnCode(0x81)),
        malformed("SUBACK, code 0xFF [MQTT-3.9.3-2]", "90 03 0001 FF", .invalidReturnCode(0xFF)),
        malformed("SUBACK, second code bad [MQTT-3.9.3-2]", "90 04 0001 00 87", .invalidReturnCode(0x87)),
        malformed("SUBACK, packet identifier 0 [MQTT-2.3.1-1]", "90 03 0000 00", .zeroPacketIdentifier),
        malformed("SUBACK, no code [MQTT-3.8.4-5]", "90 02 0001", .truncated),
        malformed("SUBACK, half a packet identifier", "90 01 01", .truncated),
        malformed("SUBACK, no body", "90 00", .truncated),
    ]

    // MARK: UNSUBSCRIBE (3.10)

    private static let unsubscribeRows: [CodecRow] = [
        valid("UNSUBSCRIBE [MQTT-3.10.3-1]", "A2 07 0001 0003 'a/b'", .unsubscribe([text("a/b")], packetIdentifier: 1)),
        valid(
            "UNSUBSCRIBE from three filters, in order [MQTT-3.10.4-6]", "A2 0F FFFF 0003 'a/b' 0001 '#' 0003 'c/+'",
            .unsubscribe([text("a/b"), text("#"), text("c/+")], packetIdentifier: 65_535)),
        malformed("UNSUBSCRIBE from nothing [MQTT-3.10.3-2]", "A2 02 0001", .noTopicFilters),
        malformed("UNSUBSCRIBE, packet identifier 0 [MQTT-2.3.1-1]", "A2 05 0000 0001 'a'", .zeroPacketIdentifier),
        malformed(
            "UNSUBSCRIBE, second filter bad [MQTT-4.7.1-2]", "A2 09 0001 0001 'a' 0002 'b#'", .invalidTopicFilter),
        malformed("UNSUBSCRIBE, second filter empty [MQTT-4.7.3-1]", "A2 07 0001 0001 'a' 0000", .invalidTopicFilter),
        malformed("UNSUBSCRIBE, second filter cut short", "A2 08 0001 0001 'a' 0002 'b'", .truncated),
        malformed("UNSUBSCRIBE, no body", "A2 00", .truncated),
        malformed("UNSUBSCRIBE, half a packet identifier", "A2 01 01", .truncated),
        malformed("UNSUBSCRIBE, half the length of a filter", "A2 03 0001 00", .truncated),
        malformed("UNSUBSCRIBE, filter longer than the packet [MQTT-3.10.3-1]", "A2 06 0001 0003 'ab'", .truncated),
    ]

    // MARK: PINGREQ, PINGRESP, DISCONNECT (3.12 to 3.14)

    private static let emptyPacketRows: [CodecRow] = [
        valid("PINGREQ [MQTT-3.12.4-1]", "C0 00", .pingRequest),
        valid("PINGRESP [MQTT-3.12.4-1]", "D0 00", .pingResponse),
        valid("DISCONNECT [MQTT-3.14.4-3]", "E0 00", .disconnect),
        malformed("PINGREQ with a body (3.12)", "C0 01 00", .trailingBytes),
        malformed("PINGRESP with a body (3.13)", "D0 01 00", .trailingBytes),
        malformed("DISCONNECT with a body (3.14)", "E0 01 00", .trailingBytes),
        malformed("DISCONNECT with the body of MQTT 5 (3.14)", "E0 02 04 00", .trailingBytes),
    ]

    // MARK: Remaining Length (2.2.3)

    /// The text does not ask for the shortest encoding: longer ones are accepted up to four bytes.
    private static let framingRows: [CodecRow] = [
        valid("Remaining Length 0 in two bytes (2.2.3)", "C0 80 00", .pingRequest, isCanonical: false),
        valid("Remaining Length 0 in three bytes (2.2.3)", "C0 80 80 00", .pingRequest, isCanonical: false),
        valid("Remaining Length 0 in four bytes (2.2.3)", "C0 80 80 80 00", .pingRequest, isCanonical: false),
        valid(
            "Remaining Length 4 in four bytes (2.2.3)", "30 84 80 80 00 0001 'a' 'p'",
            .publish(message("a", "p"), qos: .atMostOnce), isCanonical: false),
        valid(
            "Remaining Length of two bytes (2.2.3)", "30 80 01 0001 'a'" + String(repeating: "'z'", count: 125),
            .publish(message("a", String(repeating: "z", count: 125)), qos: .atMostOnce)),
        malformed("Remaining Length 0 in five bytes (2.2.3)", "C0 80 80 80 80 00", .remainingLengthTooLong),
        malformed("Remaining Length of five bytes (2.2.3)", "30 FF FF FF FF 7F", .remainingLengthTooLong),
        malformed("CONNECT, Remaining Length of five bytes (2.2.3)", "10 80 80 80 80 01", .remainingLengthTooLong),
    ]

    // MARK: Flags of the fixed header (2.2.2)

    /// All types with all flags, in both versions.
    private static let fixedHeaderFlagRows: [CodecRow] = [.mqtt311, .mqtt31].flatMap { version in
        (0...UInt8.max).map { fixedHeaderFlagRow($0, version: version) }
    }

    private static func fixedHeaderFlagRow(_ first: UInt8, version: ProtocolVersion) -> CodecRow {
        let (type, flags) = (first >> 4, first & 0x0F)
        let reservedFlags: UInt8 = [6, 8, 10].contains(type) ? 0b0010 : 0
        // MQTT 3.1 allows DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE.
        let isRepetition = version == .mqtt31 && reservedFlags != 0 && flags == reservedFlags | 0b1000
        let expected: Result<ControlPacket, MalformedPacket> =
            if let sample = samples[type] {
                flags == reservedFlags || isRepetition ? .success(sample.value) : .failure(.reservedFlags(flags))
            } else {
                type == 3 ? publishSample(flags: flags) : .failure(.unexpectedType(type))
            }
        return CodecRow(
            name: "type \(type) with flags \(flags) at level \(version.rawValue) [MQTT-2.2.2-1] [MQTT-2.2.2-2]",
            bytes: packet(first, type == 3 ? hex("0001 'a' 0001 'p'") : samples[type]?.body ?? []),
            expected: expected, version: version, isCanonical: !isRepetition)
    }

    /// What a PUBLISH with the body `0001 'a' 0001 'p'` says.
    private static func publishSample(flags: UInt8) -> Result<ControlPacket, MalformedPacket> {
        let (isDuplicate, isRetained) = (flags & 0b1000 != 0, flags & 1 != 0)
        switch QoS(rawValue: flags >> 1 & 0b11) {
        case nil: return .failure(.qualityOfServiceThree)
        case .atMostOnce where isDuplicate: return .failure(.duplicateAtMostOnce)
        case .atMostOnce:
            // Where there is no packet identifier, its two bytes are payload.
            return .success(.publish(message("a", "\0\u{1}p"), qos: .atMostOnce, isRetained: isRetained))
        case let qos?:
            return .success(
                .publish(
                    message("a", "p"), qos: qos, packetIdentifier: 1, isDuplicate: isDuplicate, isRetained: isRetained))
        }
    }

    /// A body for each type but PUBLISH, and what it says.
    private static let samples: [UInt8: (body: [UInt8], value: ControlPacket)] = [
        1: (hex("0004 'MQTT' 04 02 003C 0001 'a'"), connect()),
        2: (hex("00 00"), connectAcknowledgement(.accepted)),
        4: (hex("0001"), .acknowledgement(Acknowledgement(.publishAcknowledgement, 1))),
        5: (hex("0001"), .acknowledgement(Acknowledgement(.publishReceived, 1))),
        6: (hex("0001"), .acknowledgement(Acknowledgement(.publishRelease, 1))),
        7: (hex("0001"), .acknowledgement(Acknowledgement(.publishComplete, 1))),
        8: (hex("0001 0001 'a' 01"), subscribe(("a", .atLeastOnce))),
        9: (hex("0001 01"), subscribeAcknowledgement(.granted(.atLeastOnce))),
        10: (hex("0001 0001 'a'"), .unsubscribe([text("a")], packetIdentifier: 1)),
        11: (hex("0001"), .acknowledgement(Acknowledgement(.unsubscribeAcknowledgement, 1))),
        12: ([], .pingRequest),
        13: ([], .pingResponse),
        14: ([], .disconnect),
    ]

    // MARK: Text (1.5.3)

    private static let illFormedTexts: [(name: String, bytes: [UInt8])] = [
        ("a lone continuation 80", hex("80")), ("a lone continuation BF", hex("BF")),
        ("two bytes cut short", hex("C3")), ("three bytes cut short", hex("E2 82")),
        ("three bytes cut to one", hex("E2")), ("four bytes cut short", hex("F0 9F 98")),
        ("four bytes cut to two", hex("F0 9F")), ("four bytes cut to one", hex("F0")),
        ("overlong C0 80", hex("C0 80")), ("overlong C1 BF", hex("C1 BF")), ("overlong E0 80 AF", hex("E0 80 AF")),
        ("overlong E0 9F BF", hex("E0 9F BF")), ("overlong F0 80 80 AF", hex("F0 80 80 AF")),
        ("overlong F0 8F BF BF", hex("F0 8F BF BF")), ("surrogate ED A0 80", hex("ED A0 80")),
        ("surrogate ED BF BF", hex("ED BF BF")), ("a pair of surrogates", hex("ED A0 BD ED B8 80")),
        ("U+110000", hex("F4 90 80 80")), ("lead byte F5", hex("F5 80 80 80")), ("five bytes", hex("F8 88 80 80 80")),
        ("byte FE", hex("FE")), ("byte FF", hex("FF")),
    ]

    /// Control characters and non-characters are allowed: 1.5.3 leaves it to the receiver to close on them, and we do
    /// not.
    private static let wellFormedTexts: [(name: String, bytes: [UInt8])] = [
        ("U+0001", hex("01")), ("U+007F", hex("7F")), ("U+0080", hex("C2 80")), ("U+07FF", hex("DF BF")),
        ("U+0800", hex("E0 A0 80")), ("U+D7FF", hex("ED 9F BF")), ("U+E000", hex("EE 80 80")),
        ("U+FFFF", hex("EF BF BF")), ("U+10000", hex("F0 90 80 80")), ("U+10FFFF", hex("F4 8F BF BF")),
        ("U+FEFF, which is kept [MQTT-1.5.3-3]", hex("EF BB BF")),
        ("decomposed é, which is kept [MQTT-4.7.3-4]", hex("65 CC 81")),
    ]

    private static let textRows: [CodecRow] = textFields.flatMap { field in
        illFormedTexts.flatMap { text in
            [
                field.row("\(text.name) [MQTT-1.5.3-1]", text.bytes, .invalidUTF8),
                field.row("\(text.name) in ASCII [MQTT-1.5.3-1]", hex("'a'") + text.bytes + hex("'b'"), .invalidUTF8),
            ]
        }
            + wellFormedTexts.flatMap { text in
                [
                    field.row("\(text.name) [MQTT-1.5.3-1]", text.bytes, nil),
                    field.row("\(text.name) in ASCII [MQTT-1.5.3-1]", hex("'a'") + text.bytes + hex("'b'"), nil),
                ]
            }
            + [
                field.row("U+0000 [MQTT-1.5.3-2]", [0], .nullCharacter),
                field.row("U+0000 at the start [MQTT-1.5.3-2]", hex("00 'a'"), .nullCharacter),
                field.row("U+0000 in the middle [MQTT-1.5.3-2]", hex("'a' 00 'b'"), .nullCharacter),
                field.row("U+0000 at the end [MQTT-1.5.3-2]", hex("'a' 00"), .nullCharacter),
                field.row("U+0000 behind é [MQTT-1.5.3-2]", hex("C3 A9 00"), .nullCharacter),
            ]
    }

    // MARK: Topics (4.7)

    private static let topicNameRows: [CodecRow] = [willTopic, topicName].flatMap { field in
        ["/", "//", "/a", "a/", " ", "a b", "a/b/c", "$SYS/x", "$share/g/f", "é/日本"].map { name in
            field.row("“\(name)” [MQTT-4.7.3-1]", text(name), nil)
        }
            + ["", "+", "#", "a/+", "a/#", "+/a", "a+", "a#b", "é/#"].map { name in
                field.row("“\(name)” [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1]", text(name), .invalidTopicName)
            }
    }

    private static let topicFilterRows: [CodecRow] = [subscribeFilter, unsubscribeFilter].flatMap { field in
        [
            "#", "a", "a/#", "/#", "+", "+/", "/+", "+/+", "a/+/#", "/", "//", "//#", "+//+", " ", "é/+", "$SYS/#",
            "$SYS/monitor/+", "sport/tennis/player1/#", "sport/#", "+/tennis/#", "sport/+/player1",
        ].map { field.row("“\($0)” [MQTT-4.7.1-2] [MQTT-4.7.1-3]", text($0), nil) }
            + [
                "", "a#", "#a", "#/", "#/a", "a/#/b", "##", "#/#", "+a", "a+", "a+/b", "++", "+#", "#+", "+/a+", "a/+#",
                "sport+", "sport/tennis#", "sport/tennis/#/ranking", "é+",
            ].map { field.row("“\($0)” [MQTT-4.7.1-2] [MQTT-4.7.1-3]", text($0), .invalidTopicFilter) }
            + [
                "$share/g/f", "$share/g/#", "$share/g/+/a", "$share/g//", "$share/g//a", "$share/é/f", "$shared/x",
                "$shar", "$SHARE/g", "a/$share", "/$share/+", "$share /+",
            ].map { field.row("shared “\($0)”", text($0), nil) }
            + [
                "$share", "$share/", "$share/g", "$share/g/", "$share//", "$share//f", "$share/+", "$share/#",
                "$share/+/f", "$share/#/f", "$share/g+/f", "$share/g#/f", "$share/g/a#", "$share/g/#/a", "$share+",
                "$share#",
            ].map { field.row("shared “\($0)”", text($0), .invalidTopicFilter) }
    }

    private static let willTopic = TextField(
        name: "will topic", first: 0x10, before: hex("0004 'MQTT' 04 06 003C 0001 'a'"), after: hex("0001 'p'")
    ) { connect(will: WillMessage(message: message($0, "p"), qos: .atMostOnce, isRetained: false)) }

    private static let topicName = TextField(name: "topic name", first: 0x30, before: [], after: hex("'p'")) {
        .publish(message($0, "p"), qos: .atMostOnce)
    }

    private static let subscribeFilter = TextField(name: "SUBSCRIBE", first: 0x82, before: hex("0001"), after: [1]) {
        .subscribe([Subscription(filter: $0, maximumQoS: .atLeastOnce)], packetIdentifier: 1)
    }

    private static let unsubscribeFilter = TextField(name: "UNSUBSCRIBE", first: 0xA2, before: hex("0001"), after: []) {
        .unsubscribe([$0], packetIdentifier: 1)
    }

    private static let textFields: [TextField] = [
        TextField(name: "client identifier", first: 0x10, before: hex("0004 'MQTT' 04 02 003C"), after: []) {
            .connect(Connect(clientIdentifier: $0))
        },
        willTopic,
        TextField(name: "user name", first: 0x10, before: hex("0004 'MQTT' 04 82 003C 0001 'a'"), after: []) {
            .connect(Connect(clientIdentifier: text("a"), userName: $0))
        },
        topicName,
        subscribeFilter,
        TextField(name: "second SUBSCRIBE", first: 0x82, before: hex("0001 0001 'a' 00"), after: [1]) {
            .subscribe(
                [
                    Subscription(filter: text("a"), maximumQoS: .atMostOnce),
                    Subscription(filter: $0, maximumQoS: .atLeastOnce),
                ], packetIdentifier: 1)
        },
        unsubscribeFilter,
        TextField(name: "second UNSUBSCRIBE", first: 0xA2, before: hex("0001 0001 'a'"), after: []) {
            .unsubscribe([text("a"), $0], packetIdentifier: 1)
        },
    ]
}

/// A packet with a place for a text.
private struct TextField: Sendable {
    let name: String
    let first: UInt8
    let before: [UInt8]
    let after: [UInt8]
    let value: @Sendable ([UInt8]) -> ControlPacket

    /// A row for `text`, which is valid where `problem` is nil.
    func row(_ description: String, _ text: [UInt8], _ problem: MalformedPacket?) -> CodecRow {
        CodecRow(
            name: "\(name): \(description)", bytes: packet(first, before + [0, UInt8(text.count)] + text + after),
            expected: problem.map { .failure($0) } ?? .success(value(text)))
    }
}

private func valid(
    _ name: String, _ bytes: String, _ packet: ControlPacket, isCanonical: Bool = true
) -> CodecRow {
    CodecRow(name: name, bytes: hex(bytes), expected: .success(packet), isCanonical: isCanonical)
}

private func malformed(_ name: String, _ bytes: String, _ problem: MalformedPacket) -> CodecRow {
    CodecRow(name: name, bytes: hex(bytes), expected: .failure(problem))
}

/// A packet whose Remaining Length fits into one byte.
private func packet(_ first: UInt8, _ body: [UInt8]) -> [UInt8] {
    precondition(body.count < 128, "a row needs a second byte of Remaining Length")
    return [first, UInt8(body.count)] + body
}

private func connect(
    _ clientIdentifier: String = "a", version: ProtocolVersion = .mqtt311, cleanSession: Bool = true,
    keepAlive: UInt16 = 60, will: WillMessage? = nil, userName: String? = nil, password: [UInt8]? = nil
) -> ControlPacket {
    .connect(
        Connect(
            version: version, cleanSession: cleanSession, keepAlive: keepAlive,
            clientIdentifier: text(clientIdentifier),
            will: will, userName: userName.map(text), password: password))
}

private func will(
    _ topic: String, _ payload: [UInt8], _ qos: QoS = .atMostOnce, isRetained: Bool = false
) -> WillMessage {
    WillMessage(message: ApplicationMessage(topic: topic, payload: payload), qos: qos, isRetained: isRetained)
}

private func message(_ topic: String, _ payload: String) -> ApplicationMessage {
    message(text(topic), payload)
}

private func message(_ topic: [UInt8], _ payload: String) -> ApplicationMessage {
    ApplicationMessage(topic: topic.span, payload: text(payload).span)
}

private func connectAcknowledgement(
    _ returnCode: ConnectReturnCode, sessionPresent: Bool = false
) -> ControlPacket {
    .connectAcknowledgement(ConnectAcknowledgement(sessionPresent: sessionPresent, returnCode: returnCode))
}

private func subscribe(_ requests: (String, QoS)..., packetIdentifier: PacketIdentifier = 1) -> ControlPacket {
    .subscribe(
        requests.map { Subscription(filter: text($0.0), maximumQoS: $0.1) }, packetIdentifier: packetIdentifier)
}

private func subscribeAcknowledgement(_ returnCodes: SubscribeReturnCode...) -> ControlPacket {
    .subscribeAcknowledgement(SubscribeAcknowledgement(packetIdentifier: 1, returnCodes: returnCodes))
}
