import Conformance

/// What the lens understands of packets that clients send. What it can't read is nil and passes through.
extension Frame {
    /// The filters of a SUBSCRIBE.
    var subscriptions: [(filter: [UInt8], qos: UInt8)]? {
        var reader = FieldReader(body, at: 2)
        var subscriptions: [(filter: [UInt8], qos: UInt8)] = []
        while !reader.isAtEnd {
            guard let filter = reader.string(), let qos = reader.byte() else { return nil }
            subscriptions.append((filter, qos))
        }
        return subscriptions
    }

    /// The filters of an UNSUBSCRIBE.
    var filters: [[UInt8]]? {
        var reader = FieldReader(body, at: 2)
        var filters: [[UInt8]] = []
        while !reader.isAtEnd {
            guard let filter = reader.string() else { return nil }
            filters.append(filter)
        }
        return filters
    }

    var publication: Conformance.Packet.Publication? {
        if case .publish(let publication) = packet { publication } else { nil }
    }

    /// Of anything but CONNECT and PUBLISH.
    var identifier: UInt16 {
        get { body.count < 2 ? 0 : UInt16(body[0]) << 8 | UInt16(body[1]) }
        set { if body.count >= 2 { body.replaceSubrange(0..<2, with: Wire.uint16(newValue)) } }
    }

    /// Bits 3 to 0 of the first byte.
    var flags: UInt8 {
        get { firstByte & 0x0f }
        set { firstByte = firstByte & 0xf0 | newValue }
    }

    /// The flags that Table 2.2 wants here.
    var hasRightFlags: Bool {
        guard let kind else { return false }
        return kind == .publish || flags == Frame(kind).flags
    }

    static func subscribe(_ identifier: UInt16, _ subscriptions: [(filter: [UInt8], qos: UInt8)]) -> Frame {
        Frame(.subscribe, Wire.uint16(identifier) + Wire.body(of: subscriptions))
    }

    static func unsubscribe(_ identifier: UInt16, _ filters: [[UInt8]]) -> Frame {
        Frame(.unsubscribe, Wire.uint16(identifier) + filters.flatMap { Wire.string($0) })
    }

    static func publish(_ publication: Conformance.Packet.Publication) -> Frame { Wire.frame(of: publication) }

    static func connect(_ connect: Wire.Connect) -> Frame { Frame(.connect, connect.body) }
}

extension Wire.Connect {
    /// The variable header and payload of a CONNECT, as far as they can be read.
    init?(_ body: [UInt8]) {
        var reader = FieldReader(body, at: 0)
        guard let name = reader.string(), let level = reader.byte(), let flags = reader.byte(),
            let high = reader.byte(), let low = reader.byte(), let identifier = reader.string()
        else { return nil }
        self.init(clientIdentifier: identifier)
        protocolName = name
        protocolLevel = level
        keepAlive = UInt16(high) << 8 | UInt16(low)
        cleanSession = flags & 2 != 0
        if flags & 4 != 0 {
            guard let topic = reader.string(), let message = reader.string() else { return nil }
            will = (topic, message)
        }
        willQoS = flags >> 3 & 3
        isWillRetained = flags & 0x20 != 0
        if flags & 0x80 != 0 {
            guard let name = reader.string() else { return nil }
            userName = name
        }
        if flags & 0x40 != 0 {
            guard let word = reader.string() else { return nil }
            password = word
        }
        guard reader.isAtEnd else { return nil }
        if flags & 1 != 0 { self.flags = flags }
    }
}

private struct FieldReader {
    private let bytes: [UInt8]
    private var offset: Int

    init(_ bytes: [UInt8], at offset: Int) {
        self.bytes = bytes
        self.offset = offset
    }

    var isAtEnd: Bool { offset >= bytes.count }

    mutating func byte() -> UInt8? {
        guard offset < bytes.count else { return nil }
        offset += 1
        return bytes[offset - 1]
    }

    mutating func string() -> [UInt8]? {
        guard let high = byte(), let low = byte() else { return nil }
        let length = Int(high) << 8 | Int(low)
        guard offset + length <= bytes.count else { return nil }
        offset += length
        return Array(bytes[offset - length..<offset])
    }
}

/// Texts of topics and filters.
extension [UInt8] {
    var isUTF8: Bool { String(validating: self, as: UTF8.self) != nil }

    var hasNUL: Bool { contains(0) }

    var hasWildcard: Bool { contains(UInt8(ascii: "#")) || contains(UInt8(ascii: "+")) }

    var beginsWithDollar: Bool { first == UInt8(ascii: "$") }

    var levels: [[UInt8]] { split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init) }

    /// What the rules of 4.7.1 say, without that of 4.7.2.
    func matches(_ topic: [UInt8]) -> Bool {
        let levels = self.levels
        let names = topic.levels
        for (place, level) in levels.enumerated() {
            if level == Array("#".utf8) { return place <= names.count }
            guard place < names.count, level == names[place] || level == Array("+".utf8) else { return false }
        }
        return levels.count == names.count
    }

    func without(_ part: [UInt8]) -> [UInt8] { replacing(part, with: []) }

    var lowercased: [UInt8] { map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 } }
}

extension Conformance.Packet.Publication {
    /// A first delivery.
    static func new(
        _ topic: [UInt8], _ payload: [UInt8], qos: UInt8 = 0, isRetained: Bool = false
    ) -> Conformance.Packet.Publication {
        let frame = Frame(
            firstByte: 0x30 | min(qos, 2) << 1 | (isRetained ? 1 : 0),
            body: Wire.string(topic) + (qos > 0 ? [0, 1] : []) + payload)
        guard let publication = frame.publication else { preconditionFailure("QoS \(qos)") }
        return publication
    }
}
