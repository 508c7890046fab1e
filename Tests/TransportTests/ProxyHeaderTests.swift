import Seeded
import Testing
import Transport

/// Headers as bytes, written from the specification.
enum Header {
    static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]

    static func version2(
        command: UInt8 = 0x21, _ family: UInt8, _ rest: [UInt8], length: Int? = nil
    ) -> [UInt8] {
        let length = length ?? rest.count
        return signature + [command, family, UInt8(length >> 8), UInt8(length & 0xff)] + rest
    }

    /// 192.0.2.1:56324 to 192.0.2.9:1883.
    static let ipv4: [UInt8] = [192, 0, 2, 1, 192, 0, 2, 9, 0xDC, 0x04, 0x07, 0x5B]
    /// CRC32c of the header of these addresses and the checksum, computed by another program.
    static let ipv4Checksum: [UInt8] = [0x1B, 0x67, 0x4C, 0xE3]
    /// 2001:db8::1 port 4000 to 2001:db8::2 port 1883.
    static let ipv6: [UInt8] =
        [0x20, 1, 0x0D, 0xB8] + zeros(11) + [1] + [0x20, 1, 0x0D, 0xB8] + zeros(11) + [2] + [0x0F, 0xA0, 7, 0x5B]

    static func path(_ text: String) -> [UInt8] { Array(text.utf8) + zeros(108 - text.utf8.count) }
    static func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

    static func part(_ type: UInt8, _ value: [UInt8]) -> [UInt8] {
        [type, UInt8(value.count >> 8), UInt8(value.count & 0xff)] + value
    }

    static func tls(_ client: UInt8, verification: UInt8 = 0, _ parts: [UInt8] = []) -> [UInt8] {
        part(0x20, [client, 0, 0, 0, verification] + parts)
    }

    /// Headers that are whole and right.
    static let corpus: [(ProxyHeader.Version, [UInt8])] =
        lines.map { (.version1, Array($0.utf8)) }
        + [
            version2(0x11, ipv4), version2(0x21, ipv6), version2(0x31, path("/run/a") + path("/run/b")),
            version2(0x00, []), version2(command: 0x20, 0x00, []), version2(command: 0x20, 0x11, ipv4),
            version2(0x11, ipv4 + part(0x04, zeros(20)) + tls(0x07, part(0x21, Array("TLSv1.3".utf8)))),
            version2(0x11, ipv4 + part(0x03, ipv4Checksum)), version2(0x00, tls(1)),
        ].map { (.version2, $0) }

    static let lines = [
        "PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n", "PROXY TCP6 2001:db8::1 2001:db8::2 4000 1883\r\n",
        "PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f::1 anything 0 \r\n",
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    ]
}

private func decode(_ bytes: [UInt8], _ version: ProxyHeader.Version) throws(MalformedProxyHeader) -> ProxyHeader? {
    try ProxyHeader(bytes.span, version)
}

private func refusal(_ bytes: [UInt8], _ version: ProxyHeader.Version) -> MalformedProxyHeader? {
    do throws(MalformedProxyHeader) {
        _ = try decode(bytes, version)
        return nil
    } catch { return error }
}

@Suite struct `A PROXY header` {
    // MARK: Version 1

