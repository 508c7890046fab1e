import Testing

extension System {
    /// CONNECT and the life of a connection, byte for byte.
    @Suite struct `A connection` {
        let broker: Martlet

        init() throws { broker = try Martlet() }

        @Test func `is closed at one and a half times its keep-alive, and its will published [MQTT-3.1.2-24]`() throws {
            let watcher = try broker.client()
            try watcher.subscribe([("wills/#", 0)])
            let silent = try RawClient(port: broker.port)
            try silent.connect("silent", keepAlive: 1, will: ("wills/silent", "asleep", 0))
            let duration = seconds { #expect(silent.isClosed()) }
            #expect(duration > 1.4)
            #expect(duration < 3 * patience)
            #expect(try watcher.receive().text == "asleep")
        }

        @Test func `lives on while PINGREQ comes in time [MQTT-3.12.4-1]`() throws {
            let client = try RawClient(port: broker.port)
            try client.connect("awake", keepAlive: 1)
            let deadline = Deadline(after: 3)
            while !deadline.hasPassed {
                try client.ping()
                #expect(!client.isClosed(within: 0.4 / patience))
            }
            try client.ping()
        }

        @Test func `ends with a second CONNECT [MQTT-3.1.0-2]`() throws {
            let client = try broker.client("twice")
            try client.send(Packet.connect("twice"))
            #expect(client.isClosed())
        }

        @Test(arguments: [5, 6, 0, 255] as [UInt8])
        func `with an unknown protocol level gets return code 1 [MQTT-3.1.2-2]`(_ level: UInt8) throws {
            let client = try RawClient(port: broker.port)
            // MQTT 5 has a length of properties before the Client Identifier.
            try client.send(
                level == 5
                    ? Packet.packet(0x10, Packet.string("MQTT") + [5, 2, 0, 0, 0, 0, 0])
                    : Packet.connect("x", level: level))
            #expect(try client.receive() == Received(first: 0x20, body: [0, 1]))
            #expect(client.isClosed())
        }

        @Test func `without Client Identifier needs cleanSession [MQTT-3.1.3-8]`() throws {
            let client = try RawClient(port: broker.port)
            try client.send(Packet.connect("", cleanSession: false))
            #expect(try client.receive() == Received(first: 0x20, body: [0, 2]))
            #expect(client.isClosed())
            try RawClient(port: broker.port).connect("")
        }

        @Test(arguments: [
            ("PINGREQ", Packet.pingRequest), ("DISCONNECT", Packet.disconnect), ("PUBLISH", Packet.publish("a", "b")),
            ("SUBSCRIBE", Packet.subscribe([([0x61], 0)])), ("PUBREL", Packet.acknowledge(0x62, 1)),
            ("CONNACK", [0x20, 2, 0, 0]),
            ("GET / HTTP/1.1", Array("GET / HTTP/1.1\r\n\r\n".utf8)),
            ("a TLS hello", [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ])
        func `must begin with CONNECT [MQTT-3.1.0-1]`(_ name: String, _ bytes: [UInt8]) throws {
            let client = try RawClient(port: broker.port)
            try client.send(bytes)
            #expect(client.isClosed(), "after \(name)")
        }

        @Test(arguments: [
            (
                "reserved connect flag [MQTT-3.1.2-3]",
                Packet.packet(0x10, Packet.string("MQTT") + [4, 0x03, 0, 0] + Packet.string("x"))
            ),
            ("will QoS 3 [MQTT-3.1.2-14]", Packet.connect("x", will: ("t", "p", 3))),
            (
                "will QoS without will [MQTT-3.1.2-13]",
                Packet.packet(0x10, Packet.string("MQTT") + [4, 0x0a, 0, 0] + Packet.string("x"))
            ),
            (
                "will retain without will [MQTT-3.1.2-15]",
                Packet.packet(0x10, Packet.string("MQTT") + [4, 0x22, 0, 0] + Packet.string("x"))
            ),
            (
                "password without user name [MQTT-3.1.2-22]",
                Packet.packet(0x10, Packet.string("MQTT") + [4, 0x42, 0, 0] + Packet.string("x") + Packet.string("p"))
            ),
            ("a protocol of another name [MQTT-3.1.2-1]", Packet.connect("x", name: "MQTX")),
            ("fixed header flags [MQTT-2.2.2-2]", [0x11] + Packet.connect("x").dropFirst()),
            (
                "an identifier longer than the packet",
                Packet.packet(0x10, Packet.string("MQTT") + [4, 2, 0, 0, 0, 9, 0x78])
            ),
            ("a NUL in the identifier [MQTT-1.5.3-2]", Packet.connect("a\u{0}b")),
            ("nothing", Packet.packet(0x10, [])),
        ])
        func `ends with a CONNECT that breaks a rule`(_ rule: String, _ bytes: [UInt8]) throws {
            let client = try RawClient(port: broker.port)
            try client.send(bytes)
            #expect(client.isClosed(), "\(rule)")
        }

        @Test func `may send CONNECT one byte at a time`() throws {
            let client = try RawClient(port: broker.port)
            for byte in Packet.connect("slow") { try client.send([byte]) }
            #expect(try client.receive() == Received(first: 0x20, body: [0, 0]))
        }

        @Test func `may send everything at once, before CONNACK [MQTT-3.1.4-5]`() throws {
            let client = try RawClient(port: broker.port)
            try client.send(
                Packet.connect("hasty") + Packet.subscribe([(Array("a/b".utf8), 1)])
                    + Packet.publish("a/b", "c", qos: 1, identifier: 7)
                    + Packet.pingRequest)
            #expect(try client.receive().type == 2)
            #expect(try client.receive() == Received(first: 0x90, body: [0, 1, 1]))
            var kinds: [UInt8] = []
            for _ in 0..<3 { kinds.append(try client.receive().type) }
            #expect(kinds.sorted() == [3, 4, 13], "PUBLISH, PUBACK, PINGRESP")
        }

        @Test func `is told the QoS granted to each filter, in order [MQTT-3.8.4-5]`() throws {
            let client = try broker.client()
            #expect(
                try client.subscribe([("a", 0), ("b/+", 1), ("c/#", 2), ("#", 0), ("/", 1)], identifier: 65_535) == [
                    0, 1, 2, 0, 1,
                ])
        }

        @Test func `sees its session again only when it was kept [MQTT-3.2.2-2]`() throws {
            #expect(try RawClient(port: broker.port).connect("kept", cleanSession: false) == false)
            #expect(try RawClient(port: broker.port).connect("kept", cleanSession: false) == true)
            #expect(try RawClient(port: broker.port).connect("kept", cleanSession: true) == false)
            #expect(try RawClient(port: broker.port).connect("kept", cleanSession: false) == false)
        }

        @Test func `is closed after DISCONNECT [MQTT-3.14.4-1]`() throws {
            let client = try broker.client()
            try client.send(Packet.disconnect)
            #expect(client.isClosed())
        }
    }
}
