internal import COpenSSL

/// What keys can be made: the first suits an ESP32 best.
package enum KeyKind: String, CaseIterable, Sendable, Codable {
    case p256, rsa2048, rsa3072
}

/// A private key. Wiped from memory when it goes away.
package struct PrivateKey: ~Copyable {
    let key: Owned

    private init(_ key: consuming Owned) { self.key = key }

    /// Makes one. The corresponding C functions are `EVP_EC_gen` and `EVP_RSA_gen`.
    package static func generate(_ kind: KeyKind = .p256) throws(CertificateError) -> PrivateKey {
        let key =
            switch kind {
            case .p256: unsafe generate_ec_key("P-256")
            case .rsa2048: unsafe generate_rsa_key(2048)
            case .rsa3072: unsafe generate_rsa_key(3072)
            }
        return PrivateKey(try unsafe Owned(key, from: "EVP_PKEY_Q_keygen", free: EVP_PKEY_free))
    }

    /// Reads the first key of a PEM text; one under a passphrase is refused. The corresponding C function is
    /// `PEM_read_bio_PrivateKey`.
    package init(pem: [UInt8]) throws(CertificateError) {
        let key = try reading(pem) { file throws(CertificateError) -> Owned in
            let key = unsafe PEM_read_bio_PrivateKey(file.pointer, nil, noPassphrase, nil)
            guard unsafe key == nil else {
                return try unsafe Owned(key, from: "PEM_read_bio_PrivateKey", free: EVP_PKEY_free)
            }
            _ = openSSLReason()
            throw .refused(
                String(decoding: pem, as: UTF8.self).contains("ENCRYPTED")
                    ? "the key is protected by a passphrase" : "not a private key in PEM")
        }
        self.init(key)
    }

    /// PKCS #8, not protected: for files of mode 0600. The corresponding C function is `PEM_write_bio_PKCS8PrivateKey`.
    package func pem() throws(CertificateError) -> [UInt8] {
        try written { file throws(CertificateError) in
            try require(
                unsafe PEM_write_bio_PKCS8PrivateKey(file.pointer, key.pointer, nil, nil, 0, nil, nil),
                "PEM_write_bio_PKCS8PrivateKey")
        }
    }

    /// Whether the certificate is about this key. The corresponding C function is `X509_check_private_key`.
    package func belongs(to certificate: Certificate) throws(CertificateError) -> Bool {
        let object = try certificate.object()
        let isRight = unsafe X509_check_private_key(object.pointer, key.pointer) == 1
        _ = openSSLReason()
        return isRight
    }

    /// What a signature with it hashes by: nil for the keys that do that themselves (Ed25519).
    var digest: OpaquePointer? {
        let type = unsafe EVP_PKEY_get_base_id(key.pointer)
        return type == EVP_PKEY_ED25519 || type == EVP_PKEY_ED448 ? nil : unsafe EVP_sha256()
    }
}

/// Throws for a public key that no certificate should be about: RSA below 2048 bits, or above the 4096 that an ESP32
/// can do; curves other than P-256, P-384, P-521 and Ed25519; parameters written out; a point that is not on its curve.
func requireSound(_ key: borrowing Owned) throws(CertificateError) {
    let bits = unsafe EVP_PKEY_get_bits(key.pointer)
    switch unsafe EVP_PKEY_get_base_id(key.pointer) {
    case EVP_PKEY_RSA:
        guard bits >= 2048 else { throw .refused("an RSA key of \(bits) bits is too weak: at least 2048") }
        guard bits <= 4096 else { throw .refused("an RSA key of \(bits) bits is too large: at most 4096") }
    case EVP_PKEY_EC:
        let curve = text("group", of: key)
        guard ["prime256v1", "secp384r1", "secp521r1"].contains(curve), text("encoding", of: key) == "named_curve"
        else { throw .refused("a key on another curve than P-256, P-384 or P-521") }
    case EVP_PKEY_ED25519: break
    default: throw .refused("a key of another kind than ECDSA, RSA or Ed25519")
    }
    let context = try unsafe Owned(
        EVP_PKEY_CTX_new_from_pkey(nil, key.pointer, nil), from: "EVP_PKEY_CTX_new_from_pkey",
        free: EVP_PKEY_CTX_free)
    guard unsafe EVP_PKEY_public_check(context.pointer) == 1 else {
        _ = openSSLReason()
        throw .refused("the public key is not sound")
    }
}

/// A parameter of a key. The corresponding C function is `EVP_PKEY_get_utf8_string_param`.
private func text(_ parameter: String, of key: borrowing Owned) -> String? {
    var buffer = [CChar](repeating: 0, count: 64)
    var count = 0
    guard unsafe EVP_PKEY_get_utf8_string_param(key.pointer, parameter, &buffer, buffer.count, &count) == 1 else {
        _ = openSSLReason()
        return nil
    }
    return String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
}
