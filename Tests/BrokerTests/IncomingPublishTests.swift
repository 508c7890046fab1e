import MQTT
import Testing

@testable import Broker

@Suite struct `A PUBLISH from a client` {
    private let broker = ShardHarness()
    private let (publisher, watcher): (TestConnection, TestConnection)

    init() {
        publisher = broker.connect("publisher")
        watcher = broker.connect("watcher")
        watcher.subscribe(("#", .exactlyOnce))
        watcher.acknowledgesAtOnce = true
        _ = (publisher.take(), watcher.take())
    }

    @Test(arguments: [1, 255, 256, 65_535] as [PacketIdentifier])
    func `is answered by the rules of its QoS [MQTT-3.3.4-1] [MQTT-2.3.1-6]`(_ identifier: PacketIdentifier) {
        publisher.publish("t", "0", .atMostOnce)
        #expect(publisher.take() == [])
        publisher.publish("t", "1", .atLeastOnce, identifier: identifier)
        #expect(publisher.take() == [.acknowledgement(.publishAcknowledgement, identifier)])
        publisher.publish("t", "2", .exactlyOnce, identifier: identifier)
        #expect(publisher.take() == [.acknowledgement(.publishReceived, identifier)])
        publisher.acknowledge(.publishRelease, identifier)
        #expect(publisher.take() == [.acknowledgement(.publishComplete, identifier)])
        #expect(watcher.takePayloads() == ["0", "1", "2"])
    }

    @Test func `is answered also when nobody wants it [MQTT-4.3.2-2]`() {
        watcher.drop()
        publisher.publish("t", "1", .atLeastOnce, identifier: 1)
        publisher.publish("t", "2", .exactlyOnce, identifier: 2)
        #expect(
            publisher.take() == [.acknowledgement(.publishAcknowledgement, 1), .acknowledgement(.publishReceived, 2)])
    }

    @Test func `is answered in its turn [MQTT-4.6.0-2] [MQTT-4.6.0-3]`() {
        for identifier in 1...500 as ClosedRange<PacketIdentifier> {
            publisher.publish("t", "", identifier % 3 == 0 ? .exactlyOnce : .atLeastOnce, identifier: 501 - identifier)
        }
        #expect(publisher.takeAcknowledgements().map(\.packetIdentifier) == (1...500).reversed())
    }

    @Test func `of QoS 1 is new each time, whatever DUP says [MQTT-4.3.2-2]`() {
        publisher.publish("t", "1", .atLeastOnce, identifier: 5)
        publisher.publish("t", "1", .atLeastOnce, identifier: 5, isDuplicate: true)
        #expect(watcher.takePayloads() == ["1", "1"])
        #expect(publisher.takeAcknowledgements().count == 2)
    }

    @Test func `of QoS 2 is delivered when it comes, and not again until it is released [MQTT-4.3.3-2]`() {
        for isDuplicate in [false, true, true, false] {
            publisher.publish("t", "1", .exactlyOnce, identifier: 5, isDuplicate: isDuplicate)
            #expect(publisher.take() == [.acknowledgement(.publishReceived, 5)])
        }
        #expect(watcher.takePayloads() == ["1"])
        publisher.acknowledge(.publishRelease, 5)
        publisher.acknowledge(.publishRelease, 5)
        publisher.publish("t", "2", .exactlyOnce, identifier: 5, isDuplicate: true)
        #expect(watcher.takePayloads() == ["2"])
    }

    @Test func `of QoS 2 under an identifier of QoS 1 is a message of its own [MQTT-2.3.1-2]`() {
        publisher.publish("t", "1", .exactlyOnce, identifier: 5)
        publisher.publish("t", "2", .atLeastOnce, identifier: 5)
        publisher.publish("t", "3", .exactlyOnce, identifier: 5)
        #expect(watcher.takePayloads() == ["1", "2"])
    }

    @Test func `of QoS 2 may be one of 65,535 that are not released [MQTT-4.3.3-2]`() {
        for round in 0..<2 {
            for identifier in 1...65_535 as ClosedRange<PacketIdentifier> {
                publisher.publish("t", "", .exactlyOnce, identifier: identifier, isDuplicate: round == 1)
            }
            #expect(publisher.takeAcknowledgements().count == 65_535)
            #expect(broker.counters.publishesSent == 65_535)
        }
        for identifier in 1...65_535 as ClosedRange<PacketIdentifier> {
            publisher.acknowledge(.publishRelease, identifier)
        }
        publisher.publish("t", "", .exactlyOnce, identifier: 40_000)
        #expect(broker.counters.publishesSent == 65_536)
    }

    @Test func `and its PUBREL without a PUBLISH still end with PUBCOMP [MQTT-4.3.3-2]`() {
        publisher.acknowledge(.publishRelease, 77)
        #expect(publisher.take() == [.acknowledgement(.publishComplete, 77)])
    }

    @Test func `gives its DUP to nobody [MQTT-3.3.1-3]`() {
        for qos in [QoS.atLeastOnce, .exactlyOnce] { publisher.publish("t", "", qos, isDuplicate: true) }
        #expect(watcher.takeDeliveries().map(\.isDuplicate) == [false, false])
    }

    @Test func `goes out as it came, byte for byte [MQTT-4.7.3-4] [MQTT-1.5.3-3]`() {
        let topics = [
            "a", "A", "/", "//", "a/", " ", "é", "e\u{301}", "\u{FEFF}a", String(repeating: "/", count: 65_535),
        ]
        for topic in topics { publisher.publish(topic, "\u{0}\u{FEFF}x") }
        #expect(watcher.takeDeliveries() == topics.map { Delivery(topic: $0, payload: "\u{0}\u{FEFF}x") })
    }

    @Test func `comes back to its publisher where that has subscribed`() {
        publisher.subscribe(("t", .atLeastOnce), identifier: 1)
        publisher.publish("t", "1", .exactlyOnce, identifier: 9)
        #expect(
            publisher.take() == [
                .granted(.atLeastOnce, identifier: 1),
                .publish(
                    ApplicationMessage(topic: "t", payload: Array("1".utf8)), qos: .atLeastOnce, packetIdentifier: 1),
                .acknowledgement(.publishReceived, 9),
            ])
    }
}

