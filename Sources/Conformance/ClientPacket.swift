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

    /// `isDisputed`: a broker may accept it or close the connection, as it likes.
    static func read(_ frame: Frame, version: UInt8?) -> (packet: ClientPacket, isDisputed: Bool) {
        var reader = FieldReader(frame.body)
        do throws(Violation) {
            let packet = try read(frame, version, &reader)
            return (packet, reader.isDisputed)
        } catch {
            return (.violation(error.reason), false)
        }
    }

    private static func read(
        _ frame: Frame, _ version: UInt8?, _ reader: inout FieldReader
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
            reader.isDisputed = true
        }
        switch kind {
        case .connect: return try connect(&reader)
        case .publish: return try publish(frame.firstByte, &reader)
        case .puback, .pubrec, .pubrel, .pubcomp:
            let identifier = try identifier(&reader)
            try end(reader, kind)
            return .reply(kind, identifier: identifier)
        case .subscribe:
            let identifier = try identifier(&reader)
            var subscriptions: [(filter: [UInt8], qos: UInt8)] = []
            while !reader.isAtEnd {
                let filter = try filter(&reader)
                guard let qos = reader.byte(), qos < 3 else { throw Violation(reason: "a requested QoS above 2") }
                subscriptions.append((filter, qos))
            }
            guard !subscriptions.isEmpty else { throw Violation(reason: "SUBSCRIBE without a filter") }
            return .subscribe(identifier: identifier, subscriptions)
        case .unsubscribe:
            let identifier = try identifier(&reader)
            guard !reader.isAtEnd else { throw Violation(reason: "UNSUBSCRIBE without a filter") }
            while !reader.isAtEnd { _ = try filter(&reader) }
            return .unsubscribe(identifier: identifier)
        case .pingreq, .disconnect:
            try end(reader, kind)
            return kind == .pingreq ? .pingreq : .disconnect
        case .connack, .suback, .unsuback, .pingresp: throw Violation(reason: "\(kind.name) from a client")
        }
    }

    private static func end(_ reader: FieldReader, _ kind: Packet.Kind) throws(Violation) {
        guard reader.isAtEnd else { throw Violation(reason: "bytes behind the last field of \(kind.name)") }
    }

    private static func identifier(_ reader: inout FieldReader) throws(Violation) -> UInt16 {
        guard let identifier = reader.uint16(), identifier > 0 else {
            throw Violation(reason: "no Packet Identifier, or 0")
        }
        return identifier
    }

    private static func text(_ reader: inout FieldReader, _ what: String) throws(Violation) -> [UInt8] {
        guard let bytes = reader.field() else { throw Violation(reason: "\(what) ends too late") }
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw Violation(reason: "\(what) is no UTF-8, or has U+0000")
        }
        // Control characters and noncharacters: a broker MAY close the connection (1.5.3).
        let isOdd = text.unicodeScalars.contains { scalar in
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || scalar.value & 0xfffe == 0xfffe
                || (0xfdd0...0xfdef).contains(scalar.value)
        }
        if isOdd { reader.isDisputed = true }
        return bytes
    }

    private static func connect(_ reader: inout FieldReader) throws(Violation) -> ClientPacket {
        guard let name = reader.field(), let level = reader.byte() else {
            throw Violation(reason: "CONNECT ends too early")
        }
        let isKnown = (name == Array("MQTT".utf8) && level == 4) || (name == Array("MQIsdp".utf8) && level == 3)
        guard isKnown else { return .foreign }
        guard let flags = reader.byte(), reader.uint16() != nil else {
            throw Violation(reason: "CONNECT ends too early")
        }
        let (hasWill, willQoS, isWillRetained) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0)
        guard flags & 1 == 0 else { throw Violation(reason: "the reserved flag of CONNECT") }
        guard willQoS < 3, hasWill || (willQoS == 0 && !isWillRetained) else {
            throw Violation(reason: "the will's flags")
        }
        guard flags & 0x80 != 0 || flags & 0x40 == 0 else { throw Violation(reason: "a password without user name") }
        var connect = Connect(
            version: level, cleanSession: flags & 2 != 0, clientIdentifier: try text(&reader, "the Client Identifier"))
        if hasWill {
            let topic = try text(&reader, "the will's topic")
            // Nothing forbids these in a will, and nothing can be published to them.
            if topic.isEmpty || topic.contains(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }) {
                reader.isDisputed = true
            }
            guard reader.field() != nil else { throw Violation(reason: "the will's message ends too late") }
            if isWillRetained { connect.retainedWill = topic }
        }
        if flags & 0x80 != 0 { connect.userName = try text(&reader, "the user name") }
        if flags & 0x40 != 0 {
            guard let password = reader.field() else { throw Violation(reason: "the password ends too late") }
            connect.password = password
        }
        try end(reader, .connect)
        return .connect(connect)
    }

    private static func publish(_ firstByte: UInt8, _ reader: inout FieldReader) throws(Violation) -> ClientPacket {
        let qos = firstByte >> 1 & 3
        guard qos < 3 else { throw Violation(reason: "QoS 3") }
        guard qos > 0 || firstByte & 8 == 0 else { throw Violation(reason: "DUP at QoS 0") }
        let topic = try text(&reader, "the topic")
        guard TopicText.isName(topic) else { throw Violation(reason: "a topic that is empty or has wildcards") }
        let identifier = qos > 0 ? try identifier(&reader) : 0
        return .publish(
            Publication(topic: topic, qos: qos, identifier: identifier, isRetained: firstByte & 1 != 0))
    }

    private static func filter(_ reader: inout FieldReader) throws(Violation) -> [UInt8] {
        let filter = try text(&reader, "a filter")
        guard TopicText.isFilter(filter) else { throw Violation(reason: "a filter that is empty or wrong") }
        // MQTT 3.1.1 knows no shared subscriptions; who does may refuse those that have no group or no filter.
        if filter.starts(with: "$share".utf8), TopicText.shared(filter) == nil { reader.isDisputed = true }
        return filter
    }
}

