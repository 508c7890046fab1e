import Glibc
import Testing

extension System {
    /// Clients that come through a proxy, which says first whom it speaks for.
    @Suite struct `Behind a proxy` {
        @Test(
            arguments: [
                (1, Array("PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n".utf8), "192.0.2.1:56324"),
                (1, Array("PROXY TCP6 2001:db8::1 2001:db8::2 4000 1883\r\n".utf8), "2001:db8::1:4000"),
                (1, Array("PROXY UNKNOWN\r\n".utf8), "127.0.0.1:"),
                (2, proxyHeader(0x11, ipv4), "192.0.2.1:56324"), (2, proxyHeader(0x21, ipv6), "2001:db8::1:4000"),
                (2, proxyHeader(0x31, path("/run/client") + path("/run/proxy")), "/run/client"),
                (2, proxyHeader(0x11, ipv4 + [4, 0, 2, 0, 0]), "192.0.2.1:56324"),
                (2, proxyHeader(0x00, []), "127.0.0.1:"), (2, proxyHeader(command: 0x20, 0x00, []), "127.0.0.1:"),
                (2, proxyHeader(command: 0x20, 0x11, ipv4), "127.0.0.1:"),
            ] as [(Int, [UInt8], String)])
        func `a client is known by its own address`(_ version: Int, _ header: [UInt8], _ peer: String) throws {
            let broker = try Martlet(["shards 2", "log_type all", "enable_proxy_protocol \(version)"])
            // With the header alone, with the header in front of everything, cut at each place, and byte by byte.
            let packets = header + Packet.connect("cut") + Packet.pingRequest
            let cuts = [[header.count]] + (1..<packets.count).map { [$0] } + [[], Array(1..<packets.count)]
            for cut in cuts {
                let client = try RawClient(port: broker.port)
                var start = 0
                for end in cut + [packets.count] {
                    try client.send(Array(packets[start..<end]))
                    start = end
                }
                #expect(try client.receive() == Received(first: 0x20, body: [0, 0]))
                #expect(try client.receive() == Received(first: 0xD0, body: []))
            }
            // Sessions live on both shards; wherever, the address has come along.
            let clients = try (0..<6).map { number in
                let client = try RawClient(port: broker.port)
                try client.send(header)
                try client.connect("placed-\(number)")
                return client
            }
            for (number, client) in clients.enumerated() {
                try client.ping()
                let isKnown = eventually {
                    broker.lines(containing: "placed-\(number)").contains { $0.contains("from \(peer)") }
                }
                #expect(isKnown, "\(broker.lines(containing: "placed-\(number)"))")
            }
            try broker.stop()
        }

        @Test(
            arguments: [
                (1, "nothing but MQTT", Packet.connect("direct")), (2, "nothing but MQTT", Packet.connect("direct")),
                (1, "HTTP", Array("GET / HTTP/1.1\r\n".utf8)), (1, "the other version", proxyHeader(0x11, ipv4)),
                (2, "the other version", Array("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n".utf8)),
                (1, "a line that is too long", Array("PROXY UNKNOWN \(String(repeating: "x", count: 100))".utf8)),
                (1, "an address that is none", Array("PROXY TCP4 1.1.1.300 1.1.1.1 1 1\r\n".utf8)),
                (2, "a header that is too long", proxyHeader(0x11, ipv4, length: 65_535)),
                (2, "too little for two addresses", proxyHeader(0x11, [1, 2, 3, 4])),
                (2, "datagrams", proxyHeader(0x12, ipv4)),
                (2, "an unknown command", proxyHeader(command: 0x22, 0x11, ipv4)),
                (2, "a part that is cut", proxyHeader(0x11, ipv4 + [4, 0, 9])),
                (2, "a wrong checksum", proxyHeader(0x11, ipv4 + [3, 0, 4, 0, 0, 0, 0])),
                (2, "a wrong signature", [0x0D, 0x0A, 0x0D, 0x0A, 0x01]),
            ] as [(Int, String, [UInt8])])
        func `whoever sends something else is closed, and one line says why`(
            _ version: Int, _ mistake: String, _ bytes: [UInt8]
        ) throws {
            let broker = try Martlet(["enable_proxy_protocol \(version)"])
            let client = try RawClient(port: broker.port)
            try client.send(bytes)
            #expect(client.isClosed(), "\(mistake)")
            #expect(eventually { broker.lines(containing: "PROXY header").count == 1 }, "\(mistake)")
            // Nothing is held against those who come after.
            let next = try RawClient(port: broker.port)
            try next.send(version == 1 ? Array("PROXY UNKNOWN\r\n".utf8) : proxyHeader(0x11, ipv4))
            try next.connect("next")
            #expect(broker.lines(containing: "PROXY header").count == 1)
            try broker.stop()
        }

