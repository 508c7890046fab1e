import Glibc

/// A unix socket that sends datagrams to one path and never waits: for the system's log and the service manager.
package final class DatagramSocket: Sendable {
    private let descriptor: Descriptor

    /// `@` in front makes it an abstract name (unix(7)). The corresponding C functions are `socket` and `connect`.
    package init(path: String) throws(SystemError) {
        let type = CInt(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        descriptor = try Descriptor(adopting: socket(AF_UNIX, type, 0), from: "socket")
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        let isAbstract = bytes.first == UInt8(ascii: "@")
        if isAbstract { bytes[0] = 0 }
        let space = MemoryLayout.size(ofValue: address.sun_path)
        guard !bytes.isEmpty, bytes.count < space else { throw SystemError(ENAMETOOLONG, during: "connect") }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let count = MemoryLayout<sockaddr_un>.size - space + bytes.count + (isAbstract ? 0 : 1)
        let result = unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor.rawValue, $0, socklen_t(count))
            }
        }
        guard result == 0 else { throw SystemError(errno, during: "connect") }
    }

    /// The corresponding C function is `send`.
    package func send(_ bytes: [UInt8]) throws(SystemError) {
        let count = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.send(descriptor.rawValue, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
        }
        guard count >= 0 else { throw SystemError(errno, during: "send") }
    }
}
