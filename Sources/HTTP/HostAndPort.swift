/// What `Host`, a target or an origin names: a name or an address, and perhaps a port (RFC 3986, 3.2).
package struct HostAndPort: Hashable, Sendable {
    /// In lower case; an IPv6 address without its brackets.
    package let host: String
    package let port: UInt16?

    package init?(_ text: some StringProtocol) {
        // Before lowercased(), which makes a 'k' of the Kelvin sign.
        guard text.utf8.allSatisfy({ $0 < 128 }) else { return nil }
        let isLower = !text.utf8.contains { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) }
        let text = isLower ? String(text) : text.lowercased()
        let (host, rest): (Substring, Substring)
        if text.utf8.first == UInt8(ascii: "[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<end]
            rest = text[text.index(after: end)...]
            guard host.contains(":"), host.utf8.allSatisfy({ $0.isHexadecimal || $0 == 0x3A || $0 == 0x2E }) else {
                return nil
            }
        } else {
            let end = text.utf8.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
            (host, rest) = (text[..<end], text[end...])
            guard !host.isEmpty, host.utf8.count <= 253,
                host.utf8.allSatisfy({ $0.isTokenCharacter && !"!#$%&'*+^`|".utf8.contains($0) })
            else { return nil }
        }
        self.host = String(host)
        guard !rest.isEmpty else {
            port = nil
            return
        }
        let digits = rest.dropFirst()
        guard rest.utf8.first == UInt8(ascii: ":"), digits.utf8.allSatisfy(\.isDigit) else { return nil }
        guard !digits.isEmpty else {
            port = nil
            return
        }
        guard let number = UInt16(digits) else { return nil }
        port = number
    }

    /// Whether it names this machine and no other: what a page of another site can't make a browser say of it.
    package var isLoopback: Bool {
        host == "localhost" || host.hasSuffix(".localhost") || host == "::1" || Self.isLoopbackIPv4(host)
    }

    private static func isLoopbackIPv4(_ host: String) -> Bool {
        guard host.utf8.starts(with: "127.".utf8) else { return false }
        let parts = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { !$0.isEmpty && $0.allSatisfy(\.isDigit) && UInt8(Substring($0)) != nil }
    }
}

/// A page's site as browsers name it (RFC 6454): `https://example.org:8443`.
package struct Origin: Hashable, Sendable {
    package let scheme: String
    package let host: String
    package let port: UInt16

    /// Nil: `null`, which is everybody's, and whatever is none.
    package init?(_ text: some StringProtocol) {
        let lower = text.lowercased()
        guard let scheme = ["http", "https"].first(where: { lower.hasPrefix($0 + "://") }),
            let place = HostAndPort(text.dropFirst(scheme.count + 3))
        else { return nil }
        self.init(scheme: scheme, place)
    }

    package init(scheme: String, _ place: HostAndPort) {
        self.scheme = scheme
        host = place.host
        port = place.port ?? (scheme == "https" ? 443 : 80)
    }
}

extension UInt8 {
    var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }

    var isHexadecimal: Bool {
        isDigit || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(self | 0x20)
    }
}
