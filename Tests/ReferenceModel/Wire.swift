package import Conformance

extension Sent {
    /// The packet's bytes, by a codec that is not Martlet's own.
    package var bytes: [UInt8] { frame.bytes() }

    private var frame: Frame {
        switch self {
        case .connect(let connect):
            var packet = Wire.Connect(clientIdentifier: Array(connect.client.utf8))
            packet.cleanSession = connect.isClean
            packet.keepAlive = UInt16(connect.keepAlive)
            packet.will = connect.will.map { (Array($0.topic.utf8), Array($0.payload.utf8)) }
            packet.willQoS = UInt8(connect.will?.qos ?? 0)
            packet.isWillRetained = connect.will?.isRetained ?? false
            return Frame(.connect, packet.body)
        case .publish(let publish):
            return Wire.frame(
                of: Packet.Publication(
                    topic: Array(publish.topic.utf8), payload: Array(publish.payload.utf8), qos: UInt8(publish.qos),
                    identifier: publish.identifier, isDuplicate: publish.isDuplicate, isRetained: publish.isRetained))
        case .acknowledge(let type, let identifier):
            return Frame(firstByte: type.rawValue, body: Wire.uint16(identifier))
        case .subscribe(let subscriptions, let identifier):
            let filters = subscriptions.map { (filter: Array($0.filter.utf8), qos: UInt8($0.maximumQoS)) }
            return Frame(.subscribe, Wire.uint16(identifier) + Wire.body(of: filters))
        case .unsubscribe(let filters, let identifier):
            return Frame(.unsubscribe, Wire.uint16(identifier) + filters.flatMap { Self.string($0) })
        case .ping: return Frame(.pingreq)
        case .disconnect: return Frame(.disconnect)
        case .violation(let violation): return Self.frame(of: violation)
        }
    }

    private static func frame(of violation: Violation) -> Frame {
        switch violation {
        case .emptySubscribe: Frame(.subscribe, Wire.uint16(1))
        case .emptyUnsubscribe: Frame(.unsubscribe, Wire.uint16(1))
        case .wildcardTopic: Frame(.publish, string("a/+"))
        case .invalidFilter: Frame(.subscribe, Wire.uint16(1) + string("a/#/b") + [0])
        case .zeroIdentifier: Frame(firstByte: 0x32, body: string("a") + Wire.uint16(0))
        case .qualityOfServiceThree: Frame(firstByte: 0x36, body: string("a") + Wire.uint16(1))
        case .duplicateAtMostOnce: Frame(firstByte: 0x38, body: string("a"))
        case .reservedFlags: Frame(firstByte: 0x60, body: Wire.uint16(1))
        case .packetForClients: Frame(.connack, [0, 0])
        }
    }

    private static func string(_ text: String) -> [UInt8] { Wire.string(Array(text.utf8)) }
}

extension Seen {
    /// A packet that a broker sent.
    package init(_ frame: Frame) {
        switch frame.packet {
        case .connack(let flags, let code) where flags <= 1: self = .connack(sessionPresent: flags == 1, code: code)
        case .suback(let identifier, let codes): self = .suback(identifier, codes)
        case .pingresp: self = .pingresp
        case .publish(let seen):
            self = .publish(
                Publish(
                    topic: String(decoding: seen.topic, as: UTF8.self),
                    payload: String(decoding: seen.payload, as: UTF8.self), qos: Int(seen.qos),
                    isRetained: seen.isRetained, isDuplicate: seen.isDuplicate, identifier: seen.identifier))
        case .reply(_, let identifier):
            let type = Acknowledgement(rawValue: frame.firstByte)
            self = type.map { .acknowledgement($0, identifier) } ?? .unknown(frame.bytes())
        default: self = .unknown(frame.bytes())
        }
    }
}
