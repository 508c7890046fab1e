import Glibc

/// What a proxy says first about the client it speaks for: the PROXY protocol, versions 1 and 2
/// (haproxy.org/download/2.9/doc/proxy-protocol.txt, whose sections are cited).
package struct ProxyHeader: Sendable, Equatable {
    package enum Version: Int, Sendable, CaseIterable {
        /// A line of text.
        case version1 = 1
        /// Bytes.
        case version2 = 2
    }

    /// What a proxy says about the TLS that it has taken off (2.2.6).
    package struct TLS: Sendable, Equatable {
        /// The client came over TLS.
        package var isUsed: Bool
        /// It has shown a certificate, in this connection or in one of the same TLS session.
        package var hasCertificate: Bool
        /// The certificate, or that there was none, was all right with the proxy.
        package var isVerified: Bool
    }

    /// Nil where the proxy speaks for itself, as in a health check, or does not say for whom.
    package var client: SocketAddress?
    package var tls: TLS?
    /// Bytes; behind them MQTT begins.
    package var length: Int

    /// Bytes of the longest header that is taken. Version 1 has no longer one (2.1); the parts of one of version 2 that
    /// are of no interest here could make it 65,551 bytes, kept for somebody who has not signed in.
    package static func mostBytes(of version: Version) -> Int { version == .version1 ? 107 : 4096 }

    /// The header at the beginning of `bytes`, everything that has come so far; nil while it may be one and more has to
    /// come.
    package init?(_ bytes: Span<UInt8>, _ version: Version) throws(MalformedProxyHeader) {
        let header =
            switch version {
            case .version1: try Self.line(bytes)
            case .version2: try Self.binary(bytes)
            }
        guard let header else { return nil }
        self = header
    }

    private init(client: SocketAddress?, length: Int) {
        self.client = client
        self.length = length
    }
}

/// Why something is no PROXY header that a server could believe.
package enum MalformedProxyHeader: Error, Equatable, CustomStringConvertible {
    case notAHeader(ProxyHeader.Version)
    case tooLong(most: Int)
    case badLine
    case badAddress
    case badPort
    case unknownVersion(UInt8)
    case unknownCommand(UInt8)
    case unknownProtocol(UInt8)
    case addressCut
    case badPart
    case wrongChecksum

    package var description: String {
        switch self {
        case .notAHeader(let version): "no PROXY header of version \(version.rawValue)"
        case .tooLong(let most): "longer than \(most) bytes"
        case .badLine: "not PROXY, protocol, two addresses and two ports, with one space between them, and CR LF"
        case .badAddress: "an address that is none of its protocol's"
        case .badPort: "a port that is no number from 0 to 65535"
        case .unknownVersion(let version): "version \(version)"
        case .unknownCommand(let command): "command \(command)"
        case .unknownProtocol(let byte):
            "address family and protocol 0x\(byte < 16 ? "0" : "")\(String(byte, radix: 16))"
        case .addressCut: "too short for its addresses"
        case .badPart: "a part behind the addresses is not whole, or is there twice"
        case .wrongChecksum: "the checksum is wrong"
        }
    }
}

// MARK: - Version 1

extension ProxyHeader {
    private static let lineStart = Array("PROXY ".utf8)

    /// 2.1: `PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883`, CR LF.
    private static func line(_ bytes: Span<UInt8>) throws(MalformedProxyHeader) -> ProxyHeader? {
        guard begins(bytes, with: lineStart.span) else { throw .notAHeader(.version1) }
        let most = mostBytes(of: .version1)
        var end = 0
        while end < min(bytes.count, most), bytes[end] != carriageReturn { end += 1 }
        guard end + 1 < most else { throw .tooLong(most: most) }
        guard end + 1 < bytes.count else { return nil }
        guard bytes[end + 1] == lineFeed else { throw .badLine }
        let fields = bytes.extracting(0..<end).copiedBytes.split(separator: space, omittingEmptySubsequences: false)
        var header = ProxyHeader(client: nil, length: end + 2)
        switch String(decoding: fields[1], as: UTF8.self) {
        case "TCP4": header.client = try client(fields, .ipv4)
        case "TCP6": header.client = try client(fields, .ipv6)
        case "UNKNOWN": break  // "The receiver must ignore anything presented before the CRLF is found."
        default: throw .badLine
        }
        return header
    }

