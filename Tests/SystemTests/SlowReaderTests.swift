import Testing

extension System {
    /// A client that never reads costs bounded memory, which comes back when it goes.
    @Suite(.enabled(if: Martlet.isFast)) struct `A client that never reads` {
        static let boundMegabytes = 200.0
        static let floodBytes = 1 << 30
        static let payload = [UInt8](repeating: 0x78, count: 16_384)

        @Test func `loses QoS 0 messages, and nobody else does`() throws {
            let broker = try Martlet()
            let before = broker.residentMegabytes
            var sleeper: RawClient? = try RawClient(port: broker.port, receiveBufferBytes: 4_096)
            try sleeper?.connect("sleeper")
            try sleeper?.subscribe([("flood", 0)])
            let bystander = try broker.client()
            try bystander.subscribe([("news", 0)])

            let publisher = try broker.client()
            let packet = Packet.publish(Array("flood".utf8), Self.payload)
            let batch = Array(repeatElement(packet, count: 64).joined())
            var peak = before
            for sent in stride(from: 0, to: Self.floodBytes, by: batch.count) {
                try publisher.send(batch)
                guard sent % (batch.count * 32) == 0 else { continue }
                peak = max(peak, broker.residentMegabytes)
                try publisher.publish("news", "\(sent)")
                #expect(try bystander.receive().text == "\(sent)")
            }
            try publisher.ping()
            peak = max(peak, broker.residentMegabytes)
            #expect(peak < before + Self.boundMegabytes)

            sleeper = nil
            #expect(eventually(within: 20) { broker.residentMegabytes < before + 64 }, "\(broker.residentMegabytes) MB")
            try bystander.ping()
            try broker.stop()
        }

        @Test func `has a bounded queue at QoS 1`() throws {
            let broker = try Martlet()
            let before = broker.residentMegabytes
            var sleeper: RawClient? = try RawClient(port: broker.port, receiveBufferBytes: 4_096)
            try sleeper?.connect("sleeper", cleanSession: false)
            try sleeper?.subscribe([("flood", 1)])
            let bystander = try broker.client()
            try bystander.subscribe([("news", 1)])

            let publisher = try broker.client()
            var peak = before
            let perTurn = 64
            for turn in 0..<Self.floodBytes / Self.payload.count / perTurn {
                var batch: [UInt8] = []
                for number in 1...perTurn {
                    batch += Packet.publish(Array("flood".utf8), Self.payload, qos: 1, identifier: UInt16(number))
                }
                try publisher.send(batch)
                for number in 1...perTurn {
                    #expect(try publisher.receive() == Received(first: 0x40, body: Packet.uint16(UInt16(number))))
                }
                guard turn % 32 == 0 else { continue }
                peak = max(peak, broker.residentMegabytes)
                try publisher.publish("news", "\(turn)")
                #expect(try bystander.receive().text == "\(turn)")
            }
            peak = max(peak, broker.residentMegabytes)
            #expect(peak < before + Self.boundMegabytes)

            // The session stays, with its queue; a clean one in its place ends both.
            sleeper = nil
            _ = try broker.client("sleeper", cleanSession: true)
            #expect(eventually(within: 20) { broker.residentMegabytes < before + 64 }, "\(broker.residentMegabytes) MB")
            try bystander.ping()
            try broker.stop()
        }
    }
}
