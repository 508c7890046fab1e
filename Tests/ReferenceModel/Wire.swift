/// Control packets as bytes, written from the specification and not from Martlet's own codec.
package enum Wire {
    package static func bytes(_ packet: Sent) -> [UInt8] {
        switch packet {
        case .connect(let connect):
            var flags: UInt8 = connect.isClean ? 0x02 : 0
            if let will = connect.will { flags |= 0x04 | UInt8(will.qos) << 3 | (will.isRetained ? 0x20 : 0) }
            var body = string("MQTT") + [4, flags] + uint16(UInt16(connect.keepAlive)) + string(connect.client)
            if let will = connect.will { body += string(will.topic) + string(will.payload) }
            return whole(0x10, body)
        case .publish(let publish):
            let first: UInt8 =
                0x30 | (publish.isDuplicate ? 8 : 0) | UInt8(publish.qos) << 1 | (publish.isRetained ? 1 : 0)
            let identifier = publish.qos > 0 ? uint16(publish.identifier) : []
            return whole(first, string(publish.topic) + identifier + Array(publish.payload.utf8))
        case .acknowledge(let type, let identifier): return whole(type.rawValue, uint16(identifier))
        case .subscribe(let subscriptions, let identifier):
            let filters = subscriptions.flatMap { string($0.filter) + [UInt8($0.maximumQoS)] }
            return whole(0x82, uint16(identifier) + filters)
        case .unsubscribe(let filters, let identifier):
            return whole(0xa2, uint16(identifier) + filters.flatMap(string))
        case .ping: return [0xc0, 0]
        case .disconnect: return [0xe0, 0]
        case .violation(let violation): return bytes(violation)
        }
    }

    private static func bytes(_ violation: Violation) -> [UInt8] {
        switch violation {
        case .emptySubscribe: whole(0x82, uint16(1))
        case .emptyUnsubscribe: whole(0xa2, uint16(1))
        case .wildcardTopic: whole(0x30, string("a/+"))
        case .invalidFilter: whole(0x82, uint16(1) + string("a/#/b") + [0])
        case .zeroIdentifier: whole(0x32, string("a") + uint16(0))
        case .qualityOfServiceThree: whole(0x36, string("a") + uint16(1))
        case .duplicateAtMostOnce: whole(0x38, string("a"))
        case .reservedFlags: whole(0x60, uint16(1))
        case .packetForClients: whole(0x20, [0, 0])
        }
    }

    private static func whole(_ first: UInt8, _ body: [UInt8]) -> [UInt8] {
        precondition(body.count < 128, "programs have short packets")
        return [first, UInt8(body.count)] + body
    }

    private static func uint16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
    private static func string(_ text: String) -> [UInt8] { uint16(UInt16(text.utf8.count)) + Array(text.utf8) }

    /// A packet that a broker sent: its first byte, and what stands behind the fixed header.
    package static func seen(_ first: UInt8, _ body: [UInt8]) -> Seen {
        let identifier = body.count >= 2 ? UInt16(body[0]) << 8 | UInt16(body[1]) : 0
        switch first {
        case 0x20 where body.count == 2 && body[0] <= 1: return .connack(sessionPresent: body[0] == 1, code: body[1])
        case 0x90 where body.count > 2: return .suback(identifier, Array(body[2...]))
        case 0xd0 where body.isEmpty: return .pingresp
        case 0x30...0x3f:
            let qos = Int(first >> 1 & 3)
            let topicEnd = 2 + Int(identifier)
            let payloadStart = topicEnd + (qos > 0 ? 2 : 0)
            guard qos < 3, body.count >= max(payloadStart, 2) else { return .unknown([first] + body) }
            var publish = Publish(
                topic: String(decoding: body[2..<topicEnd], as: UTF8.self),
                payload: String(decoding: body[payloadStart...], as: UTF8.self), qos: qos)
            publish.isRetained = first & 1 == 1
            publish.isDuplicate = first & 8 == 8
            if qos > 0 { publish.identifier = UInt16(body[topicEnd]) << 8 | UInt16(body[topicEnd + 1]) }
            return .publish(publish)
        default:
            guard let type = Acknowledgement(rawValue: first), body.count == 2 else { return .unknown([first] + body) }
            return .acknowledgement(type, identifier)
        }
    }
}