@Suite struct `A PUBLISH that is not taken` {
    @Test(arguments: ["$SYS", "$SYS/broker/x", "$CONTROL", "$CONTROL/fleet/v1"])
    func `to a topic of the server's is acknowledged, dropped and counted [MQTT-3.3.5-2]`(_ topic: String) {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("$SYS/#", .exactlyOnce), ("$CONTROL/#", .exactlyOnce), ("#", .exactlyOnce))
        let publisher = broker.connect("publisher", will: WillMessage(topic, "will", isRetained: true))
        _ = (publisher.take(), watcher.take())
        publisher.publish(topic, "0", isRetained: true)
        publisher.publish(topic, "1", .atLeastOnce, identifier: 1, isRetained: true)
        publisher.publish(topic, "2", .exactlyOnce, identifier: 2)
        publisher.acknowledge(.publishRelease, 2)
        #expect(
            publisher.take() == [
                .acknowledgement(.publishAcknowledgement, 1), .acknowledgement(.publishReceived, 2),
                .acknowledgement(.publishComplete, 2),
            ])
        publisher.drop()
        #expect(watcher.take() == [])
        #expect(broker.counters.publishesDenied == 4)
        #expect(broker.figures.retainedCount == 0)
    }

    @Test(arguments: ["$", "$x/y", "$SYSx", "$sys/x", "$CONTROLLER", "x/$SYS/y"])
    func `is none to another topic with a dollar sign (4.7.2)`(_ topic: String) {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe((topic, .atMostOnce))
        _ = watcher.take()
        broker.connect("publisher").publish(topic, "1")
        #expect(watcher.takePayloads() == ["1"])
        #expect(broker.counters.publishesDenied == 0)
    }

    @Test func `for its payload is acknowledged, dropped and counted`() {
        var limits = Limits()
        limits.payloadBytes = 3
        let broker = ShardHarness(limits: limits)
        let watcher = broker.connect("watcher")
        watcher.subscribe(("#", .exactlyOnce))
        _ = watcher.take()
        let publisher = broker.connect("publisher", will: WillMessage("will", "long"))
        _ = publisher.take()
        publisher.publish("a long topic does not count", "abc")
        publisher.publish("t", "abcd")
        publisher.publish("t", "abcd", .atLeastOnce, identifier: 1, isRetained: true)
        publisher.publish("t", "abcd", .exactlyOnce, identifier: 2)
        #expect(publisher.takeAcknowledgements().count == 2)
        publisher.drop()
        #expect(watcher.takePayloads() == ["abc"])
        #expect(broker.counters.publishesDropped == 4)
        #expect(broker.figures.retainedCount == 0)
    }
}

@Suite struct `Counting messages` {
    /// As `$SYS/broker/publish/bytes/...` of Mosquitto: the payloads, in both directions.
    @Test(arguments: QoS.allCases)
    func `counts the bytes that go out as it counts those that come in`(_ qos: QoS) {
        let broker = ShardHarness()
        let connection = broker.connect("a")
        connection.subscribe(("a/long/topic", qos))
        connection.publish("a/long/topic", "payload", qos)
        #expect(broker.counters.publishesReceived == 1)
        #expect(broker.counters.publishesSent == 1)
        #expect(broker.counters.publishBytesReceived == 7)
        #expect(broker.counters.publishBytesSent == 7)
    }

    @Test func `counts packets and connections`() {
        let broker = ShardHarness()
        let connection = broker.connect("a")
        connection.send(.pingRequest)
        _ = broker.open()
        #expect(broker.counters.packetsReceived == 2)
        #expect(broker.counters.connections == 2)
        connection.drop()
        #expect(broker.counters.connections == 1)
    }
}