/// Steps through a packet's body; nil where it ends too early.
private struct FieldReader {
    private let bytes: [UInt8]
    private var offset = 0
    var isDisputed = false

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { offset == bytes.count }

    mutating func byte() -> UInt8? {
        guard offset < bytes.count else { return nil }
        offset += 1
        return bytes[offset - 1]
    }

    mutating func uint16() -> UInt16? {
        guard let high = byte(), let low = byte() else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    mutating func field() -> [UInt8]? {
        guard let length = uint16(), bytes.count - offset >= Int(length) else { return nil }
        offset += Int(length)
        return Array(bytes[offset - Int(length)..<offset])
    }
}

/// The rules of 4.7, written to be evident and not fast.
enum TopicText {
    static func levels(_ text: [UInt8]) -> [[UInt8]] {
        text.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init)
    }

    static func isName(_ topic: [UInt8]) -> Bool {
        !topic.isEmpty && !topic.contains { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }
    }

    static func isFilter(_ filter: [UInt8]) -> Bool {
        let levels = levels(filter)
        guard !filter.isEmpty else { return false }
        for (place, level) in levels.enumerated() {
            if level.contains(UInt8(ascii: "#")), level.count > 1 || place < levels.count - 1 { return false }
            if level.contains(UInt8(ascii: "+")), level.count > 1 { return false }
        }
        return true
    }

    /// The filter of `$share/GROUP/FILTER`.
    static func shared(_ filter: [UInt8]) -> [UInt8]? {
        let parts = filter.split(separator: UInt8(ascii: "/"), maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].elementsEqual("$share".utf8), isName(Array(parts[1])), !parts[2].isEmpty
        else { return nil }
        return Array(parts[2])
    }

    static func matches(_ filter: [UInt8], _ topic: [UInt8]) -> Bool {
        let (filterLevels, topicLevels) = (levels(filter), levels(topic))
        let isWild = filterLevels[0] == [UInt8(ascii: "+")] || filterLevels[0] == [UInt8(ascii: "#")]
        if topic.first == UInt8(ascii: "$"), isWild { return false }
        for (place, level) in filterLevels.enumerated() {
            if level == [UInt8(ascii: "#")] { return true }
            guard place < topicLevels.count, level == [UInt8(ascii: "+")] || level == topicLevels[place] else {
                return false
            }
        }
        return filterLevels.count == topicLevels.count
    }
}
