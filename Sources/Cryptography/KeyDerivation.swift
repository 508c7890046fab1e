internal import COpenSSL

/// OpenSSL could not do what it was asked for.
package struct CryptographyError: Error, Equatable, CustomStringConvertible {
    /// The C function.
    package let function: String
    /// In OpenSSL's words.
    package let reason: String

    package var description: String { "\(function): \(reason)" }

    /// Takes what this thread's queue of errors holds, so that it is not read as the reason of something later. The
    /// corresponding C functions are `ERR_get_error` and `ERR_error_string_n`.
    init(during function: String) {
        self.function = function
        var reason = "failed"
        while true {
            let code = ERR_get_error()
            guard code != 0 else { break }
            var text = [CChar](repeating: 0, count: 256)
            unsafe ERR_error_string_n(code, &text, text.count)
            reason = String(decoding: text.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
        }
        self.reason = reason
    }
}

/// RFC 8018, 5.2, with HMAC-SHA-512. The corresponding C function is `PKCS5_PBKDF2_HMAC`.
package func pbkdf2SHA512(
    password: [UInt8], salt: [UInt8], iterations: Int, bytes: Int = 64
) throws(CryptographyError) -> [UInt8] {
    guard let iterations = CInt(exactly: iterations), iterations > 0 else {
        preconditionFailure("whoever reads the number of iterations sees to its range")
    }
    var key = [UInt8](repeating: 0, count: bytes)
    let isMade = unsafe withCharacters(password) { password in
        unsafe PKCS5_PBKDF2_HMAC(
            password.baseAddress, CInt(password.count), salt, CInt(salt.count), iterations, EVP_sha512(), CInt(bytes),
            &key)
    }
    guard isMade == 1 else { throw CryptographyError(during: "PKCS5_PBKDF2_HMAC") }
    return key
}

/// What scrypt costs (RFC 7914, 2).
package struct ScryptCost: Sendable, Hashable {
    /// The logarithm to the base 2 of N.
    package var logN: Int
    package var blockSize: Int
    package var parallelization: Int

    package init(logN: Int, blockSize: Int, parallelization: Int) {
        self.logN = logN
        self.blockSize = blockSize
        self.parallelization = parallelization
    }

    /// Bytes that one run needs at once.
    package var memoryBytes: Int { 128 * blockSize * (1 << logN + parallelization + 2) }
    /// How often a block of 128 bytes is mixed: what the time goes by.
    package var work: Int { blockSize * parallelization << logN }
}

/// RFC 7914. The corresponding C function is `EVP_PBE_scrypt`.
package func scrypt(
    password: [UInt8], salt: [UInt8], cost: ScryptCost, bytes: Int = 32
) throws(CryptographyError) -> [UInt8] {
    var key = [UInt8](repeating: 0, count: bytes)
    let isMade = unsafe withCharacters(password) { password in
        unsafe EVP_PBE_scrypt(
            password.baseAddress, password.count, salt, salt.count, 1 << UInt64(cost.logN), UInt64(cost.blockSize),
            UInt64(cost.parallelization), UInt64(cost.memoryBytes), &key, bytes)
    }
    guard isMade == 1 else { throw CryptographyError(during: "EVP_PBE_scrypt") }
    return key
}

/// Bytes as C's characters, never at no address: OpenSSL takes that for a question of another kind.
private func withCharacters(_ bytes: [UInt8], _ body: (UnsafeBufferPointer<CChar>) -> CInt) -> CInt {
    let isEmpty = bytes.isEmpty
    return unsafe (isEmpty ? [0] : bytes).withUnsafeBufferPointer { buffer in
        unsafe buffer.withMemoryRebound(to: CChar.self) { characters in
            unsafe body(UnsafeBufferPointer(rebasing: characters.prefix(isEmpty ? 0 : characters.count)))
        }
    }
}
