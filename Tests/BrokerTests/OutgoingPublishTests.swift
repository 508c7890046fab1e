import MQTT
import Testing

@testable import Broker

/// A publisher and a subscriber of "t" with windows of a chosen size.
private struct Pair {
    let broker: ShardHarness
    let publisher: TestConnection
    var subscriber: TestConnection

    init(inFlightMessages: Int = 20, inFlightBytes: Int = 0, filter: String = "t", at qos: QoS = .exactlyOnce) {
        var limits = Limits()
        limits.inFlightMessages = inFlightMessages
        limits.inFlightBytes = inFlightBytes
        broker = ShardHarness(limits: limits)
        publisher = broker.connect("publisher")
        subscriber = broker.connect("subscriber", cleanSession: false)
        subscriber.subscribe((filter, qos))
        _ = (publisher.take(), subscriber.take())
    }

    func publish(_ payloads: [Int], _ qos: QoS) {
        for payload in payloads { publisher.publish("t", "\(payload)", qos) }
    }

    mutating func reconnect() {
        subscriber.drop()
        subscriber = broker.connect("subscriber", cleanSession: false)
        #expect(subscriber.packets.first == .accepted(sessionPresent: true))
        subscriber.packets.removeFirst()
    }
}

private func sent(
    _ payload: Int, _ qos: QoS, _ identifier: PacketIdentifier, isDuplicate: Bool = false
) -> Delivery {
    Delivery(topic: "t", payload: "\(payload)", qos: qos, packetIdentifier: identifier, isDuplicate: isDuplicate)
}

@Suite struct `Delivering at QoS 1 and 2` {
    @Test(arguments: QoS.allCases, QoS.allCases)
    func `has the lower QoS of publisher and subscription [MQTT-3.8.4-6] [MQTT-2.3.1-5]`(
        _ published: QoS, _ granted: QoS
    ) {
        let pair = Pair(at: granted)
        pair.publish([1], published)
        let qos = min(published, granted)
        #expect(pair.subscriber.takeDeliveries() == [sent(1, qos, qos == .atMostOnce ? 0 : 1)])
    }

