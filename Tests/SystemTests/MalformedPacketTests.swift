import Testing

extension System {
    /// Each closes the connection that sent it and disturbs nobody else.
    @Suite struct `A malformed packet` {
        static let packets: [(rule: String, bytes: [UInt8])] = [
            ("a remaining length of five bytes (2.2.3)", [0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
            ("type 0", [0x00, 0]),
            ("type 15", [0xf0, 0]),
            ("QoS 3 [MQTT-3.3.1-4]", [0x36, 5, 0, 1, 0x61, 0, 1]),
            ("DUP at QoS 0 [MQTT-3.3.1-2]", [0x38, 3, 0, 1, 0x61]),
            ("PUBLISH with packet identifier 0 [MQTT-2.3.1-1]", Packet.publish("a", "", qos: 1, identifier: 0)),
            ("PUBLISH without packet identifier", [0x32, 3, 0, 1, 0x61]),
            ("PUBLISH with an empty topic [MQTT-4.7.3-1]", Packet.publish("", "x")),
            ("PUBLISH with a NUL in its topic [MQTT-1.5.3-2]", Packet.publish("a\u{0}b", "x")),
            ("PUBLISH to a + [MQTT-3.3.2-2]", Packet.publish("a/+", "x")),
            ("PUBLISH to a # [MQTT-3.3.2-2]", Packet.publish("a/#", "x")),
            ("PUBLISH with invalid UTF-8 [MQTT-1.5.3-1]", Packet.publish([0x61, 0xc3, 0x28])),
            ("PUBLISH with a surrogate [MQTT-1.5.3-1]", Packet.publish([0xed, 0xa0, 0x80])),
            ("PUBLISH with an overlong encoding [MQTT-1.5.3-1]", Packet.publish([0xc1, 0x81])),
            ("PUBLISH with a code point past the last [MQTT-1.5.3-1]", Packet.publish([0xf4, 0x90, 0x80, 0x80])),
            ("PUBLISH with a topic longer than the packet", [0x30, 3, 0, 9, 0x61]),
            ("PUBLISH with half a topic length", [0x30, 1, 0]),
            ("SUBSCRIBE with flags 0 [MQTT-3.8.1-1]", [0x80, 6, 0, 1, 0, 1, 0x61, 0]),
            ("SUBSCRIBE with packet identifier 0 [MQTT-2.3.1-1]", Packet.subscribe([([0x61], 0)], identifier: 0)),
            ("SUBSCRIBE without a filter [MQTT-3.8.3-3]", [0x82, 2, 0, 1]),
            ("SUBSCRIBE with QoS 3 [MQTT-3-8.3-4]", Packet.subscribe([([0x61], 3)])),
            ("SUBSCRIBE with reserved bits [MQTT-3-8.3-4]", Packet.subscribe([([0x61], 0x81)])),
            ("SUBSCRIBE without QoS", [0x82, 5, 0, 1, 0, 1, 0x61]),
            ("SUBSCRIBE to nothing [MQTT-4.7.3-1]", Packet.subscribe([([], 0)])),
            ("SUBSCRIBE to a# [MQTT-4.7.1-2]", Packet.subscribe([(Array("a#".utf8), 0)])),
            ("SUBSCRIBE to #/a [MQTT-4.7.1-2]", Packet.subscribe([(Array("#/a".utf8), 0)])),
            ("SUBSCRIBE to a+/b [MQTT-4.7.1-3]", Packet.subscribe([(Array("a+/b".utf8), 0)])),
            ("SUBSCRIBE with invalid UTF-8 [MQTT-3.8.3-1]", Packet.subscribe([([0xff], 0)])),
            ("SUBSCRIBE to a shared nothing", Packet.subscribe([(Array("$share/group/".utf8), 0)])),
            ("UNSUBSCRIBE with flags 0 [MQTT-3.10.1-1]", [0xa0, 5, 0, 1, 0, 1, 0x61]),
            ("UNSUBSCRIBE without a filter [MQTT-3.10.3-2]", [0xa2, 2, 0, 1]),
            ("PUBREL with flags 0 [MQTT-3.6.1-1]", [0x60, 2, 0, 1]),
            ("PUBACK with flags [MQTT-2.2.2-2]", [0x41, 2, 0, 1]),
            ("PUBACK without identifier", [0x40, 0]),
            ("PUBREC of three bytes", [0x50, 3, 0, 1, 0]),
            ("PINGREQ with flags [MQTT-2.2.2-2]", [0xc1, 0]),
            ("PINGREQ with a body", [0xc0, 1, 0]),
            ("DISCONNECT with flags [MQTT-3.14.1-1]", [0xe1, 0]),
            ("CONNACK from a client", [0x20, 2, 0, 0]),
            ("SUBACK from a client", [0x90, 3, 0, 1, 0]),
            ("UNSUBACK from a client", [0xb0, 2, 0, 1]),
            ("PINGRESP from a client", [0xd0, 0]),
        ]

        @Test func `closes its connection and no other [MQTT-4.8.0-1]`() throws {
            let broker = try Martlet()
            let bystander = try broker.client("bystander")
            try bystander.subscribe([("still/here", 0)])
            for (rule, bytes) in Self.packets {
                let client = try broker.client()
                try client.send(bytes)
                #expect(client.isClosed(within: 3), "\(rule)")
                try bystander.publish("still/here", rule)
                #expect(try bystander.receive().text == rule)
            }
            try broker.stop()
        }

        @Test func `publishes the will of its sender [MQTT-3.1.2-8]`() throws {
            let broker = try Martlet()
            let watcher = try broker.client()
            try watcher.subscribe([("wills/#", 0)])
            let client = try RawClient(port: broker.port)
            try client.connect("broken", will: ("wills/broken", "gone", 0))
            try client.send([0xf0, 0])
            #expect(try watcher.receive().text == "gone")
        }

        @Test func `of the largest remaining length is refused by limit before its body comes`() throws {
            let broker = try Martlet()
            let bystander = try broker.client()
            let before = broker.residentMegabytes
            let clients = try (0..<20).map { _ in try broker.client() }
            for client in clients {
                try client.send([0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 0x61])
                #expect(client.isClosed(within: 3))
            }
            try bystander.ping()
            if !isSanitized { #expect(broker.residentMegabytes < before + 16) }
            try broker.stop()
        }

        @Test func `below the limit is taken, above it refused`() throws {
            let broker = try Martlet(["max_packet_size 1000"])
            let client = try broker.client()
            try client.subscribe([("size", 0)])
            let largest = 1_000 - 3 - 2 - 4
            try client.send(Packet.publish("size", String(repeating: "x", count: largest)))
            #expect(try client.receive().payload.count == largest)
            try client.send(Packet.publish("size", String(repeating: "x", count: largest + 10)))
            #expect(client.isClosed(within: 3))
        }
    }
}
