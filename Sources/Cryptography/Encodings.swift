/// Base64 (RFC 4648): one spelling for each value, so that what reads it has no second one to accept.
package enum Base64: Sendable {
    /// With `+` and `/`, filled with `=` to whole groups of four (section 4).
    case standard
    /// The same without `=`, as PHC strings have it.
    case unpadded
    /// With `-` and `_`, without `=` (section 5).
    case url

    package func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var index = 0
        while index < bytes.count {
            let group = bytes[index...].prefix(3)
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for place in 0...group.count {
                text.append(digit(UInt8(truncatingIfNeeded: bits >> (18 - 6 * UInt32(place))) & 63))
            }
            if self == .standard { text += repeatElement(UInt8(ascii: "="), count: 3 - group.count) }
            index += 3
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Nil for anything that `encode` would not have written: another alphabet, missing or surplus `=`, set bits behind
    /// the last byte, blanks.
    package func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var digits = Array(text)
        if self == .standard {
            guard digits.count.isMultiple(of: 4) else { return nil }
            digits.removeLast(digits.suffix(2).count { $0 == UInt8(ascii: "=") })
        }
        guard digits.count % 4 != 1 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 4 * 3 + 2)
        var (bits, count): (UInt32, UInt32) = (0, 0)
        for digit in digits {
            guard let value = value(of: digit) else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 6
            guard count >= 8 else { continue }
            count -= 8
            bytes.append(UInt8(truncatingIfNeeded: bits >> count))
        }
        return bits & (1 << count - 1) == 0 ? bytes : nil
    }

    private func digit(_ value: UInt8) -> UInt8 {
        switch value {
        case 0..<26: UInt8(ascii: "A") + value
        case 26..<52: UInt8(ascii: "a") + value - 26
        case 52..<62: UInt8(ascii: "0") + value - 52
        case 62: UInt8(ascii: self == .url ? "-" : "+")
        default: UInt8(ascii: self == .url ? "_" : "/")
        }
    }

    private func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): digit - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0") + 52
        case self.digit(62): 62
        case self.digit(63): 63
        default: nil
        }
    }
}

/// Lower-case hexadecimal, two digits a byte.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    return String(decoding: text, as: UTF8.self)
}

/// The bytes that hexadecimal digits of either case stand for. Nil for anything else, and for half a byte.
package func bytes(hexadecimal text: some Collection<UInt8>) -> [UInt8]? {
    guard text.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    var high: UInt8?
    for digit in text {
        let value: UInt8
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): value = digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): value = digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): value = digit - UInt8(ascii: "A") + 10
        default: return nil
        }
        if let first = high { bytes.append(first << 4 | value) }
        high = high == nil ? value : nil
    }
    return bytes
}
