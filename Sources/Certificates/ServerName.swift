internal import Glibc

/// A name that clients call a server by, and look for in its certificate (RFC 5280, 4.2.1.6).
package enum ServerName: Hashable, Sendable, CustomStringConvertible {
    /// Lower case; the first label may be `*`.
    case host(String)
    /// Four octets or sixteen.
    case address([UInt8])

    /// Nil where it is neither an address nor the name of a host: labels of 1 to 63 letters, digits, `-` and `_`, 253
    /// bytes in all.
    package init?(_ text: String) {
        if let address = Self.parseAddress(text) {
            self = .address(address)
            return
        }
        let name = text.lowercased()
        var labels = name.split(separator: ".", omittingEmptySubsequences: false)[...]
        if labels.first == "*", labels.count > 2 { labels = labels.dropFirst() }
        let isName = labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.utf8.allSatisfy(Self.isAllowed)
        }
        // Nothing but digits and dots is a mistyped address.
        guard isName, name.utf8.count <= 253, !(labels.last ?? "").allSatisfy(\.isNumber) else { return nil }
        self = .host(name)
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"):
            true
        default: false
        }
    }

    /// The corresponding C function is `inet_pton`.
    private static func parseAddress(_ text: String) -> [UInt8]? {
        for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: count)
            if unsafe inet_pton(family, text, &bytes) == 1 { return bytes }
        }
        return nil
    }

    /// As a person writes it. The corresponding C function is `inet_ntop`.
    package var description: String {
        switch self {
        case .host(let name): return name
        case .address(let bytes):
            var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            let family = bytes.count == 4 ? AF_INET : AF_INET6
            guard unsafe inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else {
                preconditionFailure("an address has 4 octets or 16")
            }
            return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
    }

    /// As OpenSSL's configuration has it. No name holds a comma or a line break.
    var extensionText: String {
        switch self {
        case .host: "DNS:\(self)"
        case .address: "IP:\(self)"
        }
    }
}
