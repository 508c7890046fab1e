internal import COpenSSL

/// A public key that signatures are checked with: its numbers, most significant byte first.
package enum PublicKey: Hashable, Sendable {
    case rsa(modulus: [UInt8], exponent: UInt32)
    /// A point, each coordinate as long as the curve's field.
    case ecdsa(Curve, x: [UInt8], y: [UInt8])
    /// 32 bytes (RFC 8032).
    case ed25519([UInt8])

    package enum Curve: String, CaseIterable, Sendable {
        case p192 = "P-192"
        case p256 = "P-256"
        case p384 = "P-384"

        /// Of a coordinate, and of each half of a signature.
        package var bytes: Int {
            switch self {
            case .p192: 24
            case .p256: 32
            case .p384: 48
            }
        }

        /// OpenSSL's name, and the object identifier (RFC 5480, 2.1.1.1) as DER.
        fileprivate var group: (name: String, identifier: [UInt8]) {
            switch self {
            case .p192: ("prime192v1", [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x01])
            case .p256: ("prime256v1", [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07])
            case .p384: ("secp384r1", [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22])
            }
        }
    }

    /// Why a text gives no keys; `description` has nothing of the text in it.
    package enum Unreadable: Error, Equatable, CustomStringConvertible {
        case privateKey
        case notAKey
        case otherKind

        package var description: String {
            switch self {
            case .privateKey: "a private key, which stays where it is: openssl pkey -pubout makes the public one"
            case .notAKey: "no public key in PEM"
            case .otherKind: "a key of another kind than RSA, ECDSA on P-192, P-256 or P-384, or Ed25519"
            }
        }
    }

    /// `RSA-3072`, `ECDSA P-256`, `Ed25519`.
    package var kind: String {
        switch self {
        case .rsa(let modulus, _): "RSA-\(bits(of: modulus))"
        case .ecdsa(let curve, _, _): "ECDSA \(curve.rawValue)"
        case .ed25519: "Ed25519"
        }
    }
}

// MARK: - PEM

extension PublicKey {
    /// All public keys of a PEM text (RFC 7468, 13), at least one, and nothing else. The corresponding C functions are
    /// `PEM_read_bio` and `d2i_PUBKEY`.
    package static func all(pem: [UInt8]) throws(Unreadable) -> [PublicKey] {
        guard let parts = parts(pem: pem), !parts.isEmpty else { throw .notAKey }
        var keys: [PublicKey] = []
        for part in parts {
            guard !part.name.hasSuffix("PRIVATE KEY") else { throw .privateKey }
            guard part.name == "PUBLIC KEY" else { throw .notAKey }
            guard let object = unsafe object(part.content) else { throw .notAKey }
            defer { unsafe EVP_PKEY_free(object) }
            guard let key = unsafe PublicKey(object) else { throw .otherKind }
            keys.append(key)
        }
        return keys
    }

    /// Nil where one of them is malformed.
    private static func parts(pem: [UInt8]) -> [(name: String, content: [UInt8])]? {
        unsafe pem.withUnsafeBufferPointer { bytes in
            defer { ERR_clear_error() }
            guard let file = unsafe BIO_new_mem_buf(bytes.baseAddress, CInt(bytes.count)) else { return nil }
            defer { unsafe BIO_free_all(file) }
            var parts: [(name: String, content: [UInt8])] = []
            var (name, header): (UnsafeMutablePointer<CChar>?, UnsafeMutablePointer<CChar>?)
            var (content, count): (UnsafeMutablePointer<UInt8>?, CLong) = (nil, 0)
            while unsafe PEM_read_bio(file, &name, &header, &content, &count) == 1, let start = unsafe content {
                if let name = unsafe name {
                    let content = unsafe Array(UnsafeBufferPointer(start: start, count: count))
                    unsafe parts.append((String(cString: name), content))
                }
                unsafe free_openssl_memory(name)
                unsafe free_openssl_memory(header)
                unsafe free_openssl_memory(start)
            }
            return ERR_peek_last_error() & 0x7F_FFFF == UInt(PEM_R_NO_START_LINE) ? parts : nil
        }
    }

