import Glibc

/// Reads a whole file. Throws `SystemError` with the system's reason, EFBIG for one that is longer than `limit` bytes.
/// The corresponding C functions are `open` and `read`.
package func contents(ofFile path: String, atMost limit: Int) throws(SystemError) -> [UInt8] {
    let descriptor = try Descriptor(adopting: unsafe open(path, O_RDONLY | O_CLOEXEC), from: "open")
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = unsafe read(descriptor.rawValue, &chunk, chunk.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw SystemError(errno, during: "read") }
        guard count > 0 else { return bytes }
        bytes += chunk.prefix(count)
        guard bytes.count <= limit else { throw SystemError(EFBIG, during: "read") }
    }
}
