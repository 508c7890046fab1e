internal import Access
internal import COpenSSL
internal import Cryptography
internal import FoundationEssentials

/// What is given to people and programs once, and what is kept of it.
enum Secrets {
    /// 256 random bits as text: for a device or a service.
    static func make() -> String { text(randomBytes(32)) }

    /// 96 random bits as text, short enough to type: for a person.
    static func makePassword() -> String { text(randomBytes(12)) }

    /// Salt, and SHA-256 of the salt and the secret's text.
    static func digest(of secret: String) -> SecretDigest {
        let salt = randomBytes(16)
        return SecretDigest(bytes: salt + sha256(salt + Array(secret.utf8)))
    }

    /// `$scrypt$ln=14,r=8,p=5$SALT$HASH`, base64 without padding. A tenth of a second or more, and 16 MB meanwhile.
    static func hash(password: String) -> String {
        let salt = randomBytes(16)
        let hash = scrypt(Array(password.utf8), salt: salt, logN: 14, r: 8, p: 5)
        return "$scrypt$ln=14,r=8,p=5$\(base64(salt))$\(base64(hash))"
    }

    /// UUIDv7 (RFC 9562, 5.7): ordered by time, in milliseconds since 1970.
    static func identifier(at time: Int64) -> String {
        var bytes = (0..<6).map { UInt8(truncatingIfNeeded: time >> (40 - 8 * $0)) } + randomBytes(10)
        bytes[6] = bytes[6] & 0x0F | 0x70
        bytes[8] = bytes[8] & 0x3F | 0x80
        let digits = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { digits[$0].joined() }.joined(separator: "-")
    }

    /// Base64url without padding (RFC 4648, 5).
    private static func text(_ bytes: [UInt8]) -> String {
        String(base64(bytes).map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 })
    }

    private static func base64(_ bytes: [UInt8]) -> String {
        String(Data(bytes).base64EncodedString().prefix { $0 != "=" })
    }

    /// The corresponding C function is `EVP_Digest`.
    private static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        let isDone = unsafe EVP_Digest(bytes, bytes.count, &digest, nil, EVP_sha256(), nil)
        precondition(isDone == 1, "OpenSSL has no SHA-256")
        return digest
    }

    /// The corresponding C function is `EVP_PBE_scrypt`.
    private static func scrypt(_ password: [UInt8], salt: [UInt8], logN: UInt64, r: UInt64, p: UInt64) -> [UInt8] {
        var key = [UInt8](repeating: 0, count: 32)
        let memory = 2 * 128 * r << logN  // What scrypt needs, and room for its bookkeeping.
        let isDone = unsafe password.withUnsafeBytes { bytes in
            unsafe EVP_PBE_scrypt(
                bytes.bindMemory(to: CChar.self).baseAddress, bytes.count, salt, salt.count, 1 << logN, r, p, memory,
                &key, key.count)
        }
        precondition(isDone == 1, "OpenSSL has no scrypt")
        return key
    }
}
