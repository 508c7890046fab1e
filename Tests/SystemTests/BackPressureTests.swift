import Testing

extension System {
    /// A client that takes no replies is not read; once it takes them, nothing is missing.
    @Suite struct `Back-pressure` {
        @Test func `stops reading who does not take replies, and goes on when they do`() throws {
            let broker = try Martlet()
            let before = broker.residentMegabytes
            let client = try RawClient(port: broker.port, receiveBufferBytes: 4_096)
            try client.connect("deaf")
            let pings = [UInt8](repeating: 0, count: 65_536).indices.map { $0 % 2 == 0 ? UInt8(0xC0) : 0 }
            let limit = 64 << 20
            let sent = try client.sendUntilBlocked(pings, limit: limit)
            #expect(sent < limit, "the broker kept \(sent) bytes of replies")
            // The address sanitizer keeps what is freed.
            if !isSanitized { #expect(broker.residentMegabytes < before + 32) }
            if sent % 2 == 1 { try client.send([0]) }
            for number in 0..<(sent + 1) / 2 {
                guard try client.receive(within: 30).first == 0xD0 else { throw Unexpected("reply \(number)") }
            }
            try client.ping()
            try broker.stop()
        }

        @Test func `holds a reader's half packet while its output is full`() throws {
            let broker = try Martlet()
            let reader = try RawClient(port: broker.port, receiveBufferBytes: 4_096)
            try reader.connect("reader")
            try reader.subscribe([("flood", 0)])
            try reader.send([0xC0])  // The first byte of a PINGREQ.
            let publisher = try broker.client()
            let packet = Packet.publish(Array("flood".utf8), [UInt8](repeating: 0x78, count: 1_000))
            let batch = Array(repeatElement(packet, count: 1_000).joined())
            for _ in 0..<16 { try publisher.send(batch) }
            try publisher.ping()
            let cpu = broker.processorSeconds
            try reader.send([0])
            var answer = try reader.receive()
            while answer.first == 0x30 { answer = try reader.receive() }
            #expect(answer.first == 0xD0)
            try publisher.ping()
            #expect(broker.processorSeconds - cpu < 5)
            try broker.stop()
        }

        @Test(arguments: [8_189, 8_190, 8_191, 65_535]) func `passes on a topic of any length without payload`(
            _ length: Int
        ) throws {
            let broker = try Martlet()
            let client = try broker.client()
            let topic = [UInt8](repeating: 0x61, count: length)
            try client.subscribe([("#", 0)])
            for _ in 0..<3 {
                try client.send(Packet.publish(topic, []))
                #expect(try client.receive().body.count == length + 2)
                try client.ping()
            }
            try broker.stop()
        }
    }
}
