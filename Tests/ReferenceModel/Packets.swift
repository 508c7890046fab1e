/// What a client sends, as values. The model reads these; a broker gets their `bytes`.
package enum Sent: Hashable, Sendable {
    case connect(Connect)
    case publish(Publish)
    case acknowledge(Acknowledgement, UInt16)
    case subscribe([Subscription], identifier: UInt16)
    case unsubscribe([String], identifier: UInt16)
    case ping
    case disconnect
    case violation(Violation)

    package struct Connect: Hashable, Sendable {
        package var client: String
        package var isClean = true
        /// Seconds, 0 for none.
        package var keepAlive = 0
        package var will: Publish?

        package init(client: String, isClean: Bool = true) {
            self.client = client
            self.isClean = isClean
        }
    }
}

/// A PUBLISH, in either direction; also a will, which has no identifier and is no duplicate.
package struct Publish: Hashable, Sendable {
    package var topic: String
    package var payload: String
    package var qos = 0
    package var isRetained = false
    package var isDuplicate = false
    /// 0 with QoS 0.
    package var identifier: UInt16 = 0

    package init(
        topic: String, payload: String, qos: Int = 0, isRetained: Bool = false, isDuplicate: Bool = false,
        identifier: UInt16 = 0
    ) {
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.isRetained = isRetained
        self.isDuplicate = isDuplicate
        self.identifier = identifier
    }
}

package struct Subscription: Hashable, Sendable {
    package var filter: String
    package var maximumQoS: Int
}

/// The four packets of the handshakes, and UNSUBACK, which looks like them. The raw value is the first byte.
package enum Acknowledgement: UInt8, Hashable, Sendable {
    case puback = 0x40
    case pubrec = 0x50
    case pubrel = 0x62
    case pubcomp = 0x70
    case unsuback = 0xb0
}

/// What nobody may send [MQTT-4.8.0-1].
package enum Violation: String, CaseIterable, Hashable, Sendable {
    case emptySubscribe = "empty-subscribe"
    case emptyUnsubscribe = "empty-unsubscribe"
    case wildcardTopic = "wildcard-topic"
    case invalidFilter = "invalid-filter"
    case zeroIdentifier = "zero-identifier"
    case qualityOfServiceThree = "qos-3"
    case duplicateAtMostOnce = "dup-qos-0"
    case reservedFlags = "reserved-flags"
    case packetForClients = "connack"
}

/// What a client sees of its connection.
package enum Seen: Hashable, Sendable {
    case connack(sessionPresent: Bool, code: UInt8)
    case publish(Publish)
    case acknowledgement(Acknowledgement, UInt16)
    case suback(UInt16, [UInt8])
    case pingresp
    /// Something that no broker may send.
    case unknown([UInt8])
    /// The connection is over, whoever ended it: always the last.
    case closed

    /// What a client has to answer.
    package var answer: Sent? {
        switch self {
        case .publish(let publish) where publish.qos == 1: .acknowledge(.puback, publish.identifier)
        case .publish(let publish) where publish.qos == 2: .acknowledge(.pubrec, publish.identifier)
        case .acknowledgement(.pubrec, let identifier): .acknowledge(.pubrel, identifier)
        case .acknowledgement(.pubrel, let identifier): .acknowledge(.pubcomp, identifier)
        default: nil
        }
    }
}

extension Seen: CustomStringConvertible {
    package var description: String {
        switch self {
        case .connack(let sessionPresent, let code): "connack \(code)" + (sessionPresent ? " session-present" : "")
        case .publish(let publish): "\(publish)"
        case .acknowledgement(let type, let identifier): "\(type) \(identifier)"
        case .suback(let identifier, let codes):
            "suback \(identifier) " + codes.map { "\($0)" }.joined(separator: " ")
        case .pingresp: "pingresp"
        case .unknown(let bytes): "unknown \(bytes)"
        case .closed: "closed"
        }
    }
}

extension Publish: CustomStringConvertible {
    package var description: String {
        var words = ["publish", topic, payload.isEmpty ? "\"\"" : payload]
        if qos > 0 { words.append("qos=\(qos)") }
        if identifier > 0 { words.append("id=\(identifier)") }
        if isRetained { words.append("retain") }
        if isDuplicate { words.append("dup") }
        return words.joined(separator: " ")
    }
}