        @Test(arguments: [Array("PROXY UNKNOWN\r\n".utf8), proxyHeader(0x11, ipv4)])
        func `a header is garbage where none was asked for`(_ header: [UInt8]) throws {
            let broker = try Martlet()
            let client = try RawClient(port: broker.port)
            try client.send(header + Packet.connect("x"))
            #expect(client.isClosed())
            try broker.client().ping()
        }

        @Test func `proxy_protocol_v2_require_tls wants to hear of TLS`() throws {
            let broker = try Martlet(["enable_proxy_protocol 2", "proxy_protocol_v2_require_tls true"])
            func isLetIn(_ header: [UInt8]) throws -> Bool {
                let client = try RawClient(port: broker.port)
                try client.send(header)
                return (try? client.connect("x")) != nil
            }
            let version: [UInt8] = [0x21, 0, 7] + Array("TLSv1.3".utf8)
            #expect(try isLetIn(proxyHeader(0x11, ipv4 + [0x20, 0, 5, 1, 0, 0, 0, 0])))
            #expect(try isLetIn(proxyHeader(0x21, ipv6 + [4, 0, 0] + [0x20, 0, 15, 7, 0, 0, 0, 0] + version)))
            #expect(try !isLetIn(proxyHeader(0x11, ipv4)), "says nothing of it")
            #expect(try !isLetIn(proxyHeader(0x11, ipv4 + [0x20, 0, 5, 0, 0, 0, 0, 0])), "says that there was none")
            #expect(try !isLetIn(proxyHeader(command: 0x20, 0x00, [])), "is the proxy itself")
            // Told once; that it happens again is counted.
            #expect(eventually { broker.lines(containing: "has not come over TLS").count == 1 })
            try broker.stop()
        }

        /// The time to CONNECT begins with the connection.
        @Test func `who is slow with the header is closed in time`() throws {
            let broker = try Martlet(["enable_proxy_protocol 2"])
            let header = proxyHeader(0x11, ipv4)
            let clients = try [0, 1, 15, header.count - 1, header.count].map { count in
                let client = try RawClient(port: broker.port)
                try client.send(Array(header.prefix(count)))
                return client
            }
            let dripping = try RawClient(port: broker.port)
            let duration = try seconds {
                for byte in header.prefix(16) {
                    if dripping.isClosed(within: 1 / patience) { break }
                    try dripping.send([byte])
                }
                #expect(dripping.isClosed(within: 5))
            }
            #expect(duration > 8 && duration < 10 + 5 * patience)
            for client in clients { #expect(client.isClosed(within: 5)) }
            try broker.stop()
        }

        @Test func `a proxy that only looks whether somebody is there costs nothing`() throws {
            let broker = try Martlet(["enable_proxy_protocol 2", "max_connections 2"])
            for turn in 0..<50 {
                let check = try RawClient(port: broker.port)
                if turn % 2 == 0 { try check.send(proxyHeader(command: 0x20, 0x00, [])) }
            }
            #expect(
                try eventually {
                    let client = try RawClient(port: broker.port)
                    try? client.send(proxyHeader(0x11, ipv4))
                    return (try? client.connect("x")) != nil
                })
            #expect(broker.lines(containing: "PROXY header") == [])
            try broker.stop()
        }
    }
}

/// A header of version 2, from the specification.
private func proxyHeader(
    command: UInt8 = 0x21, _ family: UInt8, _ rest: [UInt8], length: Int? = nil
) -> [UInt8] {
    let length = length ?? rest.count
    let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
    return signature + [command, family, UInt8(length >> 8), UInt8(length & 0xff)] + rest
}

private let ipv4: [UInt8] = [192, 0, 2, 1, 192, 0, 2, 9, 0xDC, 0x04, 0x07, 0x5B]
private let ipv6: [UInt8] =
    [0x20, 1, 0x0D, 0xB8] + zeros(11) + [1] + [0x20, 1, 0x0D, 0xB8] + zeros(11) + [2] + [0x0F, 0xA0, 7, 0x5B]

private func path(_ text: String) -> [UInt8] { Array(text.utf8) + zeros(108 - text.utf8.count) }
private func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }
