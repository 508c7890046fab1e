internal import Cryptography

/// What a `Principal` keeps of its proof, in 64 bits: of which kind it was, and enough of a digest to see that it is no
/// longer the one that counts. It can't be turned back.
struct Credential: Hashable, Sendable {
    enum Kind: UInt64 {
        /// A name that nobody asked a proof for.
        case none
        case passwordHash, secret, certificate, key, token
    }

    let value: UInt64

    /// As `Principal` has it.
    init(_ value: UInt64) { self.value = value }

    private init(_ kind: Kind, of bytes: [UInt8]) {
        let digest = sha256(bytes).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        value = digest & ~Self.kindBits | kind.rawValue
    }

    private static let kindBits: UInt64 = 7

    var kind: Kind? { Kind(rawValue: value & Self.kindBits) }

    static let none = Credential(0)
    static func hash(_ hash: PasswordHash) -> Credential { Credential(.passwordHash, of: Array(hash.text.utf8)) }
    static func secret(_ secret: SecretDigest) -> Credential { Credential(.secret, of: secret.bytes) }
    /// By its serial number: that is what is revoked.
    static func certificate(serial: String) -> Credential { Credential(.certificate, of: Array(serial.utf8)) }
    /// By its `jti`.
    static func token(_ id: String) -> Credential { Credential(.token, of: Array(id.utf8)) }
    static func key(_ key: [UInt8], identity: [UInt8]) -> Credential {
        Credential(.key, of: sha256(identity) + sha256(key))
    }
}

extension Principal {
    init(_ identity: Identity, userName: [UInt8]?, listener: Int, proof: Credential) {
        self.init(identity: identity, userName: userName, listener: listener, credential: proof.value)
    }
}
