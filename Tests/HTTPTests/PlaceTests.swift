import HTTP
import HTTPTypes
import Testing

@Suite struct `A host and a port` {
    @Test(
        arguments: [
            ("a", "a", nil), ("A.Example:80", "a.example", 80), ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]", "::1", nil),
            ("[2001:DB8::1]:8443", "2001:db8::1", 8443), ("a:", "a", nil), ("[::ffff:1.2.3.4]:1", "::ffff:1.2.3.4", 1),
            ("a_b-c.d~", "a_b-c.d~", nil), ("a:065", "a", 65),
            (String(repeating: "a", count: 253), String(repeating: "a", count: 253), nil),
        ] as [(String, String, UInt16?)])
    func `are read from a text`(_ text: String, _ host: String, _ port: UInt16?) throws {
        let place = try #require(HostAndPort(text))
        #expect(place.host == host && place.port == port)
    }

    @Test(
        arguments: [
            "", ":80", "a:b", "a:-1", "a:+1", "a:65536", "a:1:2", "::1", "[::1", "[::1]a", "[]", "[a]", "[1]", "[::g]",
            "a b", "a/b",
            "a?b", "u@a", "a,b", "a%41", "\u{e9}", "\u{212A}", "a:\u{661}", "*", "a'b",
            String(repeating: "a", count: 254),
        ])
    func `are not what is none`(_ text: String) { #expect(HostAndPort(text) == nil) }

    @Test(
        arguments: [
            ("localhost", true), ("LOCALHOST:8080", true), ("a.localhost", true), ("127.0.0.1", true),
            ("127.255.0.9:1", true),
            ("[::1]:1", true), ("localhost.example.org", false), ("127.0.0.1.example.org", false),
            ("xlocalhost", false),
            ("127.1", false), ("127.0.0.256", false), ("128.0.0.1", false), ("[::2]", false),
        ])
    func `are of this machine, or are not`(_ text: String, _ isLoopback: Bool) throws {
        #expect(try #require(HostAndPort(text)).isLoopback == isLoopback)
    }
}

@Suite struct `An origin` {
    @Test(
        arguments: [
            ("https://a", "https://A:443"), ("http://a", "HTTP://a:80"), ("http://[::1]:81", "http://[::1]:81"),
        ])
    func `is the same with its scheme's own port`(_ one: String, _ other: String) {
        #expect(Origin(one) != nil && Origin(one) == Origin(other))
    }

    @Test(arguments: [("https://a", "http://a"), ("https://a", "https://a:8443"), ("https://a", "https://b")])
    func `is another with another scheme, host or port`(_ one: String, _ other: String) {
        #expect(Origin(one) != nil && Origin(other) != nil && Origin(one) != Origin(other))
    }

    @Test(arguments: [
        "null", "", "a", "https://", "file://a", "https://a/", "https://a/b", "https://u@a", "https:/a", "wss://a",
    ])
    func `is not what names no site`(_ text: String) { #expect(Origin(text) == nil) }
}

/// IPv4 in dots, and what the tests name of IPv6.
private func address(_ text: String) -> [UInt8]? {
    switch text {
    case "::1": return [UInt8](repeating: 0, count: 15) + [1]
    case "2001:db8::": return [0x20, 1, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 12)
    case "2001:db8::9": return [0x20, 1, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11) + [9]
    default:
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        return parts.count == 4 && !parts.contains(nil) ? parts.compactMap(\.self) : nil
    }
}

@Suite struct `Proxies that are trusted` {
    private func contains(_ entries: [String], _ text: String) throws -> Bool {
        TrustedProxies(entries, parse: address).contains(try #require(address(text)))
    }

    @Test(
        arguments: [
            ("10.1.2.3", "10.1.2.3", true), ("10.1.2.3", "10.1.2.4", false), ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false), ("10.1.2.128/25", "10.1.2.129", true),
            ("10.1.2.128/25", "10.1.2.127", false),
            ("10.1.2.4/31", "10.1.2.5", true), ("10.1.2.4/31", "10.1.2.6", false), ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false), ("::1", "::1", true), ("2001:db8::/32", "2001:db8::9", true),
            ("2001:db8::/32", "::1", false), ("10.1.2.3/32", "10.1.2.3", true),
            // None of these is a network.
            ("10.0.0.0/-1", "1.2.3.4", false), ("10.0.0.0/33", "10.0.0.0", false), ("10.0.0.0/", "10.0.0.0", false),
            ("10.0.0.0/x", "10.0.0.0", false), ("10.0.0/8", "10.0.0.0", false), ("", "10.0.0.0", false),
            ("10.0.0.0/+8", "10.0.0.1", false), ("10.0.0.0/8/8", "10.0.0.0", false),
        ])
    func `are named by address or network`(_ entry: String, _ text: String, _ isTrusted: Bool) throws {
        #expect(try contains([entry], text) == isTrusted)
        #expect(try contains(["192.0.2.77", entry], text) == isTrusted)
    }

