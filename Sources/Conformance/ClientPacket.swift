/// What bytes that a client has sent mean, read as the specification reads them: the fuzzer knows by it what a broker
/// must answer, a case what it leaves behind. Shares nothing with the broker's codec.
enum ClientPacket {
    case connect(Connect)
    /// Another protocol than MQTT 3.1 and 3.1.1, whose packets have another form.
    case foreign
    case publish(Publication)
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    case reply(Packet.Kind, identifier: UInt16)
    case subscribe(identifier: UInt16, [(filter: [UInt8], qos: UInt8)])
    case unsubscribe(identifier: UInt16)
    case pingreq
    case disconnect
    /// The broker must close the connection [MQTT-4.8.0-1].
    case violation(String)

    struct Connect {
        var version: UInt8
        var cleanSession: Bool
        var clientIdentifier: [UInt8]
        var retainedWill: [UInt8]?
        var userName: [UInt8]?
        var password: [UInt8]?
    }

    struct Publication {
        var topic: [UInt8]
        var qos: UInt8
        /// 0 for QoS 0.
        var identifier: UInt16
        var isRetained: Bool
    }

    private struct Violation: Error {
        let reason: String
    }

    private struct Reading {
        var fields: FieldReader
        /// A broker may accept the packet or close the connection, as it likes.
        var isDisputed = false
    }

    static func read(_ frame: Frame, version: UInt8?) -> (packet: ClientPacket, isDisputed: Bool) {
        var reading = Reading(fields: FieldReader(frame.body))
        do throws(Violation) {
            let packet = try read(frame, version, &reading)
            return (packet, reading.isDisputed)
        } catch {
            return (.violation(error.reason), false)
        }
    }

    private static func read(
        _ frame: Frame, _ version: UInt8?, _ reading: inout Reading
    ) throws(Violation) -> ClientPacket {
        guard let kind = frame.kind else { throw Violation(reason: "packet type \(frame.firstByte >> 4)") }
        guard (kind == .connect) == (version == nil) else {
            throw Violation(reason: version == nil ? "\(kind.name) before CONNECT" : "a second CONNECT")
        }
        let flags = frame.firstByte & 0x0f
        if kind != .publish, flags != kind.flags {
            // MQTT 3.1 has DUP on these.
            guard version == 3, kind.flags == 2, flags == 0x0a else {
                throw Violation(reason: "\(kind.name) with flags 0x\(hexadecimal(flags))")
            }
            reading.isDisputed = true
        }
        switch kind {
        case .connect: return try connect(&reading)
        case .publish: return try publish(frame.firstByte, &reading)
        case .puback, .pubrec, .pubrel, .pubcomp:
            let identifier = try identifier(&reading)
            try end(reading, kind)
            return .reply(kind, identifier: identifier)
        case .subscribe:
            let identifier = try identifier(&reading)
            var subscriptions: [(filter: [UInt8], qos: UInt8)] = []
            while !reading.fields.isAtEnd {
                let filter = try filter(&reading)
                guard let qos = reading.fields.byte(), qos < 3 else {
                    throw Violation(reason: "a requested QoS above 2")
                }
                subscriptions.append((filter, qos))
            }
            guard !subscriptions.isEmpty else { throw Violation(reason: "SUBSCRIBE without a filter") }
            return .subscribe(identifier: identifier, subscriptions)
        case .unsubscribe:
            let identifier = try identifier(&reading)
            guard !reading.fields.isAtEnd else { throw Violation(reason: "UNSUBSCRIBE without a filter") }
            while !reading.fields.isAtEnd { _ = try filter(&reading) }
            return .unsubscribe(identifier: identifier)
        case .pingreq, .disconnect:
            try end(reading, kind)
            return kind == .pingreq ? .pingreq : .disconnect
        case .connack, .suback, .unsuback, .pingresp: throw Violation(reason: "\(kind.name) from a client")
        }
    }

