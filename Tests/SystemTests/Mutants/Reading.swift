import Conformance

/// What the lens understands of packets that clients send. What it can't read is nil and passes through.
extension Frame {
    /// The filters of a SUBSCRIBE.
    var subscriptions: [(filter: [UInt8], qos: UInt8)]? {
        var reader = FieldReader(body, at: 2)
        var subscriptions: [(filter: [UInt8], qos: UInt8)] = []
        while !reader.isAtEnd {
            guard let filter = reader.field(), let qos = reader.byte() else { return nil }
            subscriptions.append((filter, qos))
        }
        return subscriptions
    }

    /// The filters of an UNSUBSCRIBE.
    var filters: [[UInt8]]? {
        var reader = FieldReader(body, at: 2)
        var filters: [[UInt8]] = []
        while !reader.isAtEnd {
            guard let filter = reader.field() else { return nil }
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
        guard let name = reader.field(), let level = reader.byte(), let flags = reader.byte(),
            let keepAlive = reader.uint16(), let identifier = reader.field()
        else { return nil }
        self.init(clientIdentifier: identifier)
        protocolName = name
        protocolLevel = level
        self.keepAlive = keepAlive
        cleanSession = flags & 2 != 0
        if flags & 4 != 0 {
            guard let topic = reader.field(), let message = reader.field() else { return nil }
            will = (topic, message)
        }
        willQoS = flags >> 3 & 3
        isWillRetained = flags & 0x20 != 0
        if flags & 0x80 != 0 {
            guard let name = reader.field() else { return nil }
            userName = name
        }
        if flags & 0x40 != 0 {
            guard let word = reader.field() else { return nil }
            password = word
        }
        guard reader.isAtEnd else { return nil }
        if flags & 1 != 0 { self.flags = flags }
    }
}

/// Texts of topics and filters.
extension [UInt8] {
    var isUTF8: Bool { String(validating: self, as: UTF8.self) != nil }

    var hasNUL: Bool { contains(0) }

    var hasWildcard: Bool { contains(UInt8(ascii: "#")) || contains(UInt8(ascii: "+")) }

    var beginsWithDollar: Bool { first == UInt8(ascii: "$") }

    var levels: [[UInt8]] { TopicText.levels(self) }

    /// By the rules of 4.7.1, without that of 4.7.2.
    func matches(_ topic: [UInt8]) -> Bool { TopicText.matches(levels, topic.levels, hidesServerTopics: false) }

    func without(_ part: [UInt8]) -> [UInt8] { replacing(part, with: []) }

    var lowercased: [UInt8] { map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 } }
}

extension Conformance.Packet.Publication {
    /// A first delivery.
    static func new(
        _ topic: [UInt8], _ payload: [UInt8], qos: UInt8 = 0, isRetained: Bool = false
    ) -> Conformance.Packet.Publication {
        Self(
            topic: topic, payload: payload, qos: min(qos, 2), identifier: qos > 0 ? 1 : 0, isRetained: isRetained)
    }
}
