internal import COpenSSL

/// Bytes that nobody can guess. The corresponding C function is `RAND_bytes`.
package func randomBytes(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let result = unsafe RAND_bytes(&bytes, CInt(count))
    precondition(result == 1, "the system has no random numbers")
    return bytes
}
