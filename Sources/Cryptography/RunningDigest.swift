internal import COpenSSL

/// A SHA-2 of bytes that come one after the other, for whoever makes it. The corresponding C type is `EVP_MD_CTX`.
@safe package struct RunningDigest: ~Copyable {
    package enum Algorithm: Sendable {
        case sha256, sha384
    }

    private let context: OpaquePointer
    private let algorithm: Algorithm

    /// The corresponding C functions are `EVP_MD_CTX_new` and `EVP_DigestInit_ex`.
    package init(_ algorithm: Algorithm = .sha256) {
        let type = unsafe algorithm == .sha256 ? EVP_sha256() : EVP_sha384()
        guard let context = unsafe EVP_MD_CTX_new(), unsafe EVP_DigestInit_ex(context, type, nil) == 1 else {
            preconditionFailure("a hash fails only without memory")
        }
        unsafe self.context = context
        self.algorithm = algorithm
    }

    deinit { unsafe EVP_MD_CTX_free(context) }

    /// The corresponding C function is `EVP_DigestUpdate`.
    package mutating func update(_ bytes: Span<UInt8>) {
        let result = unsafe bytes.withUnsafeBytes { unsafe EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
        precondition(result == 1, "a hash fails only without memory")
    }

    /// Of what has come up to now; more may follow. The corresponding C function is `EVP_MD_CTX_copy_ex`.
    package func soFar() -> [UInt8] {
        let copy = RunningDigest(algorithm)
        let result = unsafe EVP_MD_CTX_copy_ex(copy.context, context)
        precondition(result == 1, "a hash fails only without memory")
        return copy.finish()
    }

    /// 32 or 48 bytes. The corresponding C function is `EVP_DigestFinal_ex`.
    package consuming func finish() -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: algorithm == .sha256 ? 32 : 48)
        let result = unsafe EVP_DigestFinal_ex(context, &digest, nil)
        precondition(result == 1, "a hash fails only without memory")
        return digest
    }
}
