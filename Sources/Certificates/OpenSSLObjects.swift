internal import COpenSSL

/// An object of OpenSSL: owned by one value, freed when that value goes away.
@safe struct Owned: ~Copyable {
    let pointer: OpaquePointer
    private let free: @convention(c) (OpaquePointer?) -> Void

    /// Adopts what a C function returned, or throws what OpenSSL says about it.
    init(
        _ pointer: OpaquePointer?, from function: String, free: @escaping @convention(c) (OpaquePointer?) -> Void
    ) throws(CertificateError) {
        guard let pointer = unsafe pointer else { throw .openSSL(function) }
        unsafe self.pointer = unsafe pointer
        unsafe self.free = unsafe free
    }

    deinit { unsafe free(pointer) }

    /// For a C function that takes the object over.
    consuming func release() -> OpaquePointer {
        let pointer = unsafe pointer
        discard self
        return unsafe pointer
    }
}

/// Throws what OpenSSL says unless a C function returned 1 or more.
func require(_ result: CInt, _ function: String) throws(CertificateError) {
    guard result > 0 else { throw .openSSL(function) }
}

/// A BIO that reads these bytes, which it borrows for as long as `body` runs. The corresponding C function is
/// `BIO_new_mem_buf`.
func reading<Result: ~Copyable>(
    _ bytes: [UInt8], _ body: (borrowing Owned) throws(CertificateError) -> Result
) throws(CertificateError) -> Result {
    let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(bytes.count, 1))
    _ = unsafe buffer.initialize(from: bytes)
    // What is read may be a private key. The corresponding C function is `OPENSSL_cleanse`.
    defer {
        unsafe OPENSSL_cleanse(buffer.baseAddress, bytes.count)
        unsafe buffer.deallocate()
    }
    let file = try unsafe Owned(
        BIO_new_mem_buf(buffer.baseAddress, CInt(bytes.count)), from: "BIO_new_mem_buf", free: BIO_free_all)
    return try body(file)
}

/// What `body` writes to a BIO. The corresponding C functions are `BIO_new`, `BIO_ctrl_pending` and `BIO_read`.
func written(_ body: (borrowing Owned) throws(CertificateError) -> Void) throws(CertificateError) -> [UInt8] {
    let file = try unsafe Owned(BIO_new(BIO_s_mem()), from: "BIO_new", free: BIO_free_all)
    try body(file)
    let count = unsafe BIO_ctrl_pending(file.pointer)
    return unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        filled = unsafe Int(max(0, BIO_read(file.pointer, buffer.baseAddress, CInt(buffer.count))))
    }
}

/// What one of the `i2d` functions writes.
func encoded(
    _ function: String, _ encode: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> CInt
) throws(CertificateError) -> [UInt8] {
    let count = encode(nil)
    try require(count, function)
    return unsafe [UInt8](unsafeUninitializedCapacity: Int(count)) { buffer, filled in
        var position = buffer.baseAddress
        filled = unsafe Int(max(0, encode(&position)))
    }
}

/// PEM around DER. The corresponding C function is `PEM_write_bio`.
func pem(_ label: String, _ der: [UInt8]) -> String {
    let bytes = try? written { file throws(CertificateError) in
        try require(unsafe PEM_write_bio(file.pointer, label, "", der, der.count), "PEM_write_bio")
    }
    guard let bytes else { preconditionFailure("memory takes what is written to it") }
    return String(decoding: bytes, as: UTF8.self)
}

/// Whether the last thing OpenSSL said is that no further PEM block of the wanted kind follows. Leaves its queue as it is.
func isEndOfPEM() -> Bool {
    let code = ERR_peek_last_error()
    return code & 0x7f_ffff == UInt(PEM_R_NO_START_LINE)
}

/// OpenSSL would ask the terminal for the passphrase of a protected key; we have none.
@safe func noPassphrase(
    _ buffer: UnsafeMutablePointer<CChar>?, _ size: CInt, _ isForWriting: CInt, _ context: UnsafeMutableRawPointer?
) -> CInt { -1 }