    /// Nil for another kind. The corresponding C functions are `EVP_PKEY_get_bn_param` and
    /// `EVP_PKEY_get_raw_public_key`.
    private init?(_ object: OpaquePointer) {
        func number(_ name: String, _ count: Int) -> [UInt8]? {
            var value: OpaquePointer?
            defer { unsafe BN_free(value) }
            guard unsafe EVP_PKEY_get_bn_param(object, name, &value) == 1 else { return nil }
            var bytes = [UInt8](repeating: 0, count: count)
            return unsafe BN_bn2binpad(value, &bytes, CInt(count)) == CInt(count) ? bytes : nil
        }
        switch unsafe EVP_PKEY_get_base_id(object) {
        case EVP_PKEY_RSA:
            let count = unsafe Int(EVP_PKEY_get_bits(object) + 7) / 8
            guard let modulus = number("n", count), let exponent = number("e", 4) else { return nil }
            self = .rsa(modulus: modulus, exponent: exponent.reduce(0) { $0 << 8 | UInt32($1) })
        case EVP_PKEY_EC:
            var name = [CChar](repeating: 0, count: 32)
            guard unsafe EVP_PKEY_get_group_name(object, &name, name.count, nil) == 1 else { return nil }
            let group = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            guard let curve = Curve.allCases.first(where: { $0.group.name == group }),
                let x = number("qx", curve.bytes), let y = number("qy", curve.bytes)
            else { return nil }
            self = .ecdsa(curve, x: x, y: y)
        case EVP_PKEY_ED25519:
            var bytes = [UInt8](repeating: 0, count: 32)
            var count = bytes.count
            guard unsafe EVP_PKEY_get_raw_public_key(object, &bytes, &count) == 1 else { return nil }
            self = .ed25519(bytes)
        default: return nil
        }
    }

    /// SubjectPublicKeyInfo (RFC 5280, 4.1.2.7; RFC 8017, A.1; RFC 5480, 2; RFC 8410, 4).
    package var der: [UInt8] {
        switch self {
        case .rsa(let modulus, let exponent):
            let algorithm: [UInt8] = [
                0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00,
            ]
            let exponent = (0..<4).map { UInt8(truncatingIfNeeded: exponent >> (24 - 8 * UInt32($0))) }
            let numbers = DER.sequence(DER.integer(modulus) + DER.integer(exponent))
            return DER.sequence(DER.sequence(algorithm) + DER.bits(numbers))
        case .ecdsa(let curve, let x, let y):
            let algorithm = [0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01] + curve.group.identifier
            return DER.sequence(DER.sequence(algorithm) + DER.bits([0x04] + x + y))
        case .ed25519(let bytes):
            return DER.sequence(DER.sequence([0x06, 0x03, 0x2B, 0x65, 0x70]) + DER.bits(bytes))
        }
    }
}

// MARK: - Checking

extension PublicKey {
    /// Whether the signature is this key's, of a message with this digest: RSA by PSS (RFC 8017, 8.1) with SHA-256 and a
    /// salt of 32 bytes; ECDSA as DER. False for Ed25519, which signs messages. The
    /// corresponding C function is `EVP_PKEY_verify`.
    package func verifies(_ signature: [UInt8], ofDigest digest: [UInt8]) -> Bool {
        guard !signature.isEmpty else { return false }
        if case .ed25519 = self { return false }
        return unsafe withObject { key in
            guard let context = unsafe EVP_PKEY_CTX_new_from_pkey(nil, key, nil) else { return false }
            defer { unsafe EVP_PKEY_CTX_free(context) }
            guard unsafe EVP_PKEY_verify_init(context) == 1 else { return false }
            if case .rsa = self {
                let isSet =
                    unsafe EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1
                    && EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1
                    && EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) == 1
                    && EVP_PKEY_CTX_set_rsa_pss_saltlen(context, 32) == 1
                guard isSet else { return false }
            }
            return unsafe EVP_PKEY_verify(context, signature, signature.count, digest, digest.count) == 1
        }
    }

    /// Whether the signature is this key's, of the message (RFC 8032, 5.1.7). False for other kinds than Ed25519. The
    /// corresponding C function is `EVP_DigestVerify`.
    package func verifies(_ signature: [UInt8], of message: [UInt8]) -> Bool {
        guard case .ed25519 = self, signature.count == 64 else { return false }
        return unsafe withObject { key in
            guard let context = unsafe EVP_MD_CTX_new() else { return false }
            defer { unsafe EVP_MD_CTX_free(context) }
            guard unsafe EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1 else { return false }
            return unsafe EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
        }
    }

    /// False where OpenSSL takes the numbers for no key: a point that is not on its curve, for instance.
    private func withObject(_ body: (OpaquePointer) -> Bool) -> Bool {
        defer { ERR_clear_error() }
        guard let object = unsafe Self.object(der) else { return false }
        defer { unsafe EVP_PKEY_free(object) }
        return unsafe body(object)
    }

    /// To be freed. The corresponding C function is `d2i_PUBKEY`.
    private static func object(_ der: [UInt8]) -> OpaquePointer? {
        unsafe der.withUnsafeBufferPointer { bytes in
            var position = bytes.baseAddress
            return unsafe d2i_PUBKEY(nil, &position, bytes.count)
        }
    }

    /// An ECDSA signature as DER (RFC 3279, 2.2.3), from its two numbers, one behind the other.
    package static func derSignature(_ numbers: [UInt8]) -> [UInt8] {
        let half = numbers.count / 2
        return DER.sequence(DER.integer(Array(numbers[..<half])) + DER.integer(Array(numbers[half...])))
    }
}