    @Test(
        arguments: zip(
            Header.lines, ["192.0.2.1:56324", "[2001:db8::1]:4000", nil, nil, "255.255.255.255:65535", nil]))
    func `of version 1 names the client or nobody`(_ line: String, _ client: String?) throws {
        let header = try #require(try decode(Array((line + "\u{10}more").utf8), .version1))
        #expect(header.client.map { "\($0)" } == client)
        #expect(header.length == line.utf8.count)
        #expect(header.tls == nil)
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\n", .notAHeader(.version1)), ("\u{10}\u{10}", .notAHeader(.version1)),
            ("proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", .notAHeader(.version1)), ("PROXYTCP4", .notAHeader(.version1)),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\r", .badLine), ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", .badLine),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1  1\r\n", .badLine), ("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", .badLine),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", .badLine), ("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", .badLine),
            ("PROXY \r\n", .badLine), ("PROXY TCP4\r\n", .badLine),
            ("PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", .badAddress), ("PROXY TCP4 ::1 ::1 1 1\r\n", .badAddress),
            ("PROXY TCP4 1.1.1.1 1.1.1.256 1 1\r\n", .badAddress), ("PROXY TCP6 1.1.1.1 ::1 1 1\r\n", .badAddress),
            ("PROXY TCP6 ::1%lo ::1 1 1\r\n", .badAddress), ("PROXY TCP4 1.1.1.1\0 1.1.1.1 1 1\r\n", .badAddress),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", .badPort), ("PROXY TCP4 1.1.1.1 1.1.1.1 1 -1\r\n", .badPort),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", .badPort), ("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", .badPort),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 x\r\n", .badPort),
            ("PROXY UNKNOWN \(String(repeating: "x", count: 92))\r\n", .tooLong(most: 107)),
            ("PROXY UNKNOWN \(String(repeating: "x", count: 92))", .tooLong(most: 107)),
        ] as [(String, MalformedProxyHeader)])
    func `of version 1 that is wrong is refused`(_ line: String, _ reason: MalformedProxyHeader) {
        #expect(refusal(Array(line.utf8), .version1) == reason)
    }

    @Test func `of version 1 may have 107 bytes`() throws {
        let line = "PROXY UNKNOWN \(String(repeating: "x", count: 91))\r\n"
        #expect(line.utf8.count == 107)
        #expect(try decode(Array(line.utf8), .version1)?.length == 107)
    }

    // MARK: Version 2

    @Test(
        arguments: [
            (Header.version2(0x11, Header.ipv4), "192.0.2.1:56324"),
            (Header.version2(0x21, Header.ipv6), "[2001:db8::1]:4000"),
            (Header.version2(0x31, Header.path("/run/a.sock") + Header.path("/run/b")), "/run/a.sock"),
            (Header.version2(0x31, Header.path("") + Header.path("/run/b")), "unix"),
            (Header.version2(0x31, [UInt8](repeating: 0x61, count: 216)), String(repeating: "a", count: 108)),
            (Header.version2(0x00, []), nil),
            // LOCAL: whatever else it says.
            (Header.version2(command: 0x20, 0x00, []), nil), (Header.version2(command: 0x20, 0x11, Header.ipv4), nil),
            (Header.version2(command: 0x20, 0xFF, [1, 2, 3]), nil),
        ] as [([UInt8], String?)])
    func `of version 2 names the client or nobody`(_ bytes: [UInt8], _ client: String?) throws {
        let header = try #require(try decode(bytes + [0x10], .version2))
        #expect(header.client.map { "\($0)" } == client)
        #expect(header.length == bytes.count)
    }

    @Test(
        arguments: [
            (Array("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n".utf8), .notAHeader(.version2)),
            ([0x10, 0x0C], .notAHeader(.version2)), ([0x0D, 0x0A, 0x0A], .notAHeader(.version2)),
            (Header.version2(command: 0x11, 0x11, Header.ipv4), .unknownVersion(1)),
            (Header.version2(command: 0x31, 0x11, Header.ipv4), .unknownVersion(3)),
            (Header.version2(command: 0x22, 0x11, Header.ipv4), .unknownCommand(2)),
            (Header.version2(0x12, Header.ipv4), .unknownProtocol(0x12)),
            (Header.version2(0x22, Header.ipv6), .unknownProtocol(0x22)),
            (Header.version2(0x32, Header.zeros(216)), .unknownProtocol(0x32)),
            (Header.version2(0x01, []), .unknownProtocol(0x01)), (Header.version2(0x41, []), .unknownProtocol(0x41)),
            (Header.version2(0x11, Array(Header.ipv4.dropLast())), .addressCut),
            (Header.version2(0x21, Header.ipv4), .addressCut), (Header.version2(0x31, Header.zeros(215)), .addressCut),
            (Header.version2(0x11, Header.ipv4, length: 4081), .tooLong(most: 4096)),
            (Header.version2(command: 0x20, 0x00, [], length: 65_535), .tooLong(most: 4096)),
            (Header.version2(0x11, Header.ipv4 + [1]), .badPart),
            (Header.version2(0x11, Header.ipv4 + [1, 0]), .badPart),
            (Header.version2(0x11, Header.ipv4 + [1, 0, 1]), .badPart),
            (Header.version2(0x11, Header.ipv4 + Header.part(0x20, [1, 0, 0, 0])), .badPart),
            (Header.version2(0x11, Header.ipv4 + Header.tls(1, [0x21, 0, 9])), .badPart),
            (Header.version2(0x11, Header.ipv4 + Header.tls(0) + Header.tls(1)), .badPart),
            (Header.version2(0x11, Header.ipv4 + Header.part(0x03, [0, 0])), .badPart),
            (Header.version2(0x11, Header.ipv4 + Header.part(0x03, [1, 2, 3, 4])), .wrongChecksum),
        ] as [([UInt8], MalformedProxyHeader)])
    func `of version 2 that is wrong is refused`(_ bytes: [UInt8], _ reason: MalformedProxyHeader) {
        #expect(refusal(bytes, .version2) == reason)
    }

    @Test func `of version 2 may have 4096 bytes`() throws {
        let bytes = Header.version2(0x11, Header.ipv4 + Header.part(0x04, Header.zeros(4096 - 16 - 12 - 3)))
        #expect(try decode(bytes, .version2)?.length == 4096)
        #expect(try decode(Array(bytes.dropLast()), .version2) == nil)
    }

    @Test(
        arguments: [
            (0x00, 0, [false, false, true]),
            (0x01, 0, [true, false, true]),
            (0x03, 0, [true, true, true]),
            (0x05, 0, [true, true, true]),
            (0x07, 1, [true, true, false]),
        ] as [(UInt8, UInt8, [Bool])])
    func `of version 2 tells of the TLS that the proxy took off`(
        _ client: UInt8, _ verification: UInt8, _ expected: [Bool]
    ) throws {
        let parts = Header.part(0x21, Array("TLSv1.3".utf8)) + Header.part(0x22, Array("device-7".utf8))
        for (family, address) in [(UInt8(0x11), Header.ipv4), (0x21, Header.ipv6), (0x00, [])] {
            let bytes = Header.version2(
                family, address + Header.part(0x04, []) + Header.tls(client, verification: verification, parts))
            let tls = try #require(try decode(bytes, .version2)?.tls)
            #expect([tls.isUsed, tls.hasCertificate, tls.isVerified] == expected)
        }
        let local = Header.version2(command: 0x20, 0x11, Header.ipv4 + Header.tls(client))
        #expect(try decode(local, .version2)?.tls == nil)
    }

    @Test func `of version 2 may carry its checksum`() throws {
        let bytes = Header.version2(0x11, Header.ipv4 + Header.part(0x03, Header.ipv4Checksum))
        #expect(try decode(bytes, .version2)?.length == bytes.count)
        for bit in 0..<8 {
            var damaged = bytes
            damaged[17] ^= 1 << bit
            #expect(refusal(damaged, .version2) == .wrongChecksum)
        }
    }

    // MARK: Both

    @Test(arguments: Header.corpus.indices) func `is awaited byte by byte`(_ index: Int) throws {
        let (version, bytes) = Header.corpus[index]
        let whole = try? decode(bytes, version)
        for count in 0..<bytes.count {
            #expect(try decode(Array(bytes.prefix(count)), version) == nil, "\(count) bytes")
        }
        for more in [[], [0x10], bytes] { #expect((try? decode(bytes + more, version)) == whole) }
    }

    /// Whatever comes: no trap, the same for what comes in pieces, and never longer than it may be.
    @Test(arguments: [1, 2, 3, 4] as [UInt64]) func `of any bytes is decided in time`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<20_000 {
            var (version, bytes) = generator.element(of: Header.corpus)
            if generator.happens(5) { version = version == .version1 ? .version2 : .version1 }
            for _ in 0..<generator.below(4) { mutate(&bytes, &generator) }
            let count = bytes.count
            let (header, error) = outcome(bytes, version)
            if let header {
                #expect(header.length <= count && header.length <= ProxyHeader.mostBytes(of: version))
                #expect(outcome(Array(bytes.prefix(header.length)), version).header == header)
            } else if error == nil {
                #expect(count < ProxyHeader.mostBytes(of: version), "seed \(seed): undecided for ever")
            }
            // A part of it comes to the same, or to nothing yet.
            let part = outcome(Array(bytes.prefix(generator.below(count + 1))), version)
            if let early = part.header { #expect(early == header) }
            if let early = part.error { #expect(early == error) }
        }
    }

    private func outcome(
        _ bytes: [UInt8], _ version: ProxyHeader.Version
    ) -> (header: ProxyHeader?, error: MalformedProxyHeader?) {
        do throws(MalformedProxyHeader) { return (try decode(bytes, version), nil) } catch { return (nil, error) }
    }

    private func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        let place = generator.below(bytes.count + 1)
        switch generator.below(6) {
        case 0 where place < bytes.count: bytes[place] ^= 1 << generator.below(8)
        case 1 where place < bytes.count: bytes[place] = UInt8(truncatingIfNeeded: generator.next())
        case 2 where place < bytes.count: bytes.remove(at: place)
        case 3: bytes.insert(UInt8(truncatingIfNeeded: generator.next()), at: place)
        case 4: bytes.removeLast(generator.below(bytes.count + 1))
        default: bytes.insert(contentsOf: [UInt8](repeating: 0x20, count: generator.below(300)), at: place)
        }
    }
}
