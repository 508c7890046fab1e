import Access
import MQTT
import Testing

@testable import Broker

@Suite struct `The first packet of a connection` {
    @Test func `is answered with CONNACK 0 before anything else [MQTT-3.2.0-1] [MQTT-3.1.4-4]`() {
        let broker = ShardHarness()
        let connection = broker.connect("a")
        #expect(connection.take() == [.accepted(sessionPresent: false)])
        #expect(connection.client == ClientIdentifier("a"))
    }

    @Test func `comes before what waited for the session [MQTT-3.2.0-1]`() {
        let broker = ShardHarness()
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .atLeastOnce))
        first.drop()
        broker.connect("b").publish("t", "1", .atLeastOnce)
        let packets = broker.connect("a", cleanSession: false).take()
        #expect(packets.count == 2)
        #expect(packets.first == .accepted(sessionPresent: true))
    }

    @Test(
        arguments: [
            .publish(ApplicationMessage(topic: "t", payload: []), qos: .atMostOnce),
            .acknowledgement(.publishAcknowledgement, 1), .acknowledgement(.publishReceived, 1),
            .acknowledgement(.publishRelease, 1), .acknowledgement(.publishComplete, 1),
            .subscribe([Subscription(filter: [0x61], maximumQoS: .atMostOnce)], packetIdentifier: 1),
            .unsubscribe([[0x61]], packetIdentifier: 1), .pingRequest, .disconnect,
        ] as [ControlPacket])
    func `is a CONNECT, or the connection ends without a word [MQTT-3.1.0-1]`(_ packet: ControlPacket) throws {
        let broker = ShardHarness()
        let (whole, header) = (broker.open(), broker.open())
        whole.send(packet)
        var bytes: [UInt8] = []
        packet.encode(into: &bytes)
        try broker.announce(bytes, from: header)
        for connection in [whole, header] {
            #expect(connection.isClosed)
            #expect(connection.packets.isEmpty)
            #expect(connection.closeReason == .protocolViolation("a packet before CONNECT [MQTT-3.1.0-1]"))
        }
        #expect(broker.counters.connections == 0)
    }

    @Test func `is refused at its header when no CONNECT can be so long`() throws {
        let broker = ShardHarness()
        let (allowed, tooLong) = (broker.open(), broker.open())
        var bytes: [UInt8] = []
        bytes.append(fixedHeader: 0x10, remainingLength: Connect.maximumBodyBytes)
        try broker.announce(bytes, from: allowed)
        #expect(!allowed.isClosed)
        bytes = []
        bytes.append(fixedHeader: 0x10, remainingLength: Connect.maximumBodyBytes + 1)
        try broker.announce(bytes, from: tooLong)
        #expect(tooLong.closeReason == .malformed(.trailingBytes))
    }

    @Test(
        arguments: [
            ([0x10, 0x0C, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0b11, 0, 0, 0, 0], .reservedConnectFlag),  // [MQTT-3.1.2-3]
            ([0x10, 0x0C, 0, 4, 0x4D, 0x51, 0x54, 0x74, 4, 0b10, 0, 0, 0, 0], .wrongProtocolName),  // [MQTT-3.1.2-1]
            ([0x10, 0x0C, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0b1010, 0, 0, 0, 0], .inconsistentWill),  // [MQTT-3.1.2-11]
            ([0x10, 0x0C, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0x42, 0, 0, 0, 0], .passwordWithoutUserName),
            ([0x10, 0x0A, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0b10, 0, 0], .truncated),  // [MQTT-3.1.3-3]
            ([0x10, 0x0D, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0b10, 0, 0, 0, 0, 0], .trailingBytes),  // [MQTT-3.1.2-18]
            ([0x10, 0x0D, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0b10, 0, 0, 0, 1, 0], .nullCharacter),  // [MQTT-1.5.3-2]
            ([0x11, 0x0C, 0, 4, 0x4D, 0x51, 0x54, 0x54, 4, 0b10, 0, 0, 0, 0], .reservedFlags(1)),  // [MQTT-2.2.2-2]
        ] as [([UInt8], MalformedPacket)])
    func `ends the connection without CONNACK when it is malformed [MQTT-3.1.4-1]`(
        _ bytes: [UInt8], _ error: MalformedPacket
    ) {
        let broker = ShardHarness()
        let connection = broker.open()
        connection.send(bytes)
        #expect(connection.isClosed)
        #expect(connection.packets.isEmpty)
        #expect(connection.closeReason == .malformed(error))
        #expect(broker.figures.sessionCount == 0)
    }

    @Test func `is the only CONNECT, a second one ends the connection with its will [MQTT-3.1.0-2]`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("will", .atMostOnce))
        _ = watcher.take()
        for second in ["a", "other"] {
            let connection = broker.connect("a", will: WillMessage("will", second))
            connection.sendConnect(second)
            #expect(connection.closeReason == .protocolViolation("a second CONNECT [MQTT-3.1.0-2]"))
            #expect(watcher.takePayloads() == [second])
        }
        #expect(broker.figures.sessionCount == 1)
    }
}