/// What hardware wants beside a modulus to multiply as Montgomery does: 2 to the power of twice its bits, modulo itself,
/// as many bytes; and what its last 32 bits times that is -1, modulo 2 to the 32. Nil for 0, and for even ones.
package func montgomeryNumbers(_ modulus: [UInt8]) -> (square: [UInt8], inverse: UInt32)? {
    guard let last = modulus.last, !last.isMultiple(of: 2), modulus.count >= 4 else { return nil }
    let word = modulus.suffix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    var inverse: UInt32 = 1
    for _ in 0..<5 { inverse &*= 2 &- word &* inverse }  // Each time twice as many bits are right.
    guard let square = power(ofTwo: 2 * bits(of: modulus), modulo: modulus) else { return nil }
    return (square, 0 &- inverse)
}

/// The corresponding C functions are `BN_set_bit` and `BN_div`.
private func power(ofTwo exponent: Int, modulo modulus: [UInt8]) -> [UInt8]? {
    let context = unsafe BN_CTX_new()
    let divisor = unsafe BN_bin2bn(modulus, CInt(modulus.count), nil)
    let number = unsafe BN_new()
    defer {
        unsafe BN_free(number)
        unsafe BN_free(divisor)
        unsafe BN_CTX_free(context)
        ERR_clear_error()
    }
    guard unsafe BN_set_bit(number, CInt(exponent)) == 1, unsafe BN_div(nil, number, number, divisor, context) == 1
    else { return nil }
    var bytes = [UInt8](repeating: 0, count: modulus.count)
    return unsafe BN_bn2binpad(number, &bytes, CInt(bytes.count)) == CInt(bytes.count) ? bytes : nil
}

private func bits(of number: [UInt8]) -> Int {
    let digits = number.drop { $0 == 0 }
    return digits.first.map { digits.count * 8 - $0.leadingZeroBitCount } ?? 0
}

/// As much of DER (X.690) as keys and signatures take.
private enum DER {
    static func sequence(_ content: [UInt8]) -> [UInt8] { tagged(0x30, content) }

    /// A string of whole bytes.
    static func bits(_ content: [UInt8]) -> [UInt8] { tagged(0x03, [0] + content) }

    /// A number that is not negative.
    static func integer(_ bytes: [UInt8]) -> [UInt8] {
        let digits = bytes.drop { $0 == 0 }
        return tagged(0x02, (digits.first.map { $0 < 0x80 } ?? false ? [] : [0]) + digits)
    }

    private static func tagged(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        precondition(content.count <= 0xFFFF, "no key is that long")
        let (high, low) = (UInt8(content.count >> 8), UInt8(content.count & 0xFF))
        let length: [UInt8] = content.count < 0x80 ? [low] : high == 0 ? [0x81, low] : [0x82, high, low]
        return [tag] + length + content
    }
}
