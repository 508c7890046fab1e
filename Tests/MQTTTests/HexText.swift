/// The bytes of `"30 05 0003 'a/b'"`: pairs of hexadecimal digits, ASCII between quotes, and spaces for the reader.
func hex(_ text: String) -> [UInt8] {
    var (bytes, upperHalf, isQuoted): ([UInt8], UInt8?, Bool) = ([], nil, false)
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "'"): isQuoted.toggle()
        case _ where isQuoted: bytes.append(byte)
        case UInt8(ascii: " "): precondition(upperHalf == nil, "half a byte in \(text)")
        default:
            guard let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
                preconditionFailure("no hexadecimal digit in \(text)")
            }
            if let upper = upperHalf { bytes.append(upper << 4 | UInt8(digit)) }
            upperHalf = upperHalf == nil ? UInt8(digit) : nil
        }
    }
    precondition(upperHalf == nil && !isQuoted, "\(text) ends too early")
    return bytes
}

/// Bytes for a person to read, in a form that `hex` takes back.
func hexText(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 0x10 ? "0" : "") + String($0, radix: 16, uppercase: true) }.joined(separator: " ")
}

func text(_ string: String) -> [UInt8] { Array(string.utf8) }
