import Foundation
import Glibc
import Testing

extension System {
    /// A listener with `protocol websockets`: HTTP as far as the handshake, and MQTT in frames.
    @Suite struct `Over WebSocket` {
        private func broker(_ lines: [String] = []) throws -> Martlet {
            try Martlet(["protocol websockets", "log_type all"] + lines)
        }

        // MARK: - Requests

        @Test(
            arguments: [
                (426, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (426, "GET /mqtt HTTP/1.0\r\n\r\n"),
                (426, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc"),
                (400, "GET / HTTP/1.1\r\n\r\n"),
                (426, request(["Sec-WebSocket-Version": "8"])), (400, request(["Sec-WebSocket-Key": "short"])),
                (400, request(["Sec-WebSocket-Protocol": "chat"])), (400, request(["Sec-WebSocket-Protocol": nil])),
                (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (417, request(["Expect": "200-ok"])),
                (400, request(["Content-Length": "5\r\nTransfer-Encoding: chunked"])),
                (501, request(["Transfer-Encoding": "gzip"])), (400, request(["X ": "a"])),
                (414, "GET /\(String(repeating: "a", count: 9_000)) HTTP/1.1\r\nHost: a\r\n\r\n"),
                (431, request(["X": String(repeating: "a", count: 20_000)])),
            ] as [(Int, String)])
        func `a request that can't be answered is refused, and its connection ends`(_ status: Int, _ text: String)
            throws
        {
            let broker = try broker()
            let client = try WebClient(port: broker.port)
            try? client.send(Array(text.utf8))
            let answer = try client.answer()
            #expect(answer.status == status)
            #expect(!answer.head.hasPrefix("HTTP/1.1 \(status) \r\n"), "it says nothing to people")
            #expect(answer.head.contains("\r\nConnection: close\r\n"))
            #expect(answer.head.contains("\r\nContent-Type: application/problem+json\r\n"))
            #expect(answer.head.contains("\r\nUpgrade: websocket\r\n") == (status == 426))
            let body = try client.receive(answer.length)
            let document = try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any]
            #expect(document?["status"] as? Int == status)
            #expect(client.isClosed())
            _ = try WebSocketClient(port: broker.port)
            try broker.stop()
        }

        /// To a peer that sees a reset before it has read, the answer could be lost.
        @Test(arguments: ["", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"])
        func `who goes on sending after a refusal is not cut off at once`(_ text: String) throws {
            let broker = try broker()
            let client = try WebClient(port: broker.port)
            try client.send(Array((text + String(repeating: "a", count: 8_000_000)).utf8))
            #expect(try client.answer().status == (text.isEmpty ? 431 : text.hasPrefix("POST") ? 426 : 400))
            client.finish()
            #expect(client.isClosed())
            // But not for ever.
            let other = try WebClient(port: broker.port)
            try other.send(Array(text.utf8) + [UInt8](repeating: 0x61, count: 17_000))
            let time = seconds { #expect(eventually { (try? other.send([0x61])) == nil }) }
            #expect(time < 5 * patience)
            try broker.stop()
        }

        @Test func `HEAD is answered without a body`() throws {
            let broker = try broker()
            let client = try WebClient(port: broker.port)
            try client.send(Array("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
            let answer = try client.answer()
            #expect(answer.status == 426 && answer.length > 0)
            #expect(client.isClosed(andSays: 0))
            try broker.stop()
        }

        @Test func `who asks too slowly is told, and who says nothing is not`() throws {
            let broker = try broker(["connect_timeout 1"])
            let (silent, slow) = (try WebClient(port: broker.port), try WebClient(port: broker.port))
            let dribbling = try WebClient(port: broker.port)
            try slow.send(Array("GET / HTTP/1.1\r\n".utf8))
            let time = try seconds {
                for byte in request().utf8.prefix(40) where !dribbling.hasInput {
                    try dribbling.send([byte])
                    poll(nil, 0, 100)
                }
                #expect(try dribbling.answer().status == 408)
                #expect(try slow.answer().status == 408)
                #expect(silent.isClosed(andSays: 0))
            }
            #expect(time < 4 * patience)
            // Also who has upgraded, and doesn't go on.
            let upgraded = try WebSocketClient(port: broker.port)
            #expect(try upgraded.frame().first == 0x88)
            #expect(upgraded.isClosed())
            try broker.stop()
        }

        @Test func `whoever ends in the middle is forgotten`() throws {
            let broker = try broker(["shards 2"])
            let before = sockets(of: broker)
            let bytes = Array(request().utf8) + webFrame(0x82, Packet.connect("cut"))
            for (turn, end) in (0...bytes.count).enumerated() {
                let client = try WebClient(port: broker.port)
                try client.send(Array(bytes[..<end]))
                if turn % 2 == 0 {
                    client.finish()
                    #expect(client.isClosed(), "after \(end) bytes")
                } else {
                    client.reset()
                }
            }
            let client = try WebSocketClient(port: broker.port)
            try client.connect("after")
            // And the client's is one more.
            #expect(
                eventually { sockets(of: broker) <= before + 1 }, "\(sockets(of: broker)) sockets, \(before) before")
            try broker.stop()
        }

        @Test func `1,000 connections may wait, at little cost`() throws {
            let broker = try broker(["connect_timeout 60"])
            let before = broker.residentMegabytes
            var clients: [WebClient] = []
            for number in 0..<1_000 {
                let client = try WebClient(port: broker.port)
                if number % 2 == 0 { try client.send(Array("GET / HTTP/1.1\r\nHost: a\r\n".utf8)) }
                clients.append(client)
            }
            let client = try WebSocketClient(port: broker.port)
            try client.connect("among many")
            #expect(broker.residentMegabytes < before + (isSanitized ? 64 : 8))
            let processor = broker.processorSeconds
            poll(nil, 0, 1_000)
            #expect(broker.processorSeconds < processor + 0.2)
            for client in clients[..<10] { #expect(!client.hasInput) }
            try clients[500].send(Array("\r\n".utf8))
            #expect(try clients[500].answer().status == 426)
            try broker.stop()
        }

        // MARK: - Frames

        @Test func `MQTT goes in frames that end anywhere [MQTT-6.0.0-2]`() throws {
            let broker = try broker(["shards 3"])
            let packets =
                Packet.connect("frames") + Packet.subscribe([(Array("a/#".utf8), 1)])
                + Packet.publish("a/b", String(repeating: "x", count: 300)) + Packet.pingRequest
            var cuts: [(String, [UInt8])] = [
                ("one frame", webFrame(0x82, packets)),
                ("a frame for each byte", packets.flatMap { webFrame(0x82, [$0]) }),
                (
                    "a fragment for each byte, and pings between",
                    webFrame(0x02, []) + packets.flatMap { webFrame(0x00, [$0]) + webFrame(0x89, [$0]) }
                        + webFrame(0x80, [])
                ),
            ]
            for cut in stride(from: 1, to: packets.count, by: 7) {
                let (first, second) = (Array(packets[..<cut]), Array(packets[cut...]))
                cuts.append(("fragments, cut at \(cut)", webFrame(0x02, first) + webFrame(0x80, second)))
                cuts.append(("frames, cut at \(cut)", webFrame(0x82, first) + webFrame(0x82, second)))
            }
            for (way, bytes) in cuts {
                for isAtOnce in [true, false] {
                    // With the handshake, or behind it.
                    let client = try WebSocketClient(port: broker.port, sending: isAtOnce ? bytes : [])
                    if !isAtOnce { try client.web.send(bytes) }
                    #expect(try client.receive() == Received(first: 0x20, body: [0, 0]), "\(way)")
                    #expect(try client.receive().type == 9, "\(way)")
                    #expect(try client.receive().text.utf8.count == 300, "\(way)")
                    #expect(try client.receive() == Received(first: 0xD0, body: []), "\(way)")
                    if way.contains("pings") {
                        while client.pongs.count < packets.count { try client.readMore() }
                        #expect(client.pongs == packets.map { [$0] }, "\(way)")
                    }
                }
            }
            // TCP cuts where it likes.
            let bytes = Array(request().utf8) + webFrame(0x02, packets) + webFrame(0x89, [1]) + webFrame(0x80, [])
            let web = try WebClient(port: broker.port)
            for byte in bytes { try web.send([byte]) }
            let client = try WebSocketClient(web)
            #expect(try client.receive() == Received(first: 0x20, body: [0, 0]))
            try broker.stop()
        }

        @Test func `a ping is answered with what it says`() throws {
            let broker = try broker()
            let client = try WebSocketClient(port: broker.port)
            try client.web.send(webFrame(0x89, Array("before".utf8)))  // Before any CONNECT.
            #expect(try client.frame() == WebFrame(first: 0x8A, data: Array("before".utf8)))
            try client.connect("p")
            try client.web.send(
                webFrame(0x8A, [1]) + webFrame(0x89, []) + webFrame(0x89, [UInt8](repeating: 7, count: 125)))
            #expect(try client.frame() == WebFrame(first: 0x8A, data: []))
            #expect(try client.frame() == WebFrame(first: 0x8A, data: [UInt8](repeating: 7, count: 125)))
            try client.send(Packet.pingRequest)
            #expect(try client.receive() == Received(first: 0xD0, body: []))
            try broker.stop()
        }

        @Test func `pings that nobody reads the answers of cost little memory`() throws {
            let broker = try broker()
            let before = broker.residentMegabytes
            let client = try WebSocketClient(try WebClient(port: broker.port, receiveBufferBytes: 4_096), request: true)
            try client.connect("flood")
            let pings = [UInt8](repeatElement(webFrame(0x89, [UInt8](repeating: 1, count: 125)), count: 500).joined())
            let sent = try client.web.stream.sendUntilBlocked(pings, limit: 64 << 20)
            #expect(sent < 64 << 20)
            #expect(broker.residentMegabytes < before + 32)
            let other = try WebSocketClient(port: broker.port)
            try other.connect("other")
            try broker.stop()
        }

        // MARK: - The end

        @Test(
            arguments: [
                ([], []), ([0x03, 0xE8], [0x03, 0xE8]), ([0x0F, 0xA0, 0x61], [0x0F, 0xA0]), ([0x03], [0x03, 0xEA]),
            ] as [([UInt8], [UInt8])])
        func `a Close is answered, and without a DISCONNECT the will is published`(
            _ data: [UInt8], _ answer: [UInt8]
        ) throws {
            let plain = try freePort()
            let broker = try broker(["listener \(plain) 127.0.0.1"])
            let watcher = try RawClient(port: plain)
            try watcher.connect("watcher")
            try watcher.subscribe([("will", 1)])
            for goodbye in [false, true] {
                let client = try WebSocketClient(port: broker.port)
                try client.connect("w", will: ("will", "\(goodbye)", 1))
                // What it says before it closes counts, and what comes behind does not.
                try client.web.send(
                    webFrame(0x82, Packet.publish("will", "said \(goodbye)") + (goodbye ? Packet.disconnect : []))
                        + webFrame(0x88, data) + webFrame(0x82, Packet.publish("will", "too late")))
                #expect(try watcher.receive().text == "said \(goodbye)")
                if !goodbye {
                    let will = try watcher.receive()
                    #expect(will.text == "false")
                    try watcher.send(Packet.acknowledge(0x40, will.identifier))
                }
                // After a DISCONNECT it is the broker that closes.
                #expect(try client.frame() == WebFrame(first: 0x88, data: goodbye ? [0x03, 0xE8] : answer))
                #expect(client.isClosed())
            }
            try watcher.ping()
            try broker.stop()
        }

        @Test(
            arguments: [
                ("text", 1003, webFrame(0x81, Packet.pingRequest)),
                ("not masked", 1002, webFrame(0x82, Packet.pingRequest, isMasked: false)),
                ("a reserved bit", 1002, webFrame(0xC2, Packet.pingRequest)),
                ("a continuation of nothing", 1002, webFrame(0x80, Packet.pingRequest)),
                ("another kind", 1002, webFrame(0x83, [])), ("a ping in parts", 1002, webFrame(0x09, [])),
            ] as [(String, Int, [UInt8])])
        func `a frame that is none ends the connection with its code, and the will is published [MQTT-6.0.0-1]`(
            _ mistake: String, _ code: Int, _ bytes: [UInt8]
        ) throws {
            let plain = try freePort()
            let broker = try broker(["listener \(plain) 127.0.0.1"])
            let watcher = try RawClient(port: plain)
            try watcher.connect("watcher")
            try watcher.subscribe([("will", 0)])
            let client = try WebSocketClient(port: broker.port)
            try client.connect("w", will: ("will", "gone", 0))
            try client.web.send(webFrame(0x82, Packet.publish("will", "said")) + bytes)
            #expect(try watcher.receive().text == "said")
            #expect(try watcher.receive().text == "gone")
            #expect(
                try client.frame() == WebFrame(first: 0x88, data: [UInt8(code >> 8), UInt8(code & 0xFF)]), "\(mistake)")
            #expect(client.isClosed())
            // Before the CONNECT too.
            let early = try WebSocketClient(port: broker.port)
            try early.web.send(bytes)
            #expect(
                try early.frame() == WebFrame(first: 0x88, data: [UInt8(code >> 8), UInt8(code & 0xFF)]), "\(mistake)")
            #expect(early.isClosed())
            try broker.stop()
        }

        @Test func `a packet that is none ends the connection with a Close`() throws {
            let broker = try broker()
            let client = try WebSocketClient(port: broker.port)
            try client.connect("w")
            try client.send([0xF0, 0])
            #expect(try client.frame().first == 0x88)
            #expect(client.isClosed())
            try broker.stop()
        }

        @Test func `clients are told when the broker stops`() throws {
            let broker = try broker()
            let client = try WebSocketClient(port: broker.port)
            try client.connect("w")
            let waiting = try WebClient(port: broker.port)
            try broker.stop()
            #expect(try client.frame() == WebFrame(first: 0x88, data: [0x03, 0xE8]))
            #expect(client.isClosed() && waiting.isClosed())
        }

        // MARK: - Who may, and from where

        @Test func `websockets_origin says whose pages may connect`() throws {
            let broker = try broker(["websockets_origin https://a.example", "websockets_origin http://b.example:8080"])
            for (origin, status) in [
                ("https://a.example", 101), ("https://A.example:443", 101), ("http://b.example:8080", 101), (nil, 101),
                ("http://a.example", 403), ("https://b.example:8080", 403), ("null", 403),
                ("https://a.example.org", 403),
                ("http://127.0.0.1:\(broker.port)", 403), ("", 403),
            ] as [(String?, Int)] {
                let client = try WebClient(port: broker.port)
                try client.send(Array(request(["Origin": origin]).utf8))
                #expect(try client.answer().status == status, "\(origin ?? "none")")
            }
            try broker.stop()
        }

        @Test func `TLS lies below`() throws {
            let authority = try Authority()
            let broker = try broker([
                "certfile \(authority.file("server.crt"))", "keyfile \(authority.file("server.key"))", "shards 2",
            ])
            let packets = Packet.connect("secure") + Packet.subscribe([(Array("a".utf8), 0)])
            let payload = [UInt8](repeating: 0x61, count: 200_000)
            for isAtOnce in [true, false] {
                let client = try SecureClient(port: broker.port, authority)
                let frames = webFrame(0x82, packets + Packet.publish(Array("a".utf8), payload))
                client.send(Array(request().utf8) + (isAtOnce ? frames : []))
                var head: [UInt8] = []
                while !head.ends(with: "\r\n\r\n"), let byte = client.receive(1).first { head.append(byte) }
                #expect(String(decoding: head, as: UTF8.self).hasPrefix("HTTP/1.1 101 "))
                if !isAtOnce { client.send(frames) }
                var stream: [UInt8] = []
                let wanted = 4 + 5 + 4 + 3 + payload.count
                while stream.count < wanted, let data = frame(of: client) { stream += data }
                #expect(stream.count == wanted && stream.ends(with: String(repeating: "a", count: payload.count)))
            }
            let bad = try SecureClient(port: broker.port, authority)
            bad.send(Array("GET / HTTP/1.1\r\n\r\n".utf8))
            #expect(String(decoding: bad.receive(12), as: UTF8.self) == "HTTP/1.1 400")
            #expect(bad.isClosed())
            try broker.stop()
        }

        private func frame(of client: SecureClient) -> [UInt8]? {
            let start = client.receive(2)
            guard start.count == 2 else { return nil }
            let size = start[1] == 126 ? 2 : start[1] == 127 ? 8 : 0
            let length = size == 0 ? Int(start[1]) : client.receive(size).reduce(0) { $0 << 8 | Int($1) }
            return client.receive(length)
        }

        @Test func `a proxy's header may come first, cut anywhere`() throws {
            let broker = try broker(["enable_proxy_protocol 1"])
            let bytes = Array("PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n".utf8) + Array(request().utf8)
            for cut in stride(from: 1, to: bytes.count, by: 5) {
                let web = try WebClient(port: broker.port)
                try web.send(Array(bytes[..<cut]))
                try web.send(Array(bytes[cut...]) + webFrame(0x82, Packet.connect("proxied-\(cut)")))
                #expect(try WebSocketClient(web).receive() == Received(first: 0x20, body: [0, 0]))
            }
            #expect(eventually { broker.lines(containing: "proxied-1 ").contains { $0.contains("192.0.2.1") } })
            let client = try WebClient(port: broker.port)
            try client.send(Array(request().utf8))
            #expect(try client.answer().status == 400)
            try broker.stop()
        }

        @Test func `a session is taken over from plain MQTT, and back`() throws {
            let plain = try freePort()
            let broker = try broker(["shards 2", "listener \(plain) 127.0.0.1"])
            for turn in 0..<10 {
                let first = try WebSocketClient(port: broker.port)
                #expect(try first.connect("one-\(turn)", cleanSession: false) == false)
                try first.send(Packet.subscribe([(Array("to/one".utf8), 1)]))
                #expect(try first.receive().type == 9)
                let second = try RawClient(port: plain)
                #expect(try second.connect("one-\(turn)", cleanSession: false))
                #expect(try first.frame().first == 0x88)
                #expect(first.isClosed())
                let third = try WebSocketClient(port: broker.port)
                #expect(try third.connect("one-\(turn)", cleanSession: false))
                #expect(second.isClosed())
                try third.send(Packet.publish("to/one", "\(turn)", qos: 0))
                #expect(try third.receive().text == "\(turn)")
            }
            try broker.stop()
        }

        @Test func `a slow reader gets 20 MB in order`() throws {
            let broker = try broker(["shards 2", "max_queued_messages 0", "max_queued_bytes 0"])
            let port = broker.port
            let (count, size) = (2_000, 10_000)
            let web = try WebClient(port: port, receiveBufferBytes: 8_192)
            let reader = try WebSocketClient(web, request: true)
            try reader.connect("reader")
            try reader.send(Packet.subscribe([(Array("flood".utf8), 1)]))
            #expect(try reader.receive().type == 9)
            let writing = { @Sendable in
                let writer = try WebSocketClient(port: port)
                try writer.connect("writer")
                for start in stride(from: 0, to: count, by: 20) {
                    var batch: [UInt8] = []
                    for number in start..<(start + 20) {
                        let payload = Array("\(number) ".utf8) + [UInt8](repeating: UInt8(number % 251), count: size)
                        batch += Packet.publish(
                            Array("flood".utf8), payload, qos: 1, identifier: UInt16(number - start + 1))
                    }
                    // Frames end where no packet does.
                    for part in stride(from: 0, to: batch.count, by: 30_011) {
                        try writer.send(Array(batch[part..<min(part + 30_011, batch.count)]))
                    }
                    for _ in 0..<20 {
                        let answer = try writer.receive(within: 60)
                        guard answer.first == 0x40 else { throw Unexpected("PUBACK expected, not \(answer.first)") }
                    }
                }
            }
            let handed = Handed(reader)
            let reading = { @Sendable in
                let reader = handed.take()
                for number in 0..<count {
                    let packet = try reader.receive(within: 60)
                    let prefix = Array("\(number) ".utf8)
                    guard packet.type == 3, packet.payload.starts(with: prefix),
                        packet.payload.dropFirst(prefix.count).count == size,
                        packet.payload.dropFirst(prefix.count).allSatisfy({ $0 == UInt8(number % 251) })
                    else { throw Unexpected("message \(number) is not what was sent") }
                    try reader.send(Packet.acknowledge(0x40, packet.identifier))
                    if number % 100 == 0 {
                        try reader.web.send(webFrame(0x89, [UInt8(number / 100)]))
                        poll(nil, 0, 20)
                    }
                }
                while reader.pongs.count < count / 100 { try reader.readMore() }
                guard reader.pongs == (0..<(count / 100)).map({ [UInt8($0)] }) else { throw Unexpected("pongs") }
            }
            try concurrently([writing, reading])
            try broker.stop()
        }
    }
}

private func sockets(of broker: Martlet) -> Int {
    let directory = "/proc/\(broker.program.pid)/fd"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    let targets = names.map { try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\($0)") }
    return targets.count { $0?.hasPrefix("socket:") ?? false }
}

// MARK: - Clients

/// A handshake with these fields instead; nil: without.
private func request(_ changes: [String: String?] = [:]) -> String {
    let fields: [String: String?] = [
        "Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt",
    ]
    let all = fields.merging(changes) { $1 }.compactMapValues(\.self).sorted { $0.key < $1.key }
    return "GET /mqtt HTTP/1.1\r\n" + all.map { "\($0.key): \($0.value)\r\n" }.joined() + "\r\n"
}

/// A client's frame (RFC 6455, 5.2).
private func webFrame(_ first: UInt8, _ data: [UInt8], isMasked: Bool = true) -> [UInt8] {
    let size = data.count < 126 ? 0 : data.count < 65_536 ? 2 : 8
    let mask: [UInt8] = isMasked ? [0x12, 0x34, 0x56, UInt8(data.count & 0xFF)] : []
    let length = (0..<size).map { UInt8(truncatingIfNeeded: data.count >> (8 * (size - 1 - $0))) }
    let bit: UInt8 = isMasked ? 0x80 : 0
    return [first, bit | (size == 0 ? UInt8(data.count) : size == 2 ? 126 : 127)] + length + mask
        + (isMasked ? data.enumerated().map { $1 ^ mask[$0 & 3] } : data)
}

private struct WebFrame: Equatable {
    let first: UInt8
    let data: [UInt8]
}

/// MQTT in frames, written from RFC 6455.
private final class WebSocketClient {
    let web: WebClient
    private(set) var pongs: [[UInt8]] = []
    private var stream: [UInt8] = []

    convenience init(port: UInt16, sending frames: [UInt8] = []) throws {
        let web = try WebClient(port: port)
        try web.send(Array(request().utf8) + frames)
        try self.init(web)
    }

    /// Whose request has been sent, or is sent now.
    init(_ web: WebClient, request isMissing: Bool = false) throws {
        self.web = web
        if isMissing { try web.send(Array(request().utf8)) }
        let answer = try web.answer()
        guard answer.status == 101, answer.head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            answer.head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n")
        else { throw Unexpected("no handshake: \(answer.head)") }
    }

    func send(_ packets: [UInt8]) throws { try web.send(webFrame(0x82, packets)) }

    /// The next frame, which the server never masks.
    func frame(within seconds: Double = 10) throws -> WebFrame {
        let start = try web.receive(2, within: seconds)
        guard start[1] < 128 else { throw Unexpected("a server's frame is masked") }
        let size = start[1] == 126 ? 2 : start[1] == 127 ? 8 : 0
        let length = size == 0 ? Int(start[1]) : try web.receive(size).reduce(0) { $0 << 8 | Int($1) }
        return WebFrame(first: start[0], data: try web.receive(length, within: seconds))
    }

    /// One frame more of the stream, or a pong.
    func readMore(within seconds: Double = 10) throws {
        let frame = try frame(within: seconds)
        switch frame.first {
        case 0x82: stream += frame.data
        case 0x8A: pongs.append(frame.data)
        default: throw Unexpected("frame \(frame.first) comes")
        }
    }

    func receive(within seconds: Double = 10) throws -> Received {
        while true {
            if let packet = nextPacket() { return packet }
            try readMore(within: seconds)
        }
    }

    private func nextPacket() -> Received? {
        var (position, length, shift) = (1, 0, 0)
        while true {
            guard position < stream.count else { return nil }
            length |= Int(stream[position] & 0x7F) << shift
            shift += 7
            position += 1
            if stream[position - 1] & 0x80 == 0 { break }
        }
        guard stream.count >= position + length else { return nil }
        defer { stream.removeFirst(position + length) }
        return Received(first: stream[0], body: Array(stream[position..<(position + length)]))
    }

    @discardableResult
    func connect(
        _ identifier: String, cleanSession: Bool = true, will: (topic: String, payload: String, qos: UInt8)? = nil
    ) throws -> Bool {
        try send(Packet.connect(identifier, cleanSession: cleanSession, will: will))
        let answer = try receive()
        guard answer.first == 0x20, answer.body.count == 2, answer.body[1] == 0 else {
            throw Unexpected("CONNACK expected, not \(answer)")
        }
        return answer.body[0] == 1
    }

    func isClosed() -> Bool { web.isClosed(andSays: 0) }
}
