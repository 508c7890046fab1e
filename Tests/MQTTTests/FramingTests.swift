import MQTT
import Testing

@Suite struct `The fixed header` {
    /// Remaining Lengths at both ends of each size of Table 2.4, with their encoding.
    static let boundaries: [(remainingLength: Int, encoded: [UInt8])] = [
        (0, [0x00]), (1, [0x01]), (127, [0x7F]),
        (128, [0x80, 0x01]), (16_383, [0xFF, 0x7F]),
        (16_384, [0x80, 0x80, 0x01]), (2_097_151, [0xFF, 0xFF, 0x7F]),
        (2_097_152, [0x80, 0x80, 0x80, 0x01]), (268_435_455, [0xFF, 0xFF, 0xFF, 0x7F]),
    ]

    @Test(arguments: boundaries)
    func `says how much follows in one to four bytes (2.2.3)`(_ remainingLength: Int, _ encoded: [UInt8]) throws {
        var bytes: [UInt8] = []
        bytes.append(fixedHeader: 0x30, remainingLength: remainingLength)
        #expect(bytes == [0x30] + encoded)
        let header = try #require(try FixedHeader(bytes.span, at: 0))
        #expect(header.byte == 0x30)
        #expect(header.remainingLength == remainingLength)
        #expect(header.length == 1 + encoded.count)
        #expect(header.packetLength == 1 + encoded.count + remainingLength)
    }

    @Test(arguments: boundaries)
    func `is read where it begins, whatever lies around it`(_ remainingLength: Int, _ encoded: [UInt8]) throws {
        for offset in 0...5 {
            let bytes = Array(repeating: 0xFF, count: offset) + [0x62] + encoded + [0xFF, 0xFF]
            let header = try #require(try FixedHeader(bytes.span, at: offset))
            #expect(header.byte == 0x62)
            #expect(header.remainingLength == remainingLength)
            #expect(header.length == 1 + encoded.count)
        }
    }

    @Test(arguments: boundaries)
    func `is not there until its last byte is`(_ remainingLength: Int, _ encoded: [UInt8]) throws {
        let bytes = [0xD0, 0x00, 0x30] + encoded
        for count in 2..<bytes.count {
            #expect(try FixedHeader(bytes.span.extracting(first: count), at: 2) == nil)
        }
        #expect(try FixedHeader(bytes.span, at: bytes.count) == nil)
        #expect(try FixedHeader(bytes.span, at: bytes.count + 1) == nil)
    }

    @Test(
        arguments: [[0x80, 0x80, 0x80, 0x80], [0xFF, 0xFF, 0xFF, 0xFF], [0x80, 0x80, 0x80, 0x80, 0x01]] as [[UInt8]])
    func `never has a fifth byte of Remaining Length (2.2.3)`(_ encoded: [UInt8]) {
        #expect(throws: MalformedPacket.remainingLengthTooLong) {
            try FixedHeader(([0x30] + encoded).span, at: 0)
        }
    }

    /// 2.2.3 does not ask for the shortest encoding, so what is longer than needed is accepted.
    @Test(arguments: [[0x05], [0x85, 0x00], [0x85, 0x80, 0x00], [0x85, 0x80, 0x80, 0x00]] as [[UInt8]])
    func `may say its Remaining Length in more bytes than it needs`(_ encoded: [UInt8]) throws {
        let header = try #require(try FixedHeader(([0x30] + encoded).span, at: 0))
        #expect(header.remainingLength == 5)
        #expect(header.length == 1 + encoded.count)
    }
}

@Suite struct `Packets back to back` {
    private static let packets: [ControlPacket] = [
        .connect(Connect(clientIdentifier: text("a"))),
        .subscribe([Subscription(filter: text("#"), maximumQoS: .exactlyOnce)], packetIdentifier: 1),
        .publish(ApplicationMessage(topic: "a/b", payload: []), qos: .atMostOnce),
        .publish(ApplicationMessage(topic: "a", payload: text("payload")), qos: .atLeastOnce, packetIdentifier: 2),
        .pingRequest,
        .acknowledgement(Acknowledgement(.publishRelease, 3)),
        .publish(
            ApplicationMessage(topic: "long", payload: Array(repeating: 7, count: 20_000)), qos: .exactlyOnce,
            packetIdentifier: 4, isDuplicate: true, isRetained: true),
        .disconnect,
    ]

    private static var stream: [UInt8] {
        packets.reduce(into: []) { bytes, packet in packet.encode(into: &bytes) }
    }

    @Test func `are read one after the other`() throws {
        var offset = 0
        for packet in Self.packets { #expect(try ControlPacket.next(in: Self.stream, at: &offset) == packet) }
        #expect(offset == Self.stream.count)
        #expect(try ControlPacket.next(in: Self.stream, at: &offset) == nil)
        #expect(offset == Self.stream.count)
    }

    @Test(arguments: [1, 2, 3, 7, 4096]) func `are read whatever the pieces that they come in`(_ piece: Int) throws {
        var (arrived, packets, offset): ([UInt8], [ControlPacket], Int) = ([], [], 0)
        var rest = Self.stream[...]
        while !rest.isEmpty {
            arrived += rest.prefix(piece)
            rest = rest.dropFirst(piece)
            while let packet = try ControlPacket.next(in: arrived, at: &offset) { packets.append(packet) }
        }
        #expect(packets == Self.packets)
        #expect(offset == arrived.count)
    }

    @Test func `leave the offset where an incomplete packet begins`() throws {
        let bytes: [UInt8] = [0xC0, 0x00, 0x40, 0x02, 0x00]
        var offset = 0
        #expect(try ControlPacket.next(in: bytes, at: &offset) == .pingRequest)
        #expect(try ControlPacket.next(in: bytes, at: &offset) == nil)
        #expect(offset == 2)
    }

    @Test func `are read up to the first malformed one [MQTT-4.8.0-1]`() throws {
        let bytes: [UInt8] = [0xC0, 0x00, 0x40, 0x02, 0x00, 0x00, 0xC0, 0x00]
        var offset = 0
        #expect(try ControlPacket.next(in: bytes, at: &offset) == .pingRequest)
        #expect(throws: MalformedPacket.zeroPacketIdentifier) { try ControlPacket.next(in: bytes, at: &offset) }
    }

    /// A topic of one byte leaves `remainingLength - 3` bytes for the payload of a PUBLISH at QoS 0.
    @Test(arguments: [127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
    func `keep their length where the Remaining Length grows by a byte`(_ remainingLength: Int) throws {
        let payload = (0..<(remainingLength - 3)).map { UInt8(truncatingIfNeeded: $0) }
        let packet = ControlPacket.publish(ApplicationMessage(topic: "a", payload: payload), qos: .atMostOnce)
        var bytes: [UInt8] = []
        packet.encode(into: &bytes)
        #expect(try FixedHeader(bytes.span, at: 0)?.packetLength == bytes.count)
        var offset = 0
        #expect(try ControlPacket.next(in: bytes, at: &offset) == packet)
        #expect(offset == bytes.count)
    }
}