@Suite struct `Refusing a CONNECT` {
    @Test(arguments: [0, 1, 2, 5, 6, 0x83, 0x84, 255] as [UInt8])
    func `answers an unknown protocol level with code 1 [MQTT-3.1.2-2] [MQTT-3.2.2-5]`(_ level: UInt8) {
        let broker = ShardHarness()
        let connection = broker.open()
        connection.send(.unacceptableConnect(level: level))
        #expect(connection.take() == [.refused(.unacceptableProtocolVersion)])
        #expect(connection.closeReason == .refused(.unacceptableProtocolVersion))
    }

    @Test func `answers an empty Client Identifier that wants its session kept with code 2 [MQTT-3.1.3-8]`() {
        let broker = ShardHarness()
        let connection = broker.connect("", cleanSession: false)
        #expect(connection.take() == [.refused(.identifierRejected)])
        #expect(connection.isClosed)
        #expect(broker.figures.sessionCount == 0)
    }

    @Test(arguments: [true, false])
    func `answers an empty Client Identifier of MQTT 3.1 with code 2 (MQTT 3.1, 3.1)`(_ cleanSession: Bool) {
        let broker = ShardHarness()
        let connection = broker.open()
        connection.sendConnect("", cleanSession: cleanSession, version: .mqtt31)
        #expect(connection.take() == [.refused(.identifierRejected)])
        #expect(connection.isClosed)
    }

    /// Of two listeners the second lets in nobody without a name.
    private static let rules = [ListenerRules(), ListenerRules()]
    private static let access: AccessControl = {
        var closed = AccessControl.Listener()
        closed.allowsAnonymous = false
        return AccessControl(listeners: [AccessControl.Listener(), closed])
    }()

    @Test func `answers with code 5 where nobody comes in without a name [MQTT-3.2.2-4]`() {
        let broker = ShardHarness(rules: Self.rules, access: Self.access)
        broker.connect("a", cleanSession: false).drop()
        let connection = broker.open(listener: 1)
        connection.sendConnect("a", cleanSession: false, will: WillMessage("will", "no"))
        #expect(connection.take() == [.refused(.notAuthorized)])
        #expect(connection.isClosed)
        #expect(broker.figures.sessionCount == 1)
        #expect(connection.client == nil)
    }

    @Test func `handles nothing that was sent behind it, and publishes no will [MQTT-3.1.4-5] [MQTT-3.1.2-8]`() {
        let broker = ShardHarness(rules: Self.rules, access: Self.access)
        let watcher = broker.connect("watcher")
        watcher.subscribe(("#", .exactlyOnce))
        _ = watcher.take()
        let connection = broker.open(listener: 1)
        connection.sendConnect("a", will: WillMessage("will", "no"))
        connection.publish("t", "no", .atLeastOnce, isRetained: true)
        connection.subscribe(("t", .atMostOnce))
        #expect(connection.take() == [.refused(.notAuthorized)])
        #expect(watcher.packets.isEmpty)
        #expect(broker.figures.subscriptionCount == 1)
        #expect(broker.figures.retainedCount == 0)
    }

    @Test func `leaves the session and the connection of the same client alone`() {
        let broker = ShardHarness(rules: Self.rules, access: Self.access)
        let first = broker.connect("a")
        let second = broker.open(listener: 1)
        second.sendConnect("a")
        #expect(!first.isClosed)
    }
}

@Suite struct `Client Identifiers` {
    @Test(arguments: [
        "x", "0123456789abcdefghijkL", "0123456789ABCDEFGHIJKLM", "ÄÖ/+#$ \u{1}", String(repeating: "x", count: 65_535),
    ])
    func `of any length and characters are accepted [MQTT-3.1.3-5]`(_ client: String) {
        let broker = ShardHarness()
        let connection = broker.connect(client)
        #expect(connection.take() == [.accepted(sessionPresent: false)])
        #expect(connection.client == ClientIdentifier(client))
    }

    @Test func `that differ in one byte have sessions of their own [MQTT-3.1.3-2] [MQTT-1.5.3-3]`() {
        let broker = ShardHarness()
        let connections = ["a", "A", "\u{FEFF}a", "é", "e\u{301}", "a "].map { broker.connect($0) }
        #expect(connections.allSatisfy { !$0.isClosed })
        #expect(broker.figures.connectedSessionCount == 6)
    }

    @Test func `that are empty get one that nobody has [MQTT-3.1.3-6]`() {
        let broker = ShardHarness(shards: 3)
        let connections = (0..<20).map { _ in broker.connect("") }
        #expect(connections.allSatisfy { $0.take() == [.accepted(sessionPresent: false)] })
        #expect(Set(connections.map(\.client)).count == 20)
        connections[0].subscribe(("t", .atMostOnce))
        connections[1].publish("t", "1")
        #expect(connections[0].takePayloads() == ["1"])
        for connection in connections { connection.drop() }
        #expect(broker.figures.sessionCount == 0)
    }
}

