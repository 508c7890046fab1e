internal import COpenSSL

/// Bytes that nobody can guess. The corresponding C function is `RAND_bytes`.
package func randomBytes(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let isFilled = unsafe bytes.withUnsafeMutableBufferPointer { unsafe RAND_bytes($0.baseAddress, CInt($0.count)) } == 1
    precondition(isFilled, "the system has no random numbers")
    return bytes
}