    /// The first address and port; the others, where the client had connected to, have to be right too.
    private static func client(
        _ fields: [ArraySlice<UInt8>], _ version: SocketAddress.Version
    ) throws(MalformedProxyHeader) -> SocketAddress {
        guard fields.count == 6 else { throw .badLine }
        let (port, serverPort) = (decimal(fields[4]), decimal(fields[5]))
        guard let port, serverPort != nil else { throw .badPort }
        guard let address = SocketAddress(text: fields[2], version, port: port),
            SocketAddress(text: fields[3], version, port: 0) != nil
        else { throw .badAddress }
        return address
    }

    private static func decimal(_ text: ArraySlice<UInt8>) -> UInt16? {
        guard let first = text.first, text.count == 1 || first != UInt8(ascii: "0"),
            text.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        return UInt16(String(decoding: text, as: UTF8.self))
    }

    private static let (carriageReturn, lineFeed, space) = (UInt8(0x0D), UInt8(0x0A), UInt8(0x20))
}

extension SocketAddress {
    /// An address as people write it, without its port. The corresponding C function is `inet_pton`.
    fileprivate init?(text: ArraySlice<UInt8>, _ version: Version, port: UInt16) {
        guard !text.contains(0) else { return nil }  // C would stop there.
        let string = String(decoding: text, as: UTF8.self)
        switch version {
        case .ipv4:
            var address = in_addr()
            guard unsafe inet_pton(AF_INET, string, &address) == 1 else { return nil }
            self.init(ipv4: UInt32(bigEndian: address.s_addr), port: port)
        case .ipv6:
            var bytes = [UInt8](repeating: 0, count: MemoryLayout<in6_addr>.size)
            guard unsafe inet_pton(AF_INET6, string, &bytes) == 1 else { return nil }
            self.init(ipv6: bytes.span, port: port)
        }
    }
}

// MARK: - Version 2

extension ProxyHeader {
    private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
    private static let fixedBytes = 16
    /// AF_UNIX: two paths of this length, filled up with NUL.
    private static let pathBytes = 108

    /// 2.2: the signature, version and command, family and protocol, the length of the rest; addresses; parts.
    private static func binary(_ bytes: Span<UInt8>) throws(MalformedProxyHeader) -> ProxyHeader? {
        guard begins(bytes, with: signature.span) else { throw .notAHeader(.version2) }
        guard bytes.count >= fixedBytes else { return nil }
        let (version, command) = (bytes[12] >> 4, bytes[12] & 0x0F)
        guard version == 2 else { throw .unknownVersion(version) }
        guard command <= 1 else { throw .unknownCommand(command) }
        let length = fixedBytes + bytes.number(of: 2, at: 14)
        let most = mostBytes(of: .version2)
        guard length <= most else { throw .tooLong(most: most) }
        // LOCAL: the proxy itself, whatever stands in the rest.
        let addressBytes = command == 0 ? 0 : try addressBytes(bytes[13])
        guard length >= fixedBytes + addressBytes else { throw .addressCut }
        guard bytes.count >= length else { return nil }
        let whole = bytes.extracting(0..<length)
        var header = ProxyHeader(client: nil, length: length)
        guard command == 1 else { return header }
        header.client = client(whole, bytes[13])
        try header.readParts(whole, from: fixedBytes + addressBytes)
        return header
    }

    /// Of both addresses and ports. Datagrams carry no MQTT.
    private static func addressBytes(_ familyAndProtocol: UInt8) throws(MalformedProxyHeader) -> Int {
        switch familyAndProtocol {
        case 0x00: 0
        case 0x11: 12
        case 0x21: 36
        case 0x31: 2 * pathBytes
        default: throw .unknownProtocol(familyAndProtocol)
        }
    }

