package import CLinux
import Glibc

/// An IPv4 or IPv6 address with a port, in 28 bytes.
package struct SocketAddress: Sendable {
    private let storage: sockaddr_in6
    private let isIPv4: Bool

    init(_ storage: sockaddr_in6) {
        self.storage = storage
        isIPv4 = storage.sin6_family == sa_family_t(AF_INET)
    }

    /// The length that the system expects with it.
    package var length: socklen_t {
        socklen_t(isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
    }

    package var family: CInt { CInt(storage.sin6_family) }

    /// Port 0 to 65,535.
    package var port: UInt16 { UInt16(bigEndian: storage.sin6_port) }  // At the same place in both families.

    package func withPointer<Result>(_ body: (UnsafePointer<sockaddr>) -> Result) -> Result {
        unsafe withUnsafePointer(to: storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0) }
        }
    }

    /// The addresses to listen on for a host name, an address, or (nil) all of this machine's. May ask the resolver and
    /// so block: for start-up only. The corresponding C function is `getaddrinfo`.
    package static func resolve(_ host: String?, port: UInt16) throws(ResolutionError) -> [SocketAddress] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let result = unsafe getaddrinfo(host, String(port), &hints, &list)
        guard result == 0 else {
            throw ResolutionError(host: host ?? "*", reason: unsafe String(cString: gai_strerror(result)))
        }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = unsafe list
        while let entry = unsafe next {
            var storage = sockaddr_in6()
            unsafe withUnsafeMutableBytes(of: &storage) { bytes in
                let source = unsafe UnsafeRawBufferPointer(
                    start: entry.pointee.ai_addr, count: min(bytes.count, Int(entry.pointee.ai_addrlen))
                )
                unsafe bytes.copyMemory(from: source)
            }
            addresses.append(SocketAddress(storage))
            unsafe next = entry.pointee.ai_next
        }
        return addresses
    }
}

extension SocketAddress: CustomStringConvertible {
    package var description: String {
        let text = host
        return isIPv4 ? "\(text):\(port)" : "[\(text)]:\(port)"
    }

    /// The address without its port.
    package var host: String {
        var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let result = unsafe withPointer { pointer in
            unsafe getnameinfo(pointer, length, &buffer, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST)
        }
        guard result == 0 else { return "?" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// A host name that nobody knows.
package struct ResolutionError: Error, CustomStringConvertible {
    package let host: String
    package let reason: String
    package var description: String { "\(host): \(reason)" }
}
