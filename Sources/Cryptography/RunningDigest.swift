internal import COpenSSL

/// A SHA-256 of bytes that come one after the other, for whoever makes it. The corresponding C type is `EVP_MD_CTX`.
@safe package struct RunningDigest: ~Copyable {
    private let context: OpaquePointer

    /// The corresponding C functions are `EVP_MD_CTX_new` and `EVP_DigestInit_ex`.
    package init() {
        guard let context = unsafe EVP_MD_CTX_new(), unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
            preconditionFailure("SHA-256 fails only without memory")
        }
        unsafe self.context = context
    }

    deinit { unsafe EVP_MD_CTX_free(context) }

    /// The corresponding C function is `EVP_DigestUpdate`.
    package mutating func update(_ bytes: Span<UInt8>) {
        let result = unsafe bytes.withUnsafeBytes { unsafe EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
        precondition(result == 1, "SHA-256 fails only without memory")
    }

    /// Of what has come up to now; more may follow. The corresponding C function is `EVP_MD_CTX_copy_ex`.
    package func soFar() -> [UInt8] {
        let copy = RunningDigest()
        let result = unsafe EVP_MD_CTX_copy_ex(copy.context, context)
        precondition(result == 1, "SHA-256 fails only without memory")
        return copy.finish()
    }

    /// 32 bytes. The corresponding C function is `EVP_DigestFinal_ex`.
    package consuming func finish() -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        let result = unsafe EVP_DigestFinal_ex(context, &digest, nil)
        precondition(result == 1, "SHA-256 fails only without memory")
        return digest
    }
}
