internal import Cryptography

/// A signature of the whole file, in a file of its own.
package enum DetachedSignature: Sendable, Equatable {
    /// By which kind of key.
    case trusted(String)
    /// Why.
    case broken(String)
    /// No public keys were given.
    case unchecked

    /// ECDSA on P-256 or P-384 is over the SHA-256 of the file, as DER or as two numbers of the curve's length, most
    /// significant byte first; Ed25519 is over the bytes of the file themselves (RFC 8032, without a prehash).
    init(
        _ signature: [UInt8], of source: borrowing some ImageSource & ~Copyable, digest: [UInt8], keys: TrustedKeys
    ) throws(ReadFailure) {
        guard !keys.keys.isEmpty else {
            self = .unchecked
            return
        }
        for key in keys.keys {
            guard case .ecdsa(let curve, _, _) = key, curve != .p192 else { continue }
            var forms = [signature]
            if signature.count == 2 * curve.bytes { forms.append(PublicKey.derSignature(signature)) }
            guard forms.contains(where: { key.verifies($0, ofDigest: digest) }) else { continue }
            self = .trusted(key.kind)
            return
        }
        let others = keys.keys.filter { if case .ed25519 = $0 { true } else { false } }
        guard !others.isEmpty, signature.count == 64 else {
            self = .broken("it is by none of the keys")
            return
        }
        guard source.count <= Limits.ed25519Bytes else {
            self = .broken("the file is too long for Ed25519: at most \(sizeText(Limits.ed25519Bytes))")
            return
        }
        let message = try source.whole()
        let signer = others.first { $0.verifies(signature, of: message) }
        self = signer.map { .trusted($0.kind) } ?? .broken("it is by none of the keys")
    }
}

extension ImageSource where Self: ~Copyable {
    fileprivate func whole() throws(ReadFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count { bytes += try readUpTo(Limits.readBytes, at: bytes.count) }
        return bytes
    }
}
