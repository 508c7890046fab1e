extension JSONValue {
    /// On one line, members by name.
    package var text: String { String(decoding: bytes, as: UTF8.self) }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        write(into: &bytes)
        return bytes
    }

    package func write(into bytes: inout [UInt8]) {
        switch self {
        case .null: bytes += "null".utf8
        case .bool(let value): bytes += (value ? "true" : "false").utf8
        case .integer(let value): bytes += "\(value)".utf8
        // JSON has no infinity.
        case .number(let value): bytes += (value.isFinite ? "\(value)" : "null").utf8
        case .string(let text): Self.write(text, into: &bytes)
        case .text(let text): bytes += text.bytes
        case .array(let values):
            bytes.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                value.write(into: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                Self.write(member.key, into: &bytes)
                bytes.append(UInt8(ascii: ":"))
                member.value.write(into: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    /// RFC 8259, 7.
    static func write(_ text: String, into bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        defer { bytes.append(UInt8(ascii: "\"")) }
        let isPlain = text.utf8.allSatisfy { $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
        if isPlain {
            bytes += text.utf8
            return
        }
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\n"): bytes += "\\n".utf8
            case UInt8(ascii: "\r"): bytes += "\\r".utf8
            case UInt8(ascii: "\t"): bytes += "\\t".utf8
            case 0..<0x20: bytes += "\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8
            default: bytes.append(byte)
            }
        }
    }
}

/// An object (or, `verbatim`, any value) that is text already, its members in the order in which they came: a list of many costs a quarter of what their
/// values would.
package struct JSONText: Sendable, Equatable {
    private(set) var bytes: [UInt8] = []

    /// `members` adds each name once.
    package init(_ members: (inout JSONText) -> Void) {
        bytes.reserveCapacity(512)
        bytes.append(UInt8(ascii: "{"))
        members(&self)
        bytes.append(UInt8(ascii: "}"))
    }

    /// What somebody has written, if it is JSON: it stays as it is.
    package init?(verbatim bytes: [UInt8]) {
        guard JSONValue(parsing: bytes) != nil else { return nil }
        self.bytes = bytes
    }

    /// With the members of another behind its own, of which it has none.
    package func adding(_ other: JSONText) -> JSONText {
        guard other.bytes.count > 2 else { return self }
        guard bytes.count > 2 else { return other }
        var sum = self
        sum.bytes.removeLast()
        sum.bytes.append(UInt8(ascii: ","))
        sum.bytes += other.bytes.dropFirst()
        return sum
    }

    /// `name`: nothing that has to be escaped.
    private mutating func add(_ name: StaticString) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        bytes += name.description.utf8
        bytes += "\":".utf8
    }

    package mutating func add(_ name: StaticString, _ value: JSONValue) {
        add(name)
        value.write(into: &bytes)
    }

    /// Null where it is nil.
    package mutating func add(_ name: StaticString, _ text: String?) {
        add(name)
        if let text { JSONValue.write(text, into: &bytes) } else { bytes += "null".utf8 }
    }
}
