import Conformance

/// Control packets as bytes, written from the specification and not from Martlet's own codec, which they test.
enum Packet {
    static func connect(
        _ identifier: String, cleanSession: Bool = true, keepAlive: UInt16 = 0,
        will: (topic: String, payload: String, qos: UInt8)? = nil,
        level: UInt8 = 4, name: String = "MQTT", userName: String? = nil, password: String? = nil
    ) -> [UInt8] {
        var connect = Wire.Connect(clientIdentifier: Array(identifier.utf8))
        connect.protocolName = Array(name.utf8)
        connect.protocolLevel = level
        connect.cleanSession = cleanSession
        connect.keepAlive = keepAlive
        connect.will = will.map { (Array($0.topic.utf8), Array($0.payload.utf8)) }
        connect.willQoS = will?.qos ?? 0
        connect.userName = userName.map { Array($0.utf8) }
        connect.password = password.map { Array($0.utf8) }
        return packet(0x10, connect.body)
    }

    static func publish(
        _ topic: [UInt8], _ payload: [UInt8] = [], qos: UInt8 = 0, identifier: UInt16 = 1, retain: Bool = false
    ) -> [UInt8] {
        let publication = Conformance.Packet.Publication(
            topic: topic, payload: payload, qos: qos, identifier: identifier, isRetained: retain)
        return Wire.frame(of: publication).bytes()
    }

    static func publish(
        _ topic: String, _ payload: String, qos: UInt8 = 0, identifier: UInt16 = 1, retain: Bool = false
    ) -> [UInt8] {
        publish(Array(topic.utf8), Array(payload.utf8), qos: qos, identifier: identifier, retain: retain)
    }

    static func subscribe(_ filters: [(filter: [UInt8], qos: UInt8)], identifier: UInt16 = 1) -> [UInt8] {
        packet(0x82, uint16(identifier) + Wire.body(of: filters))
    }

    static func acknowledge(_ type: UInt8, _ identifier: UInt16) -> [UInt8] { [type, 2] + uint16(identifier) }

    static let pingRequest: [UInt8] = [0xc0, 0]
    static let disconnect: [UInt8] = [0xe0, 0]

    static func packet(_ first: UInt8, _ body: [UInt8]) -> [UInt8] { Frame(firstByte: first, body: body).bytes() }

    static func uint16(_ value: UInt16) -> [UInt8] { Wire.uint16(value) }

    static func string(_ text: String) -> [UInt8] { Wire.string(Array(text.utf8)) }
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
