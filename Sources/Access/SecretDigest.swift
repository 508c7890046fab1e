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
    static let nobody = SecretDigest(bytes: [UInt8](repeating: 0, count: saltBytes + 32))
}

/// How a device is called.
package enum DeviceName {
    package static let longest = 64

    /// The deviceId as it is registered, `[A-Z0-9_-]{1,64}`, for a name that a device signs in with: the deviceId in any
    /// case, or `esp32_` and the deviceId. Nil: no device has such a name.
    package static func canonical(_ name: some Collection<UInt8>) -> String? {
        guard name.count <= longest + prefix.utf8.count else { return nil }
        var text = String(decoding: name, as: UTF8.self).uppercased()
        if text.hasPrefix(prefix) { text.removeFirst(prefix.count) }
        let isValid = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        return isValid && (1...longest).contains(text.utf8.count) && !text.hasPrefix(prefix) ? text : nil
    }

    private static let prefix = "ESP32_"
}
