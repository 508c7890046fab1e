/// Control packets as bytes, written from the specification and not from Martlet's own codec, which they test.
enum Packet {
    static func connect(
        _ identifier: String, cleanSession: Bool = true, keepAlive: UInt16 = 0,
        will: (topic: String, payload: String, qos: UInt8)? = nil,
        level: UInt8 = 4, name: String = "MQTT"
    ) -> [UInt8] {
        var flags: UInt8 = cleanSession ? 0x02 : 0
        if let will { flags |= 0x04 | will.qos << 3 }
        var body = string(name) + [level, flags] + uint16(keepAlive) + string(identifier)
        if let will { body += string(will.topic) + string(will.payload) }
        return packet(0x10, body)
    }

    static func publish(
        _ topic: [UInt8], _ payload: [UInt8] = [], qos: UInt8 = 0, identifier: UInt16 = 1, retain: Bool = false
    ) -> [UInt8] {
        let prefix = uint16(UInt16(topic.count)) + topic + (qos > 0 ? uint16(identifier) : [])
        return header(0x30 | qos << 1 | (retain ? 1 : 0), prefix.count + payload.count) + prefix + payload
    }

    static func publish(
        _ topic: String, _ payload: String, qos: UInt8 = 0, identifier: UInt16 = 1, retain: Bool = false
    ) -> [UInt8] {
        publish(Array(topic.utf8), Array(payload.utf8), qos: qos, identifier: identifier, retain: retain)
    }

    static func subscribe(_ filters: [(filter: [UInt8], qos: UInt8)], identifier: UInt16 = 1) -> [UInt8] {
        var body = uint16(identifier)
        for (filter, qos) in filters {
            body.append(UInt8(filter.count >> 8))
            body.append(UInt8(filter.count & 0xff))
            body.append(contentsOf: filter)
            body.append(qos)
        }
        return packet(0x82, body)
    }

    static func acknowledge(_ type: UInt8, _ identifier: UInt16) -> [UInt8] { [type, 2] + uint16(identifier) }

    static let pingRequest: [UInt8] = [0xc0, 0]
    static let disconnect: [UInt8] = [0xe0, 0]

    static func packet(_ first: UInt8, _ body: [UInt8]) -> [UInt8] { header(first, body.count) + body }

    /// The fixed header (2.2) with the remaining length in one to four bytes.
    static func header(_ first: UInt8, _ remainingLength: Int) -> [UInt8] {
        var bytes = [first]
        var rest = remainingLength
        repeat {
            bytes.append(UInt8(rest % 128) | (rest >= 128 ? 0x80 : 0))
            rest /= 128
        } while rest > 0
        return bytes
    }

    static func uint16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }

    static func string(_ text: String) -> [UInt8] { uint16(UInt16(text.utf8.count)) + Array(text.utf8) }
}

/// One control packet as it came.
struct Received: Equatable {
    let first: UInt8
    let body: [UInt8]

    var type: UInt8 { first >> 4 }
    var qos: UInt8 { first >> 1 & 3 }
    var isRetained: Bool { first & 1 == 1 }
    var isDuplicate: Bool { first & 8 == 8 }

    private var topicBytes: Int { Int(body[0]) << 8 | Int(body[1]) }

    /// Of a PUBLISH.
    var topic: ArraySlice<UInt8> { body[2..<2 + topicBytes] }

    /// Of a PUBLISH above QoS 0.
    var identifier: UInt16 { UInt16(body[2 + topicBytes]) << 8 | UInt16(body[3 + topicBytes]) }

    var payload: ArraySlice<UInt8> { body[(2 + topicBytes + (qos > 0 ? 2 : 0))...] }

    var text: String { String(decoding: payload, as: UTF8.self) }
}
