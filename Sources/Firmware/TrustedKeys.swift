package import Cryptography

/// The keys that firmware may be signed with, in the order in which they were given.
package struct TrustedKeys: Sendable {
    package private(set) var keys: [PublicKey] = []
    /// Of keys for Secure Boot, those above and others: what eFuses hold.
    package private(set) var digests: Set<[UInt8]> = []

    package init() {}

    package var isEmpty: Bool { keys.isEmpty && digests.isEmpty }

    /// Why a key is of no use.
    package struct Refusal: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    /// All keys of a PEM text: RSA-3072, ECDSA on P-192, P-256 or P-384, Ed25519.
    package mutating func add(pem: [UInt8]) throws(Refusal) {
        let added: [PublicKey]
        do throws(PublicKey.Unreadable) {
            added = try PublicKey.all(pem: pem)
        } catch {
            throw Refusal(description: error.description)
        }
        for key in added {
            if case .rsa = key, key.secureBootDigest == nil {
                throw Refusal(description: "an \(key.kind) key: Secure Boot takes RSA-3072")
            }
            keys.append(key)
            if let digest = key.secureBootDigest { digests.insert(digest) }
        }
    }

    /// 64 hexadecimal digits: what `espsecure digest-sbv2-public-key` writes, and `espefuse summary` shows.
    package mutating func add(digest text: String) throws(Refusal) {
        guard let digest = bytes(hexadecimal: text.utf8), digest.count == 32 else {
            throw Refusal(description: "'\(text)' is no digest of a key: that has 64 hexadecimal digits")
        }
        digests.insert(digest)
    }
}

extension PublicKey {
    /// As a signature block has it (secure-boot-v2.rst): numbers with their least significant byte first. Nil where none
    /// has such a key.
    var secureBootBytes: [UInt8]? {
        switch self {
        case .rsa(let modulus, let exponent):
            guard modulus.count == 384, modulus[0] >= 0x80, let montgomery = montgomeryNumbers(modulus) else {
                return nil
            }
            return modulus.reversed() + little(exponent) + montgomery.square.reversed() + little(montgomery.inverse)
        case .ecdsa(let curve, let x, let y):
            let point = [curve.secureBootNumber] + x.reversed() + y.reversed()
            return point + [UInt8](repeating: 0, count: max(0, 65 - point.count))
        case .ed25519: return nil
        }
    }

    /// What is burnt into a device that takes this key: 32 bytes.
    package var secureBootDigest: [UInt8]? { secureBootBytes.map(sha256) }
}

extension PublicKey.Curve {
    fileprivate var secureBootNumber: UInt8 {
        switch self {
        case .p192: 1
        case .p256: 2
        case .p384: 3
        }
    }

    init?(secureBootNumber: UInt8) {
        guard let curve = Self.allCases.first(where: { $0.secureBootNumber == secureBootNumber }) else { return nil }
        self = curve
    }
}

private func little(_ number: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
