/// A control packet as the suite reads it. This codec shares nothing with the broker's, so that one mistake can't hide
/// behind the same mistake.
package enum Packet: Sendable, Equatable {
    case connack(flags: UInt8, code: UInt8)
    case publish(Publication)
    /// PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK.
    case reply(Kind, identifier: UInt16)
    case suback(identifier: UInt16, codes: [UInt8])
    case pingresp
    /// What no server may send: a client's packet, or one whose form is wrong.
    case illegal(String)

    package struct Publication: Sendable, Equatable {
        package var topic: [UInt8]
        package var payload: [UInt8]
        package var qos: UInt8
        /// 0 for QoS 0.
        package var identifier: UInt16
        package var isDuplicate: Bool
        package var isRetained: Bool

        package init(
            topic: [UInt8], payload: [UInt8], qos: UInt8 = 0, identifier: UInt16 = 0, isDuplicate: Bool = false,
            isRetained: Bool = false
        ) {
            self.topic = topic
            self.payload = payload
            self.qos = qos
            self.identifier = identifier
            self.isDuplicate = isDuplicate
            self.isRetained = isRetained
        }
    }

    /// The types, with their number in the fixed header (Table 2.1).
    package enum Kind: UInt8, Sendable, CaseIterable {
        case connect = 1
        case connack, publish, puback, pubrec, pubrel, pubcomp, subscribe, suback, unsubscribe, unsuback
        case pingreq, pingresp, disconnect

        package var name: String { "\(self)".uppercased() }

        /// Bits 3 to 0 of the first byte (Table 2.2). [MQTT-2.2.2-1]
        var flags: UInt8 { self == .pubrel || self == .subscribe || self == .unsubscribe ? 2 : 0 }
    }
}

/// A packet's bytes.
package struct Frame: Sendable, Equatable {
    package var firstByte: UInt8
    package var body: [UInt8]

    package init(firstByte: UInt8, body: [UInt8]) {
        self.firstByte = firstByte
        self.body = body
    }

    package init(_ kind: Packet.Kind, _ body: [UInt8] = []) {
        self.init(firstByte: kind.rawValue << 4 | kind.flags, body: body)
    }

    package var kind: Packet.Kind? { Packet.Kind(rawValue: firstByte >> 4) }

    /// With the Remaining Length (2.2.3), or another one if a case lies about it.
    package func bytes(remainingLength: Int? = nil) -> [UInt8] {
        var bytes = [firstByte]
        var rest = remainingLength ?? body.count
        repeat {
            bytes.append(UInt8(rest % 128) | (rest > 127 ? 0x80 : 0))
            rest /= 128
        } while rest > 0
        return bytes + body
    }

    /// What a cut gives: a frame and how many bytes it took, nil if more bytes are wanted.
    package enum Cut {
        case frame(Frame, byteCount: Int)
        case incomplete
        /// A Remaining Length of more than four bytes.
        case endlessLength
    }

    /// The first frame in what has been read.
    package static func cut(_ bytes: some RandomAccessCollection<UInt8>) -> Cut {
        guard let firstByte = bytes.first else { return .incomplete }
        var length = 0
        for (place, byte) in bytes.dropFirst().prefix(4).enumerated() {
            length |= Int(byte & 0x7f) << (7 * place)
            if byte & 0x80 == 0 {
                let end = 2 + place + length
                guard bytes.count >= end else { return .incomplete }
                return .frame(
                    Frame(firstByte: firstByte, body: Array(bytes.dropFirst(2 + place).prefix(length))), byteCount: end)
            }
        }
        return bytes.count >= 5 ? .endlessLength : .incomplete
    }

    /// What it says, read as strictly as the statements about form want it.
    package var packet: Packet {
        guard let kind else { return .illegal("packet type \(firstByte >> 4)") }
        if kind != .publish, firstByte & 0x0f != kind.flags {  // [MQTT-2.2.2-1]
            return .illegal("\(kind.name) with flags 0x\(hexadecimal(firstByte & 0x0f))")
        }
        switch kind {
        case .connack where body.count == 2: return .connack(flags: body[0], code: body[1])
        case .publish: return publication.map { .publish($0) } ?? .illegal("a PUBLISH that ends too early or has QoS 3")
        case .puback where body.count == 2, .pubrec where body.count == 2, .pubrel where body.count == 2,
            .pubcomp where body.count == 2, .unsuback where body.count == 2:
            return .reply(kind, identifier: uint16(at: 0))
        case .suback where body.count > 2: return .suback(identifier: uint16(at: 0), codes: Array(body[2...]))
        case .pingresp where body.isEmpty: return .pingresp
        default: return .illegal("\(kind.name) with a body of \(body.count) bytes, from a server")
        }
    }

    private func uint16(at offset: Int) -> UInt16 { UInt16(body[offset]) << 8 | UInt16(body[offset + 1]) }

    private var publication: Packet.Publication? {
        let qos = firstByte >> 1 & 3
        guard qos < 3, body.count >= 2 else { return nil }
        var offset = 2 + Int(uint16(at: 0))
        guard body.count >= offset + (qos > 0 ? 2 : 0) else { return nil }
        let topic = Array(body[2..<offset])
        var identifier: UInt16 = 0
        if qos > 0 {
            identifier = uint16(at: offset)
            offset += 2
        }
        return Packet.Publication(
            topic: topic, payload: Array(body[offset...]), qos: qos, identifier: identifier,
            isDuplicate: firstByte & 8 != 0, isRetained: firstByte & 1 != 0)
    }
}

extension Packet: CustomStringConvertible {
    /// In the words of a case.
    package var description: String {
        switch self {
        case .connack(let flags, let code):
            "CONNACK \(code)" + (flags == 1 ? " present" : flags == 0 ? "" : " with flags 0x\(hexadecimal(flags))")
        case .publish(let publication):
            "PUBLISH \(quoted(publication.topic)) \(quoted(publication.payload))"
                + (publication.qos > 0 ? " qos \(publication.qos) id \(publication.identifier)" : "")
                + (publication.isDuplicate ? " dup" : "") + (publication.isRetained ? " retain" : "")
        case .reply(let kind, let identifier): "\(kind.name) \(identifier)"
        case .suback(let identifier, let codes):
            "SUBACK \(identifier) " + codes.map { $0 < 3 ? "\($0)" : "0x\(hexadecimal($0))" }.joined(separator: " ")
        case .pingresp: "PINGRESP"
        case .illegal(let reason): reason
        }
    }
}

func hexadecimal(_ byte: UInt8) -> String {
    let text = String(byte, radix: 16)
    return text.count < 2 ? "0" + text : text
}

/// `10 0c 00 04`, shortened where it is long.
func hexadecimal(_ bytes: some Collection<UInt8>, atMost count: Int = 64) -> String {
    let text = bytes.prefix(count).map { hexadecimal($0) }.joined(separator: " ")
    return bytes.count > count ? text + " ... (\(bytes.count) bytes)" : text
}

/// A string of a case, shortened where it is long.
func quoted(_ bytes: some Collection<UInt8>, atMost count: Int = 80) -> String {
    var text = ""
    for byte in bytes.prefix(count) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): text += "\\" + String(UnicodeScalar(byte))
        case 0x20..<0x7f: text.unicodeScalars.append(UnicodeScalar(byte))
        default: text += "\\x" + hexadecimal(byte)
        }
    }
    return "\"\(text)\"" + (bytes.count > count ? "... (\(bytes.count) bytes)" : "")
}
