/// Bytes of what a client sends, right or deliberately wrong.
package enum Wire {
    /// Four bytes of seven bits (2.2.3).
    package static let maximumRemainingLength = 268_435_455

    package static func uint16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }

    /// Two bytes of length and the text (1.5.3). A text that is too long for its length is a mistake of the case.
    package static func string(_ text: [UInt8]) -> [UInt8] {
        precondition(text.count <= 65_535, "a string of \(text.count) bytes")
        return uint16(UInt16(text.count)) + text
    }

    package struct Connect {
        package var protocolName: [UInt8] = Array("MQTT".utf8)
        package var protocolLevel: UInt8 = 4
        package var cleanSession = true
        package var keepAlive: UInt16 = 60
        package var clientIdentifier: [UInt8]
        package var will: (topic: [UInt8], message: [UInt8])?
        package var willQoS: UInt8 = 0
        package var isWillRetained = false
        package var userName: [UInt8]?
        package var password: [UInt8]?
        /// In place of the flags that follow from the fields.
        package var flags: UInt8?

        package init(clientIdentifier: [UInt8]) { self.clientIdentifier = clientIdentifier }

        /// Variable header and payload (3.1.2, 3.1.3).
        package var body: [UInt8] {
            var connectFlags: UInt8 = cleanSession ? 0x02 : 0
            if will != nil { connectFlags |= 0x04 }
            connectFlags |= willQoS << 3
            if isWillRetained { connectFlags |= 0x20 }
            if password != nil { connectFlags |= 0x40 }
            if userName != nil { connectFlags |= 0x80 }
            var body = string(protocolName) + [protocolLevel, flags ?? connectFlags] + uint16(keepAlive)
            body += string(clientIdentifier)
            if let will { body += string(will.topic) + string(will.message) }
            if let userName { body += string(userName) }
            if let password { body += string(password) }
            return body
        }
    }

    package static func frame(of publication: Packet.Publication) -> Frame {
        var firstByte: UInt8 = 0x30 | publication.qos << 1
        if publication.isDuplicate { firstByte |= 8 }
        if publication.isRetained { firstByte |= 1 }
        let identifier = publication.qos > 0 ? uint16(publication.identifier) : []
        return Frame(firstByte: firstByte, body: string(publication.topic) + identifier + publication.payload)
    }

    package static func body(of subscriptions: [(filter: [UInt8], qos: UInt8)]) -> [UInt8] {
        subscriptions.flatMap { string($0.filter) + [$0.qos] }
    }
}