    @Test func `gives each message an identifier of its own, from 1 on [MQTT-4.3.2-1] [MQTT-4.3.3-1]`() {
        let pair = Pair()
        pair.publish([1, 2], .atLeastOnce)
        pair.publish([3], .atMostOnce)
        pair.publish([4], .exactlyOnce)
        #expect(
            pair.subscriber.takeDeliveries() == [
                sent(1, .atLeastOnce, 1), sent(2, .atLeastOnce, 2), sent(3, .atMostOnce, 0), sent(4, .exactlyOnce, 3),
            ])
    }

    @Test func `answers PUBREC with PUBREL, and ends with PUBCOMP [MQTT-4.3.3-1] [MQTT-3.6.1-1]`() {
        let pair = Pair(inFlightMessages: 1)
        pair.publish([1, 2], .exactlyOnce)
        #expect(pair.subscriber.takeDeliveries() == [sent(1, .exactlyOnce, 1)])
        pair.subscriber.acknowledge(.publishReceived, 1)
        #expect(pair.subscriber.take() == [.acknowledgement(.publishRelease, 1)])
        pair.subscriber.acknowledge(.publishComplete, 1)
        #expect(pair.subscriber.takeDeliveries() == [sent(2, .exactlyOnce, 2)])
    }

    @Test func `sends PUBRELs in the order of the PUBRECs [MQTT-4.6.0-4]`() {
        let pair = Pair()
        pair.publish(Array(1...20), .exactlyOnce)
        _ = pair.subscriber.take()
        let order = (1...20 as ClosedRange<PacketIdentifier>).reversed()
        for identifier in order { pair.subscriber.acknowledge(.publishReceived, identifier) }
        #expect(pair.subscriber.takeAcknowledgements().map(\.packetIdentifier) == Array(order))
    }

    @Test func `answers a repeated or unknown PUBREC with PUBREL, so that the client can finish`() {
        let pair = Pair(inFlightMessages: 2)
        pair.publish([1, 2, 3], .exactlyOnce)
        _ = pair.subscriber.take()
        for identifier in [1, 1, 99] as [PacketIdentifier] {
            pair.subscriber.acknowledge(.publishReceived, identifier)
            #expect(pair.subscriber.take() == [.acknowledgement(.publishRelease, identifier)])
        }
    }

    @Test func `ignores acknowledgements that nothing awaits [MQTT-4.3.2-1]`() {
        let pair = Pair(inFlightMessages: 2)
        pair.publish([1, 3], .atLeastOnce)
        pair.publish([2, 4], .exactlyOnce)
        #expect(pair.subscriber.takePayloads() == ["1", "3"])
        pair.subscriber.acknowledge(99, 65_535, 3)
        pair.subscriber.acknowledge(.publishComplete, 1)
        pair.subscriber.acknowledge(.publishComplete, 99)
        #expect(pair.subscriber.take() == [])
        pair.subscriber.acknowledge(1, 1, 2)
        #expect(pair.subscriber.takeDeliveries() == [sent(2, .exactlyOnce, 3), sent(4, .exactlyOnce, 4)])
        pair.subscriber.acknowledge(3)  // PUBACK for QoS 2
        pair.subscriber.acknowledge(.publishComplete, 3)  // without PUBREC
        pair.publish([5], .atLeastOnce)
        #expect(pair.subscriber.take() == [])
        #expect(!pair.subscriber.isClosed)
    }

    @Test(arguments: [1, 2, 20, 100])
    func `has at most so many messages on their way, the rest in order`(_ window: Int) {
        let pair = Pair(inFlightMessages: window)
        pair.publish(Array(1...300), .atLeastOnce)
        var (payloads, unacknowledged): ([String], [PacketIdentifier]) = ([], [])
        repeat {
            let deliveries = pair.subscriber.takeDeliveries()
            payloads += deliveries.map(\.payload)
            unacknowledged += deliveries.map(\.packetIdentifier)
            #expect(unacknowledged.count <= window)
            if let latest = unacknowledged.popLast() { pair.subscriber.acknowledge(latest) }  // The oldest last.
        } while !unacknowledged.isEmpty || !pair.subscriber.packets.isEmpty
        #expect(payloads == (1...300).map { "\($0)" })
    }

    @Test func `counts the window by messages that are not over, whatever their place`() {
        let pair = Pair(inFlightMessages: 3)
        pair.publish(Array(1...6), .atLeastOnce)
        #expect(pair.subscriber.takePayloads() == ["1", "2", "3"])
        pair.subscriber.acknowledge(2)
        #expect(pair.subscriber.takeDeliveries() == [sent(4, .atLeastOnce, 4)])
        pair.subscriber.acknowledge(4, 3)
        #expect(pair.subscriber.takeDeliveries() == [sent(5, .atLeastOnce, 5), sent(6, .atLeastOnce, 6)])
        pair.subscriber.acknowledge(1, 5, 6)
        #expect(pair.subscriber.take() == [])
    }

    @Test func `has at most so many bytes on their way, but one message always`() {
        let pair = Pair(inFlightBytes: 100)
        pair.publisher.publish("t", String(repeating: "x", count: 500), .atLeastOnce)
        pair.publisher.publish("t", String(repeating: "y", count: 50), .exactlyOnce)
        pair.publisher.publish("t", String(repeating: "z", count: 50), .atLeastOnce)
        pair.publisher.publish("t", "1", .atLeastOnce)
        #expect(pair.subscriber.takeDeliveries().map(\.payload.count) == [500])
        pair.subscriber.acknowledge(1)
        #expect(pair.subscriber.takeDeliveries().map(\.payload.count) == [50, 50])
        pair.subscriber.acknowledge(3)
        #expect(pair.subscriber.takeDeliveries().map(\.payload.count) == [1])
    }

    @Test func `lets the bytes of a QoS 2 message go with its PUBREC`() {
        let pair = Pair(inFlightBytes: 10)
        pair.publish([1_000_001, 1_000_002], .exactlyOnce)
        #expect(pair.subscriber.takePayloads() == ["1000001"])
        pair.subscriber.acknowledge(.publishReceived, 1)
        #expect(pair.subscriber.takePayloads() == ["1000002"], "only a released message is on its way")
    }

    @Test func `keeps QoS 0 going while the window is closed`() {
        let pair = Pair(inFlightMessages: 1)
        pair.publish([1, 2], .atLeastOnce)
        pair.publish([3], .atMostOnce)
        #expect(pair.subscriber.takePayloads() == ["1", "3"])
    }
}

