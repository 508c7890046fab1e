package import Glibc

/// Where somebody is reached: an IPv4 or IPv6 address with a port, or the path of a unix socket.
package struct SocketAddress: Sendable {
    private enum Place {
        case ipv4(sockaddr_in)
        case ipv6(sockaddr_in6)
        case unix(String)
    }

    private let place: Place

    /// The path of a unix socket; at most `pathBytes` where it is bound or connected to.
    package init(path: String) { place = .unix(path) }

    /// An IPv4 address by its four bytes, the first one highest.
    package init(ipv4: UInt32, port: UInt16) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = ipv4.bigEndian
        place = .ipv4(address)
    }

    /// An IPv6 address by its sixteen bytes.
    package init(ipv6 bytes: Span<UInt8>, port: UInt16) {
        precondition(bytes.count == MemoryLayout<in6_addr>.size, "an IPv6 address has sixteen bytes")
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        unsafe withUnsafeMutableBytes(of: &address.sin6_addr) { target in
            for index in bytes.indices { unsafe target[index] = bytes[index] }
        }
        place = .ipv6(address)
    }

    /// An address as the system gives it; nil for a family that is none of ours.
    init?(_ pointer: UnsafePointer<sockaddr>) {
        switch unsafe CInt(pointer.pointee.sa_family) {
        case AF_INET:
            place = unsafe .ipv4(UnsafeRawPointer(pointer).loadUnaligned(as: sockaddr_in.self))
        case AF_INET6:
            place = unsafe .ipv6(UnsafeRawPointer(pointer).loadUnaligned(as: sockaddr_in6.self))
        default: return nil
        }
    }

    /// What a C function fills in through a pointer and a length, or nil where it fails or names none of our families.
    /// No path is read, since that of a unix socket is known to whoever made it.
    static func filled(by function: (UnsafeMutablePointer<sockaddr>?, inout socklen_t) -> CInt) -> (
        result: CInt, address: SocketAddress?
    ) {
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe function($0, &length) }
        }
        guard result >= 0, length >= socklen_t(MemoryLayout<sockaddr_in>.size) else { return (result, nil) }
        return unsafe withUnsafePointer(to: storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe (result, SocketAddress($0))
            }
        }
    }

    package var family: CInt {
        switch place {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix: AF_UNIX
        }
    }

    /// The 4 or 16 bytes of an IPv4 or IPv6 address, none of a unix socket.
    package var bytes: [UInt8] {
        switch place {
        case .ipv4(let address): unsafe withUnsafeBytes(of: address.sin_addr) { unsafe Array($0) }
        case .ipv6(let address): unsafe withUnsafeBytes(of: address.sin6_addr) { unsafe Array($0) }
        case .unix: []
        }
    }

    /// Only this machine reaches it: 127.0.0.0/8, ::1, and a unix socket.
    package var isLoopback: Bool {
        let bytes = bytes
        switch bytes.count {
        case 0: return true
        case 4: return bytes[0] == 127
        default:
            let isMapped = bytes.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 127])
            return isMapped || bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1
        }
    }

    /// The 4 or 16 bytes that a text means as an address; nil: it is none. The corresponding C function is `inet_pton`.
    package static func bytes(of text: String) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 16)
        if unsafe inet_pton(AF_INET, text, &bytes) == 1 { return Array(bytes[..<4]) }
        return unsafe inet_pton(AF_INET6, text, &bytes) == 1 ? bytes : nil
    }

    /// 0 for a unix socket.
    package var port: UInt16 {
        switch place {
        case .ipv4(let address): UInt16(bigEndian: address.sin_port)
        case .ipv6(let address): UInt16(bigEndian: address.sin6_port)
        case .unix: 0
        }
    }

    /// Of a unix socket.
    package var path: String? {
        guard case .unix(let path) = place else { return nil }
        return path
    }

    /// The same address with another port; a path has none.
    func with(port: UInt16) -> SocketAddress {
        switch place {
        case .ipv4(var address):
            address.sin_port = port.bigEndian
            return SocketAddress(place: .ipv4(address))
        case .ipv6(var address):
            address.sin6_port = port.bigEndian
            return SocketAddress(place: .ipv6(address))
        case .unix: return self
        }
    }

    private init(place: Place) { self.place = place }

    /// Bytes of the path of a unix socket; the system wants a NUL behind it.
    package static let pathBytes = MemoryLayout<sockaddr_un>.size - MemoryLayout<sa_family_t>.size - 1

    /// The length that the system expects with `withPointer`.
    package var length: socklen_t {
        switch place {
        case .ipv4: socklen_t(MemoryLayout<sockaddr_in>.size)
        case .ipv6: socklen_t(MemoryLayout<sockaddr_in6>.size)
        case .unix(let path): socklen_t(MemoryLayout<sa_family_t>.size + path.utf8.count + 1)
        }
    }

    package func withPointer<Result>(_ body: (UnsafePointer<sockaddr>) -> Result) -> Result {
        switch place {
        case .ipv4(let address): return unsafe Self.rebinding(address, body)
        case .ipv6(let address): return unsafe Self.rebinding(address, body)
        case .unix(let path):
            precondition(path.utf8.count <= Self.pathBytes, "the path of a unix socket is too long")
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            unsafe withUnsafeMutableBytes(of: &address.sun_path) { target in
                for (index, byte) in path.utf8.enumerated() { unsafe target[index] = byte }
            }
            return unsafe Self.rebinding(address, body)
        }
    }

    private static func rebinding<Address, Result>(
        _ address: Address, _ body: (UnsafePointer<sockaddr>) -> Result
    ) -> Result {
        unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0) }
        }
    }
}