    @Test func `are the same in IPv6's form of IPv4`() throws {
        let mapped: [UInt8] = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 10, 1, 2, 3]
        #expect(TrustedProxies(["10.0.0.0/8"], parse: address).contains(mapped))
        #expect(!TrustedProxies(["11.0.0.0/8"], parse: address).contains(mapped))
    }

    @Test(
        arguments: [
            ("1.2.3.4", "1.2.3.4"), ("6.6.6.6, 1.2.3.4", "1.2.3.4"), ("1.2.3.4, 10.0.0.1", "1.2.3.4"),
            ("6.6.6.6, 1.2.3.4, 10.0.0.1,10.0.0.2", "1.2.3.4"), ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
            ("1.2.3.4:5678", "1.2.3.4"), ("[::1]:5678", "::1"), ("::1", "::1"), ("unknown", nil), ("", nil),
            ("6.6.6.6, unknown", nil), ("6.6.6.6, unknown, 10.0.0.1", "10.0.0.1"), ("1.2.3.4,", "1.2.3.4"),
        ] as [(String, String?)])
    func `say for whom they speak: the last whom none of them is`(_ value: String, _ text: String?) {
        let proxies = TrustedProxies(["10.0.0.0/8"], parse: address)
        let fields: HTTPFields = [.xForwardedFor: value]
        let found = forwardedAddress(fields, trusting: proxies, parse: address)
        #expect(found?.text == text)
        #expect(found?.bytes == text.flatMap(address))
    }

    @Test func `may say it in several fields`() {
        var fields = HTTPFields()
        for value in ["6.6.6.6", "1.2.3.4, 10.0.0.3", "10.0.0.4"] {
            fields.append(HTTPField(name: .xForwardedFor, value: value))
        }
        let proxies = TrustedProxies(["10.0.0.0/8"], parse: address)
        #expect(forwardedAddress(fields, trusting: proxies, parse: address)?.text == "1.2.3.4")
        #expect(forwardedAddress([:], trusting: proxies, parse: address) == nil)
    }

    @Test(arguments: ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"])
    func `show that they stand between`(_ name: String) {
        #expect(isForwarded([HTTPField.Name(name)!: "a"]))
        #expect(!isForwarded([.host2: "a", .origin: "https://a"]))
    }
}

extension HTTPField.Name { fileprivate static let host2 = HTTPField.Name("X-Host")! }

@Suite struct `A coded text` {
    @Test(
        arguments: [
            ("", ""), ("a+b", "a+b"), ("a%2Fb%2fc", "a/b/c"), ("%C3%A9", "\u{e9}"), ("%00", "\0"), ("%25%32%35", "%25"),
            ("%", nil), ("a%2", nil), ("%zz", nil), ("%+1", nil), ("% 1", nil), ("%FF", nil), ("%C3", nil),
            ("%ED%A0%80", nil),
            ("%C0%AF", nil), ("%\u{661}1", nil),
        ] as [(String, String?)])
    func `is decoded, or is none (RFC 3986, 2.1)`(_ text: String, _ plain: String?) {
        #expect(percentDecoded(text) == plain)
    }

    @Test(
        arguments: [
            ("", []), ("a=b", ["a", "b"]), ("a=b&a=c&&d", ["a", "b", "a", "c", "d", ""]),
            ("a+b=c+d%2B", ["a b", "c d+"]),
            ("=", ["", ""]), ("a=b=c", ["a", "b=c"]), ("%61=%62", ["a", "b"]), ("a=%", nil), ("%=a", nil),
            ("a=%FF", nil),
        ] as [(String, [String]?)])
    func `has a query's parameters in order`(_ text: String, _ flat: [String]?) {
        #expect(queryParameters(text)?.flatMap { [$0.name, $0.value] } == flat)
    }

    @Test func `is an error's document, with whatever it quotes`() {
        let text = String(
            decoding: problemDocument(.badRequest, code: "c", detail: "\"\\\u{1}\u{1f}\n\u{e9}"), as: UTF8.self)
        #expect(text.contains(#""detail":"\"\\\u0001\u001f\u000a"# + "\u{e9}\""))
        #expect(text.contains(#""title":"Bad Request","status":400"#))
    }
}