@Suite struct `After a reconnect` {
    @Test func `what was in flight goes out again, in order, with DUP [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1]`() {
        var pair = Pair()
        for payload in 1...10 { pair.publish([payload], payload % 2 == 0 ? .exactlyOnce : .atLeastOnce) }
        let first = pair.subscriber.takeDeliveries()
        pair.subscriber.acknowledge(3, 7)
        for round in 1...3 {
            pair.reconnect()
            let again = first.filter { ![3, 7].contains($0.packetIdentifier) }.map { delivery in
                var delivery = delivery
                delivery.isDuplicate = true
                return delivery
            }
            #expect(pair.subscriber.takeDeliveries() == again, "round \(round)")
        }
    }

    @Test func `a QoS 2 message goes on where its handshake was [MQTT-4.3.3-1]`() {
        var pair = Pair()
        pair.publish([1, 2, 3, 4], .exactlyOnce)
        _ = pair.subscriber.take()
        for identifier in [2, 3, 4] as [PacketIdentifier] { pair.subscriber.acknowledge(.publishReceived, identifier) }
        pair.subscriber.acknowledge(.publishComplete, 4)
        pair.reconnect()
        let packets = pair.subscriber.take()
        #expect(TestConnection.deliveries(in: packets) == [sent(1, .exactlyOnce, 1, isDuplicate: true)])
        #expect(
            Array(packets.dropFirst()) == [.acknowledgement(.publishRelease, 2), .acknowledgement(.publishRelease, 3)])
        pair.subscriber.acknowledge(.publishComplete, 2)
        pair.subscriber.acknowledge(.publishReceived, 1)
        #expect(pair.subscriber.take() == [.acknowledgement(.publishRelease, 1)])
    }

    @Test func `what waited comes behind it, without DUP [MQTT-3.3.1-1]`() {
        var pair = Pair(inFlightMessages: 2)
        pair.publish([1, 2, 3], .atLeastOnce)
        pair.subscriber.drop()
        pair.publish([4], .atLeastOnce)
        pair.reconnect()
        let expected = [sent(1, .atLeastOnce, 1, isDuplicate: true), sent(2, .atLeastOnce, 2, isDuplicate: true)]
        #expect(pair.subscriber.takeDeliveries() == expected)
        pair.subscriber.acknowledge(2, 1)
        #expect(pair.subscriber.takeDeliveries() == [sent(3, .atLeastOnce, 3), sent(4, .atLeastOnce, 4)])
    }

    @Test func `a message that was acknowledged before it came again does not come again`() {
        var limits = Limits()
        limits.inFlightMessages = 100
        let broker = ShardHarness(limits: limits)
        let publisher = broker.connect("publisher")
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .atLeastOnce))
        for payload in 1...100 { publisher.publish("t", "\(payload)", .atLeastOnce) }
        first.drop()
        broker.settlesAtOnce = false
        let second = broker.connect("a", cleanSession: false)
        #expect(second.takePayloads() == (1...64).map { "\($0)" }, "one step")
        second.acknowledge(100)
        broker.settle()
        let rest = second.takeDeliveries()
        #expect(rest.allSatisfy { $0.isDuplicate })
        #expect(rest.map(\.payload) == (65...99).map { "\($0)" })
    }

    @Test func `new messages queue behind those that come again [MQTT-4.6.0-6]`() {
        var limits = Limits()
        limits.inFlightMessages = 0
        let broker = ShardHarness(limits: limits)
        let publisher = broker.connect("publisher")
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .atLeastOnce))
        for payload in 1...200 { publisher.publish("t", "\(payload)", .atLeastOnce) }
        first.drop()
        broker.settlesAtOnce = false
        let second = broker.connect("a", cleanSession: false)
        publisher.publish("t", "201", .atLeastOnce)
        broker.settle()
        #expect(second.takePayloads() == (1...201).map { "\($0)" })
    }

    @Test func `a delivery that was begun is completed though its subscription is gone [MQTT-3.10.4-3]`() {
        var pair = Pair()
        pair.publish([1, 2], .exactlyOnce)
        _ = pair.subscriber.take()
        pair.subscriber.acknowledge(.publishReceived, 2)
        pair.subscriber.unsubscribe("t")
        pair.reconnect()
        let packets = pair.subscriber.take()
        #expect(TestConnection.deliveries(in: packets) == [sent(1, .exactlyOnce, 1, isDuplicate: true)])
        #expect(packets.last == .acknowledgement(.publishRelease, 2))
        pair.publish([3], .exactlyOnce)
        #expect(pair.subscriber.takeDeliveries().isEmpty)
    }
}
