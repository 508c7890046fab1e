package import HTTPTypes

/// Addresses whose word counts about who is behind them (`trusted_proxies`): `ADDRESS` or `ADDRESS/BITS`.
package struct TrustedProxies: Sendable, Equatable {
    private struct Network: Sendable, Equatable {
        let address: [UInt8]
        let bits: Int

        func contains(_ other: [UInt8]) -> Bool {
            guard other.count == address.count else { return false }
            for index in address.indices {
                let left = bits - index * 8
                guard left > 0 else { return true }
                let mask: UInt8 = left >= 8 ? 0xFF : ~(0xFF >> UInt8(left))
                guard address[index] & mask == other[index] & mask else { return false }
            }
            return true
        }
    }

    private let networks: [Network]

    /// `parse`: an address's 4 or 16 bytes; nil where it is none. Entries that are none are left out.
    package init(_ entries: [String], parse: (String) -> [UInt8]?) {
        networks = entries.compactMap { entry in
            let parts = entry.split(separator: "/", maxSplits: 1)
            guard let address = parts.first.flatMap({ parse(String($0)) }) else { return nil }
            guard entry.contains("/") else { return Network(address: address, bits: address.count * 8) }
            guard parts.count == 2, parts[1].utf8.allSatisfy(\.isDigit), let bits = Int(parts[1]),
                bits <= address.count * 8
            else { return nil }
            return Network(address: address, bits: bits)
        }
    }

    /// An IPv4 address in IPv6's form is itself.
    package func contains(_ address: [UInt8]) -> Bool {
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
        let plain = address.count == 16 && address.starts(with: mapped) ? Array(address.suffix(4)) : address
        return networks.contains { $0.contains(plain) }
    }
}

/// Whether somebody stands between: then the address that connected is not the one that asks.
package func isForwarded(_ fields: HTTPFields) -> Bool {
    [.forwarded, .xForwardedFor, .xForwardedHost, .xForwardedProto, .xRealIP, .via].contains { fields[$0] != nil }
}

/// The address that a request comes from as far as proxies are to be trusted: the last of `X-Forwarded-For` that is not one
/// of them. Nil: none is named.
package func forwardedAddress(
    _ fields: HTTPFields, trusting proxies: TrustedProxies, parse: (String) -> [UInt8]?
) -> (text: String, bytes: [UInt8])? {
    guard let value = fields[.xForwardedFor] else { return nil }
    var found: (String, [UInt8])?
    for part in tokens(value).reversed() {
        guard let place = address(part), let bytes = parse(place) else { break }
        found = (place, bytes)
        if !proxies.contains(bytes) { break }
    }
    return found
}

/// Without brackets or a port, which some proxies add.
private func address(_ text: String) -> String? {
    if text.split(separator: ":", omittingEmptySubsequences: false).count > 2, !text.hasPrefix("[") { return text }
    return HostAndPort(text)?.host
}

extension HTTPField.Name {
    /// In HTTP/2 it is no field, so the library hides its own.
    static let hostField = name("Host")
    static let forwarded = name("Forwarded")
    package static let xForwardedFor = name("X-Forwarded-For")
    static let xForwardedHost = name("X-Forwarded-Host")
    static let xForwardedProto = name("X-Forwarded-Proto")
    static let xRealIP = name("X-Real-IP")
    static let via = name("Via")
    package static let frameOptions = name("X-Frame-Options")
    package static let referrerPolicy = name("Referrer-Policy")
    package static let crossOriginResourcePolicy = name("Cross-Origin-Resource-Policy")

    private static func name(_ text: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(text) else { preconditionFailure("\(text) is a field's name") }
        return name
    }
}
