internal import Cryptography

/// What is stored of a random secret of 256 bits: salt and SHA-256 of both, which no one can turn back. Checking it takes
/// microseconds, and is no help to whoever guesses: there are too many to try.
package struct SecretDigest: Hashable, Sendable {
    package static let saltBytes = 16

    /// 16 bytes of salt, 32 of digest.
    package let bytes: [UInt8]

    package init(bytes: [UInt8]) { self.bytes = bytes }

    /// Of the secret as it is sent.
    package init(of secret: [UInt8], salt: [UInt8]) { bytes = salt + sha256(salt + secret) }

    /// In the same time, whatever is wrong.
    package func matches(_ secret: [UInt8]) -> Bool {
        let salt = Array(bytes.prefix(Self.saltBytes))
        return areEqualInConstantTime(SecretDigest(of: secret, salt: salt).bytes, bytes)
    }

    /// A new secret, to be shown once, and what to store of it.
    package static func make() -> (secret: String, digest: SecretDigest) {
        let secret = Base64.url.encode(randomBytes(32))
        return (secret, SecretDigest(of: Array(secret.utf8), salt: randomBytes(saltBytes)))
    }

    /// Nobody's: for checking a name that does not exist at the same cost.
    package static let nobody = SecretDigest(bytes: [UInt8](repeating: 0, count: saltBytes + 32))
}
