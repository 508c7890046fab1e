/// Steps through a packet's body; nil where it ends too early.
package struct FieldReader {
    private let bytes: [UInt8]
    private var offset: Int

    package init(_ bytes: [UInt8], at offset: Int = 0) {
        self.bytes = bytes
        self.offset = min(offset, bytes.count)
    }

    package var isAtEnd: Bool { offset == bytes.count }

    package mutating func byte() -> UInt8? {
        guard offset < bytes.count else { return nil }
        offset += 1
        return bytes[offset - 1]
    }

    package mutating func uint16() -> UInt16? {
        guard let high = byte(), let low = byte() else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    /// What stands behind two bytes of length (1.5.3).
    package mutating func field() -> [UInt8]? {
        guard let length = uint16(), bytes.count - offset >= Int(length) else { return nil }
        offset += Int(length)
        return Array(bytes[offset - Int(length)..<offset])
    }
}