extension SocketAddress: Equatable {
    package static func == (left: SocketAddress, right: SocketAddress) -> Bool {
        left.isSameHost(as: right) && left.port == right.port
    }

    /// Whether the two differ in nothing but the port.
    func isSameHost(as other: SocketAddress) -> Bool {
        switch (place, other.place) {
        case (.ipv4(let left), .ipv4(let right)): left.sin_addr.s_addr == right.sin_addr.s_addr
        case (.ipv6(let left), .ipv6(let right)):
            unsafe left.sin6_scope_id == right.sin6_scope_id
                && withUnsafeBytes(of: left.sin6_addr) { left in
                    unsafe withUnsafeBytes(of: right.sin6_addr) { unsafe left.elementsEqual($0) }
                }
        case (.unix(let left), .unix(let right)): left == right
        default: false
        }
    }
}

extension SocketAddress: CustomStringConvertible {
    package var description: String {
        switch place {
        case .ipv4: "\(host):\(port)"
        case .ipv6: "[\(host)]:\(port)"
        case .unix: host
        }
    }

    /// The address without its port; for a unix socket its path, or `unix` where it has none. The corresponding C
    /// function is `getnameinfo`.
    package var host: String {
        if let path { return path.isEmpty ? "unix" : path }
        var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let result = unsafe withPointer { pointer in
            unsafe getnameinfo(pointer, length, &buffer, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST)
        }
        guard result == 0 else { return "?" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
    }
}

// MARK: - Finding addresses

extension SocketAddress {
    /// A version of IP.
    package enum Version: Sendable { case ipv4, ipv6 }

    /// The addresses to listen on for a host name, an address, or (nil) all of this machine's, each once. May ask the
    /// resolver and so block: for start-up only. The corresponding C function is `getaddrinfo`.
    package static func resolve(
        _ host: String?, port: UInt16, only version: Version? = nil
    ) throws(ResolutionError) -> [SocketAddress] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = ListeningSocket.streamType
        unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        unsafe hints.ai_family =
            switch version {
            case .ipv4: AF_INET
            case .ipv6: AF_INET6
            case nil: AF_UNSPEC
            }
        var list: UnsafeMutablePointer<addrinfo>?
        let result = unsafe getaddrinfo(host, String(port), &hints, &list)
        guard result == 0 else {
            throw ResolutionError(host: host ?? "*", reason: unsafe String(cString: gai_strerror(result)))
        }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = unsafe list
        while let entry = unsafe next {
            if let address = unsafe SocketAddress(entry.pointee.ai_addr), !addresses.contains(address) {
                addresses.append(address)
            }
            unsafe next = entry.pointee.ai_next
        }
        return addresses
    }

    /// The addresses that a network interface has, or nil where there is none of that name, in any case. The
    /// corresponding C function is `getifaddrs`.
    package static func addresses(ofInterface name: String, port: UInt16) throws(SystemError) -> [SocketAddress]? {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&list) == 0 else { throw SystemError(errno, during: "getifaddrs") }
        defer { unsafe freeifaddrs(list) }
        var addresses: [SocketAddress]?
        var next = unsafe list
        while let entry = unsafe next {
            if unsafe strcasecmp(entry.pointee.ifa_name, name) == 0 {
                // An interface that is down, or without an address, is listed too.
                let address = unsafe entry.pointee.ifa_addr.flatMap { unsafe SocketAddress($0) }
                addresses = (addresses ?? []) + [address].compactMap { $0?.with(port: port) }
            }
            unsafe next = entry.pointee.ifa_next
        }
        return addresses
    }
}

/// A host name that nobody knows.
package struct ResolutionError: Error, CustomStringConvertible {
    package let host: String
    package let reason: String
    package var description: String { "\(host): \(reason)" }
}