    private static func client(_ header: Span<UInt8>, _ familyAndProtocol: UInt8) -> SocketAddress? {
        let start = fixedBytes
        switch familyAndProtocol {
        case 0x11:
            return SocketAddress(
                ipv4: UInt32(header.number(of: 4, at: start)), port: UInt16(header.number(of: 2, at: start + 8)))
        case 0x21:
            return SocketAddress(
                ipv6: header.extracting(start..<(start + 16)), port: UInt16(header.number(of: 2, at: start + 32)))
        case 0x31:
            let path = header.extracting(start..<(start + pathBytes)).copiedBytes
            // What is no UTF-8 gets longer as text, which is only for people here.
            return SocketAddress(path: String(decoding: path.prefix { $0 != 0 }, as: UTF8.self))
        default: return nil
        }
    }

    // MARK: Parts

    private enum PartType {
        static let checksum: UInt8 = 0x03
        static let tls: UInt8 = 0x20
    }

    /// 2.2.1 and on: type, length of two bytes, value.
    private mutating func readParts(_ header: Span<UInt8>, from start: Int) throws(MalformedProxyHeader) {
        var offset = start
        var hasChecksum = false
        while let (type, value) = try Self.part(header, at: &offset) {
            switch type {
            case PartType.checksum:
                guard !hasChecksum, value.count == 4 else { throw .badPart }
                hasChecksum = true
                let expected = UInt32(header.number(of: 4, at: value.lowerBound))
                guard Self.checksum(header, without: value) == expected else { throw .wrongChecksum }
            case PartType.tls:
                guard tls == nil, value.count >= 5 else { throw .badPart }
                // Parts of its own follow, about the certificate and the cipher.
                var inner = value.lowerBound + 5
                let whole = header.extracting(0..<value.upperBound)
                while try Self.part(whole, at: &inner) != nil {}
                let client = header[value.lowerBound]
                let verification = header.number(of: 4, at: value.lowerBound + 1)
                tls = TLS(
                    isUsed: client & 0x01 != 0, hasCertificate: client & 0x06 != 0, isVerified: verification == 0)
            default: break
            }
        }
    }

    /// The part at `offset`, which steps past it; nil at the end.
    private static func part(
        _ bytes: Span<UInt8>, at offset: inout Int
    ) throws(MalformedProxyHeader) -> (type: UInt8, value: Range<Int>)? {
        guard offset < bytes.count else { return nil }
        guard offset + 3 <= bytes.count else { throw .badPart }
        let start = offset + 3
        let end = start + bytes.number(of: 2, at: offset + 1)
        guard end <= bytes.count else { throw .badPart }
        defer { offset = end }
        return (bytes[offset], start..<end)
    }

    /// CRC32c (RFC 4960, appendix B) of the header, its own four bytes taken as 0 (2.2.3).
    static func checksum(_ header: Span<UInt8>, without own: Range<Int>) -> UInt32 {
        var sum = UInt32.max
        for index in header.indices {
            sum ^= own.contains(index) ? 0 : UInt32(header[index])
            for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0x82F6_3B78 : 0) }
        }
        return ~sum
    }

    /// Whether the bytes that have come are those of `start`, as far as both go.
    private static func begins(_ bytes: Span<UInt8>, with start: Span<UInt8>) -> Bool {
        for index in 0..<min(bytes.count, start.count) where bytes[index] != start[index] { return false }
        return true
    }
}

extension Span<UInt8> {
    /// An integer of so many bytes, most significant first.
    fileprivate func number(of count: Int, at offset: Int) -> Int {
        var value = 0
        for index in offset..<(offset + count) { value = value << 8 | Int(self[index]) }
        return value
    }

    fileprivate var copiedBytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        for index in indices { bytes.append(self[index]) }
        return bytes
    }
}
