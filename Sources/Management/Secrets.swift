internal import Access
internal import Cryptography

/// What is given to people once, and what is kept of it.
enum Secrets {
    /// 96 random bits as text, short enough to type: for a person.
    static func makePassword() -> String { Base64.url.encode(randomBytes(12)) }

    /// 128 random bits as text that may be typed, in an address or on a label: what lets somebody do something once.
    static func makeCode() -> String { hexadecimal(randomBytes(16)) }

    /// What is kept of a code that has to be found: too many there are to be guessed from it.
    static func digest(ofCode code: String) -> [UInt8] { sha256(Array(code.utf8)) }

    /// A third of a second, and 16 MB meanwhile. Throws where there is no memory.
    static func hash(password: String) throws(CryptographyError) -> String {
        try PasswordHash.making(of: Array(password.utf8), scheme: .forPeople).text
    }

    /// UUIDv7 (RFC 9562, 5.7): ordered by time, in milliseconds since 1970.
    static func identifier(at time: Int64) -> String {
        var bytes = (0..<6).map { UInt8(truncatingIfNeeded: time >> (40 - 8 * $0)) } + randomBytes(10)
        bytes[6] = bytes[6] & 0x0F | 0x70
        bytes[8] = bytes[8] & 0x3F | 0x80
        let digits = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0].joined() }.joined(separator: "-")
    }
}
