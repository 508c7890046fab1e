internal import COpenSSL

/// The corresponding C function is `SHA256`.
package func sha256(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    _ = unsafe SHA256(bytes, bytes.count, &digest)
    return digest
}

/// The corresponding C function is `SHA512`.
package func sha512(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 64)
    _ = unsafe SHA512(bytes, bytes.count, &digest)
    return digest
}

/// RFC 2104. The corresponding C function is `HMAC`.
package func hmacSHA256(key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    let isMade = unsafe HMAC(EVP_sha256(), key, CInt(key.count), bytes, bytes.count, &digest, nil) != nil
    precondition(isMade, "HMAC fails only without memory")
    return digest
}

/// Whether they are the same, found out without telling by the time it takes where they differ. The corresponding C
/// function is `CRYPTO_memcmp`.
package func areEqualInConstantTime(_ one: [UInt8], _ other: [UInt8]) -> Bool {
    guard one.count == other.count else { return false }
    return unsafe CRYPTO_memcmp(one, other, one.count) == 0
}

/// For what RFC 6455 wants; it protects nothing. The corresponding C function is `SHA1`.
package func sha1(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 20)
    _ = unsafe SHA1(bytes, bytes.count, &digest)
    return digest
}
