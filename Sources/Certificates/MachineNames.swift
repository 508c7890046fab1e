internal import Glibc

extension ServerName {
    /// The most addresses of the machine that go into a certificate: each costs every device memory in its handshake.
    private static let mostAddresses = 24

    /// What this machine is called, the same first: localhost, its name and what mDNS makes of it, the loopback's
    /// addresses, and those of its interfaces. Not among them: link-local addresses, which say nothing without their
    /// interface, and IPv6's temporary ones, which change by the day.
    package static func ofThisMachine() -> [ServerName] {
        var names: [ServerName] = [.host("localhost")]
        let host = hostName().lowercased()
        let short = host.split(separator: ".").first.map(String.init) ?? ""
        for name in [host, short.isEmpty ? "" : "\(short).local"] where name != "localhost.local" {
            if !name.isEmpty, let name = ServerName(name), case .host = name { names.append(name) }
        }
        names += [.address([127, 0, 0, 1]), .address([UInt8](repeating: 0, count: 15) + [1])]
        let addresses = interfaceAddresses().sorted { one, other in
            one.count == other.count ? one.lexicographicallyPrecedes(other) : one.count < other.count
        }
        names += addresses.prefix(mostAddresses).map { .address($0) }
        var seen: Set<ServerName> = []
        return names.filter { seen.insert($0).inserted }
    }

    /// The corresponding C function is `gethostname`.
    private static func hostName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return "" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The corresponding C function is `getifaddrs`.
    private static func interfaceAddresses() -> [[UInt8]] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&first) == 0 else { return [] }
        defer { unsafe freeifaddrs(first) }
        let passing = passingAddresses()
        var addresses: [[UInt8]] = []
        var next = unsafe first
        while let interface = unsafe next {
            unsafe next = interface.pointee.ifa_next
            guard unsafe interface.pointee.ifa_flags & UInt32(IFF_UP) != 0,
                let address = unsafe interface.pointee.ifa_addr
            else { continue }
            switch unsafe CInt(address.pointee.sa_family) {
            case AF_INET:
                let bytes = unsafe UnsafeRawPointer(address).loadUnaligned(as: sockaddr_in.self).sin_addr
                addresses.append(unsafe withUnsafeBytes(of: bytes) { unsafe Array($0) })
            case AF_INET6:
                let value = unsafe UnsafeRawPointer(address).loadUnaligned(as: sockaddr_in6.self).sin6_addr
                let bytes = unsafe withUnsafeBytes(of: value) { unsafe Array($0) }
                let isLinkLocal = bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
                if !isLinkLocal, !passing.contains(bytes) { addresses.append(bytes) }
            default: continue
            }
        }
        return addresses
    }

    /// IPv6 addresses that the kernel calls temporary, deprecated or tentative: each line of `/proc/net/if_inet6` has the
    /// address, the interface, the length of the prefix, the scope and the flags in hexadecimal, and a name.
    private static func passingAddresses() -> Set<[UInt8]> {
        let text = (try? contents(of: "/proc/net/if_inet6", limit: 1 << 20)) ?? nil
        var passing: Set<[UInt8]> = []
        for line in String(decoding: text ?? [], as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count >= 5, let flags = UInt32(fields[4], radix: 16), flags & (0x01 | 0x20 | 0x40) != 0 else {
                continue
            }
            let digits = fields[0].compactMap { $0.hexDigitValue.map(UInt8.init) }
            guard digits.count == 32 else { continue }
            passing.insert(stride(from: 0, to: 32, by: 2).map { digits[$0] << 4 | digits[$0 + 1] })
        }
        return passing
    }
}