@Suite struct `MQTT 3.1` {
    @Test func `is accepted, and Session Present stays 0 for it has none (MQTT 3.1, 3.2)`() {
        let broker = ShardHarness()
        for payload in ["1", "2"] {
            let connection = broker.open()
            connection.sendConnect("a", cleanSession: false, version: .mqtt31)
            #expect(connection.packets.first == .accepted(sessionPresent: false))
            #expect(TestConnection.deliveries(in: connection.take()).map(\.payload) == (payload == "1" ? [] : ["1"]))
            connection.subscribe(("t", .exactlyOnce))
            connection.drop()
            broker.connect("b").publish("t", payload, .atLeastOnce)
        }
    }

    @Test func `may set DUP where it repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE (MQTT 3.1, 2.1)`() {
        let broker = ShardHarness()
        let connection = broker.open()
        connection.sendConnect("a", version: .mqtt31)
        connection.send([0x6A, 2, 0, 9])
        connection.send([0x8A, 6, 0, 1, 0, 1, 0x61, 0])
        connection.send([0xAA, 5, 0, 2, 0, 1, 0x61])
        #expect(
            connection.take() == [
                .accepted(sessionPresent: false), .acknowledgement(.publishComplete, 9),
                .granted(.atMostOnce, identifier: 1), .acknowledgement(.unsubscribeAcknowledgement, 2),
            ])
        let newer = broker.connect("b")
        newer.send([0x6A, 2, 0, 9])
        #expect(newer.closeReason == .malformed(.reservedFlags(0b1010)))
    }
}

@Suite struct `A connected client` {
    @Test func `gets PINGRESP for PINGREQ [MQTT-3.12.4-1]`() {
        let connection = ShardHarness().connect("a")
        _ = connection.take()
        connection.send(.pingRequest)
        #expect(connection.take() == [.pingResponse])
    }

    @Test(
        arguments: [
            [0xC1, 0], [0xC0, 1, 0], [0xE1, 0], [0xE0, 1, 0],  // PINGREQ, DISCONNECT [MQTT-3.14.1-1]
            [0x40, 2, 0, 0], [0x42, 2, 0, 1], [0x60, 2, 0, 1], [0x50, 3, 0, 1, 0],  // [MQTT-2.3.1-1] [MQTT-3.6.1-1]
            [0x36, 5, 0, 1, 0x74, 0, 1], [0x38, 3, 0, 1, 0x74], [0x30, 3, 0, 1, 0x23],  // [MQTT-3.3.1-4]
            [0x80, 6, 0, 1, 0, 1, 0x61, 0], [0x82, 2, 0, 1], [0x82, 6, 0, 1, 0, 1, 0x61, 3],  // [MQTT-3.8.1-1]
            [0xA0, 5, 0, 1, 0, 1, 0x61], [0xA2, 2, 0, 1],  // [MQTT-3.10.1-1] [MQTT-3.10.3-2]
            [0x00, 0], [0xF0, 0], [0x20, 2, 0, 0], [0x90, 3, 0, 1, 0], [0xB0, 2, 0, 1], [0xD0, 0],
        ] as [[UInt8]])
    func `is disconnected for a malformed packet, and the will tells [MQTT-4.8.0-1]`(_ bytes: [UInt8]) {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("will", .atMostOnce))
        let connection = broker.connect("a", will: WillMessage("will", "told"))
        _ = (watcher.take(), connection.take())
        connection.send(bytes)
        #expect(connection.isClosed)
        #expect(connection.packets.isEmpty)
        #expect(watcher.takePayloads() == ["told"])
        #expect(broker.figures.subscriptionCount == 1)
    }

    @Test func `is disconnected for a packet longer than max_packet_size, at its header already`() throws {
        var limits = Limits()
        limits.packetBytes = 100
        let broker = ShardHarness(limits: limits)
        let (header, whole, fitting) = (broker.connect("a"), broker.connect("b"), broker.connect("c"))
        var bytes: [UInt8] = []
        bytes.append(fixedHeader: 0x30, remainingLength: 99)
        try broker.announce(bytes, from: header)
        #expect(header.closeReason == .packetTooLarge(bytes: 101))
        whole.publish("t", String(repeating: "x", count: 96))
        #expect(whole.closeReason == .packetTooLarge(bytes: 101))
        fitting.publish("t", String(repeating: "x", count: 95))
        #expect(!fitting.isClosed)
    }

    @Test func `sends nothing more after DISCONNECT [MQTT-3.14.4-2]`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("#", .atMostOnce))
        _ = watcher.take()
        let connection = broker.connect("a", will: WillMessage("will", "no"))
        connection.disconnect()
        #expect(connection.closeReason == .disconnected)
        connection.publish("t", "no")
        #expect(watcher.packets.isEmpty)
    }
}