    private static func end(_ reading: Reading, _ kind: Packet.Kind) throws(Violation) {
        guard reading.fields.isAtEnd else { throw Violation(reason: "bytes behind the last field of \(kind.name)") }
    }

    private static func identifier(_ reading: inout Reading) throws(Violation) -> UInt16 {
        guard let identifier = reading.fields.uint16(), identifier > 0 else {
            throw Violation(reason: "no Packet Identifier, or 0")
        }
        return identifier
    }

    private static func text(_ reading: inout Reading, _ what: String) throws(Violation) -> [UInt8] {
        guard let bytes = reading.fields.field() else { throw Violation(reason: "\(what) ends too late") }
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw Violation(reason: "\(what) is no UTF-8, or has U+0000")
        }
        // Control characters and noncharacters: a broker MAY close the connection (1.5.3).
        let isOdd = text.unicodeScalars.contains { scalar in
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || scalar.value & 0xfffe == 0xfffe
                || (0xfdd0...0xfdef).contains(scalar.value)
        }
        if isOdd { reading.isDisputed = true }
        return bytes
    }

    private static func connect(_ reading: inout Reading) throws(Violation) -> ClientPacket {
        guard let name = reading.fields.field(), let level = reading.fields.byte() else {
            throw Violation(reason: "CONNECT ends too early")
        }
        let isKnown = (name == Array("MQTT".utf8) && level == 4) || (name == Array("MQIsdp".utf8) && level == 3)
        guard isKnown else { return .foreign }
        guard let flags = reading.fields.byte(), reading.fields.uint16() != nil else {
            throw Violation(reason: "CONNECT ends too early")
        }
        let (hasWill, willQoS, isWillRetained) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0)
        guard flags & 1 == 0 else { throw Violation(reason: "the reserved flag of CONNECT") }
        guard willQoS < 3, hasWill || (willQoS == 0 && !isWillRetained) else {
            throw Violation(reason: "the will's flags")
        }
        guard flags & 0x80 != 0 || flags & 0x40 == 0 else { throw Violation(reason: "a password without user name") }
        var connect = Connect(
            version: level, cleanSession: flags & 2 != 0, clientIdentifier: try text(&reading, "the Client Identifier"))
        if hasWill {
            let topic = try text(&reading, "the will's topic")
            // Nothing forbids these in a will, and nothing can be published to them.
            if topic.isEmpty || topic.contains(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }) {
                reading.isDisputed = true
            }
            guard reading.fields.field() != nil else { throw Violation(reason: "the will's message ends too late") }
            if isWillRetained { connect.retainedWill = topic }
        }
        if flags & 0x80 != 0 { connect.userName = try text(&reading, "the user name") }
        if flags & 0x40 != 0 {
            guard let password = reading.fields.field() else { throw Violation(reason: "the password ends too late") }
            connect.password = password
        }
        try end(reading, .connect)
        return .connect(connect)
    }

    private static func publish(_ firstByte: UInt8, _ reading: inout Reading) throws(Violation) -> ClientPacket {
        let qos = firstByte >> 1 & 3
        guard qos < 3 else { throw Violation(reason: "QoS 3") }
        guard qos > 0 || firstByte & 8 == 0 else { throw Violation(reason: "DUP at QoS 0") }
        let topic = try text(&reading, "the topic")
        guard TopicText.isName(topic) else { throw Violation(reason: "a topic that is empty or has wildcards") }
        let identifier = qos > 0 ? try identifier(&reading) : 0
        return .publish(
            Publication(topic: topic, qos: qos, identifier: identifier, isRetained: firstByte & 1 != 0))
    }

    private static func filter(_ reading: inout Reading) throws(Violation) -> [UInt8] {
        let filter = try text(&reading, "a filter")
        guard TopicText.isFilter(filter) else { throw Violation(reason: "a filter that is empty or wrong") }
        // MQTT 3.1.1 knows no shared subscriptions; who does may refuse those that have no group or no filter.
        if filter.starts(with: "$share".utf8), TopicText.shared(filter) == nil { reading.isDisputed = true }
        return filter
    }
}
