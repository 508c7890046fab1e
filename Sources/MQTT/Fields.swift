/// The fields of chapter 1.5, read from a span with a moving offset: bounds-checked, and nothing is copied.
extension Span where Element == UInt8 {
    @inline(__always)
    func uint8(at offset: inout Int) throws(MalformedPacket) -> UInt8 {
        guard offset < count else { throw .truncated }
        defer { offset += 1 }
        return self[offset]
    }

    /// A two-byte integer, most significant first (1.5.2), and steps past it.
    @inline(__always)
    func uint16(at offset: inout Int) throws(MalformedPacket) -> UInt16 {
        try UInt16(uint8(at: &offset)) << 8 | UInt16(uint8(at: &offset))
    }

    /// A Packet Identifier, which is never 0 [MQTT-2.3.1-1].
    @inline(__always)
    func packetIdentifier(at offset: inout Int) throws(MalformedPacket) -> PacketIdentifier {
        let identifier = try uint16(at: &offset)
        guard identifier != 0 else { throw .zeroPacketIdentifier }
        return identifier
    }

    /// Where the bytes behind a two-byte length lie (1.5.3 without the rules about characters).
    @inline(__always)
    func binary(at offset: inout Int) throws(MalformedPacket) -> Range<Int> {
        let length = try Int(uint16(at: &offset))
        guard count - offset >= length else { throw .truncated }
        defer { offset += length }
        return offset..<(offset + length)
    }

    /// Where a UTF-8 encoded string lies: well-formed and without U+0000 (1.5.3).
    func string(at offset: inout Int) throws(MalformedPacket) -> Range<Int> {
        let range = try binary(at: &offset)
        try validateString(range)
        return range
    }

    func validateString(_ range: Range<Int>) throws(MalformedPacket) {
        guard extracting(range).isWellFormedUTF8 else { throw .invalidUTF8 }
        for index in range where self[index] == 0 { throw .nullCharacter }
    }

    /// Whether these bytes are UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
    package var isWellFormedUTF8: Bool {
        var index = 0
        while index < count {
            let first = self[index]
            index += 1
            if first < 0x80 { continue }
            let (length, lowest, highest): (Int, UInt8, UInt8) =
                switch first {
                case 0xC2...0xDF: (1, 0x80, 0xBF)
                case 0xE0: (2, 0xA0, 0xBF)
                case 0xED: (2, 0x80, 0x9F)
                case 0xE1...0xEF: (2, 0x80, 0xBF)
                case 0xF0: (3, 0x90, 0xBF)
                case 0xF1...0xF3: (3, 0x80, 0xBF)
                case 0xF4: (3, 0x80, 0x8F)
                default: (0, 0, 0)
                }
            guard length > 0, count - index >= length, lowest...highest ~= self[index] else { return false }
            for next in 1..<max(length, 1) where self[index + next] & 0xC0 != 0x80 { return false }
            index += length
        }
        return true
    }

    /// These bytes as an array of their own.
    package func copied() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(copying: self)
        return bytes
    }
}

extension [UInt8] {
    /// Appends all of `span` in one copy.
    @inline(__always)
    package mutating func append(copying span: Span<UInt8>) {
        // The one copy that must not go byte by byte: the standard library has no `append(contentsOf: Span)` yet.
        unsafe span.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }

    @inline(__always)
    mutating func append(uint16 value: UInt16) {
        append(UInt8(value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    /// A string or binary field with its two-byte length, which its owner has checked.
    mutating func append(field bytes: [UInt8]) {
        append(uint16: UInt16(bytes.count))
        append(contentsOf: bytes)
    }

    /// The first byte of a packet and its Remaining Length (2.2.3), one to four bytes.
    @inline(__always)
    package mutating func append(fixedHeader byte: UInt8, remainingLength: Int) {
        precondition(remainingLength <= FixedHeader.maximumRemainingLength, "a packet longer than MQTT can say")
        append(byte)
        var rest = remainingLength
        while rest > 0x7F {
            append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }
}
