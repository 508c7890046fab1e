import MQTT
import Testing

@testable import Broker

@Suite struct `Packet identifiers of the broker` {
    private let broker: ShardHarness
    private let (publisher, subscriber): (TestConnection, TestConnection)

    init() {
        var limits = Limits()
        limits.inFlightMessages = 0
        limits.queuedMessages = 0
        broker = ShardHarness(limits: limits)
        publisher = broker.connect("publisher")
        subscriber = broker.connect("subscriber", cleanSession: false)
        subscriber.subscribe(("t", .exactlyOnce))
        _ = (publisher.take(), subscriber.take())
    }

    private func publish(_ payloads: ClosedRange<Int>) {
        for payload in payloads { publisher.publish("t", "\(payload)", .atLeastOnce, identifier: 1) }
        _ = publisher.take()
    }

    @Test func `are 65,535, then messages wait rather than share one [MQTT-2.3.1-4] [MQTT-2.3.1-1]`() {
        publish(1...65_540)
        let first = subscriber.takeDeliveries()
        #expect(first.count == 65_535)
        #expect(first.map(\.packetIdentifier) == Array(1...65_535))
        subscriber.acknowledge(2, 3, 65_535)
        #expect(subscriber.take() == [], "1 is next, and it is in use")
        subscriber.acknowledge(1)
        #expect(subscriber.takeDeliveries().map(\.packetIdentifier) == [1, 2, 3])
        subscriber.acknowledge(4, 5, 6)
        #expect(subscriber.takeDeliveries().map(\.payload) == ["65539", "65540"])
        subscriber.acknowledge(.publishReceived, 9)
        #expect(subscriber.take() == [.acknowledgement(.publishRelease, 9)])
    }

    @Test func `go round and never meet one that is in use [MQTT-2.3.1-4]`() {
        publish(1...1)
        #expect(subscriber.takeDeliveries().map(\.packetIdentifier) == [1])
        subscriber.acknowledgesAtOnce = true
        publish(2...65_536)
        let round = subscriber.takeDeliveries()
        #expect(round.map(\.packetIdentifier) == Array(2...65_535), "1 was never acknowledged")
        subscriber.acknowledge(1)
        #expect(subscriber.takeDeliveries().map(\.packetIdentifier) == [1])
        publish(65_537...65_637)
        #expect(subscriber.takeDeliveries().map(\.packetIdentifier) == Array(2...102))
    }

    @Test func `are found again across the wrap, in any order of their acknowledgements`() {
        subscriber.acknowledgesAtOnce = true
        publish(1...65_500)
        subscriber.acknowledgesAtOnce = false
        _ = subscriber.take()
        publish(65_501...65_600)
        let deliveries = subscriber.takeDeliveries()
        #expect(deliveries.map(\.packetIdentifier) == Array(65_501...65_535) + Array(1...65))
        subscriber.acknowledge(1, 65_535, 65, 65_502, 30)
        subscriber.drop()
        let second = broker.connect("subscriber", cleanSession: false)
        let expected = deliveries.filter { ![1, 65_535, 65, 65_502, 30].contains($0.packetIdentifier) }
        #expect(second.takeDeliveries().map(\.packetIdentifier) == expected.map(\.packetIdentifier))
        for delivery in expected.reversed() { second.acknowledge(delivery.packetIdentifier) }
        second.drop()
        #expect(broker.connect("subscriber", cleanSession: false).takeDeliveries().isEmpty)
    }

    @Test func `belong to one session each [MQTT-2.3.1-4]`() {
        let other = broker.connect("other")
        other.subscribe(("t", .atLeastOnce))
        _ = other.take()
        publish(1...3)
        #expect(subscriber.takeDeliveries().map(\.packetIdentifier) == [1, 2, 3])
        #expect(other.takeDeliveries().map(\.packetIdentifier) == [1, 2, 3])
    }

    @Test func `are no concern of the client's own, which may be the same [MQTT-2.3.1-4]`() {
        publish(1...1)
        _ = subscriber.take()
        subscriber.publish("t", "2", .atLeastOnce, identifier: 1)
        #expect(
            subscriber.take().last == .acknowledgement(.publishAcknowledgement, 1),
            "the client's PUBLISH is answered")
        subscriber.acknowledge(1)
        subscriber.drop()
        #expect(broker.connect("subscriber", cleanSession: false).takeDeliveries().map(\.packetIdentifier) == [2])
    }
}
