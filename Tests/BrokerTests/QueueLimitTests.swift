import MQTT
import Testing

@testable import Broker

/// A session that is away, with limits of its own, and a publisher.
private struct Away {
    let broker: ShardHarness
    let publisher: TestConnection

    init(filters: (String, QoS)..., limits: Limits) {
        broker = ShardHarness(limits: limits)
        publisher = broker.connect("publisher")
        let subscriber = broker.connect("a", cleanSession: false)
        for filter in filters { subscriber.subscribe(filter) }
        subscriber.drop()
    }

    func publish(_ payloads: [Int], _ qos: QoS = .atLeastOnce, to topic: String = "t") {
        for payload in payloads { publisher.publish(topic, "\(payload)", qos) }
    }

    func comeBack() -> TestConnection { broker.connect("a", cleanSession: false) }

    var namesOfFullQueues: Int { broker.events.filter { $0 == .queueFull(client: ClientIdentifier("a")) }.count }
}

@Suite struct `The queue of a session` {
    @Test func `holds so many messages and drops newer ones, which is counted and named once`() {
        var limits = Limits()
        limits.queuedMessages = 10
        let away = Away(filters: ("t", .atLeastOnce), limits: limits)
        away.publish(Array(1...15))
        #expect(away.broker.counters.publishesDropped == 5)
        #expect(away.namesOfFullQueues == 1)
        let subscriber = away.comeBack()
        #expect(subscriber.takePayloads() == (1...10).map { "\($0)" })
        subscriber.acknowledge(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
        subscriber.drop()
        away.publish(Array(1...15))
        #expect(away.namesOfFullQueues == 2, "after it has drained")
    }

    @Test func `does not count what is in flight`() {
        var limits = Limits()
        limits.queuedMessages = 2
        limits.inFlightMessages = 3
        let broker = ShardHarness(limits: limits)
        let subscriber = broker.connect("a", cleanSession: false)
        subscriber.subscribe(("t", .exactlyOnce))
        _ = subscriber.take()
        let publisher = broker.connect("publisher")
        for payload in 1...6 { publisher.publish("t", "\(payload)", .exactlyOnce) }
        #expect(subscriber.takePayloads() == ["1", "2", "3"])
        #expect(broker.counters.publishesDropped == 1)
        subscriber.acknowledgesAtOnce = true
        for identifier in 1...3 as ClosedRange<PacketIdentifier> {
            subscriber.acknowledge(.publishReceived, identifier)
        }
        #expect(subscriber.takePayloads() == ["4", "5"])
    }

    @Test func `holds so many bytes, but one message always`() {
        var limits = Limits()
        limits.queuedBytes = 5
        let away = Away(filters: ("t", .atLeastOnce), limits: limits)
        away.publish([1_000_000_000_000_000_000])
        away.publish([1])
        #expect(away.broker.counters.publishesDropped == 1)
        let subscriber = away.comeBack()
        #expect(subscriber.takePayloads().count == 1)
        subscriber.acknowledge(1)
        subscriber.drop()
        away.publish([1, 2, 3, 4, 5, 6])
        #expect(away.broker.counters.publishesDropped == 2)
        #expect(away.comeBack().takePayloads() == ["1", "2", "3", "4", "5"])
    }

    @Test func `has no limit where the limit is 0`() {
        var limits = Limits()
        limits.queuedMessages = 0
        let away = Away(filters: ("t", .atLeastOnce), limits: limits)
        away.publish(Array(1...3000))
        #expect(away.broker.counters.publishesDropped == 0)
        let subscriber = away.comeBack()
        subscriber.acknowledgesAtOnce = true
        for delivery in TestConnection.deliveries(in: subscriber.packets) {
            subscriber.acknowledge(delivery.packetIdentifier)
        }
        #expect(subscriber.takePayloads() == (1...3000).map { "\($0)" })
    }

    @Test func `is each session's own`() {
        var limits = Limits()
        limits.queuedMessages = 1
        let away = Away(filters: ("t", .atLeastOnce), limits: limits)
        let other = away.broker.connect("other")
        other.subscribe(("t", .atLeastOnce))
        _ = other.take()
        away.publish([1, 2, 3])
        #expect(other.takePayloads() == ["1", "2", "3"])
        #expect(away.comeBack().takePayloads() == ["1"])
    }

    @Test func `goes out in steps, so that nobody else waits for it`() {
        let away = Away(
            filters: ("t", .atLeastOnce),
            limits: {
                var limits = Limits()
                limits.inFlightMessages = 0
                return limits
            }())
        away.publish(Array(1...200))
        away.broker.settlesAtOnce = false
        let subscriber = away.comeBack()
        var steps = [subscriber.takePayloads().count]
        while away.broker.hasWork() {
            away.broker.work()
            steps.append(subscriber.takePayloads().count)
        }
        #expect(steps == [64, 64, 64, 8])
    }
}

@Suite struct `Queueing QoS 0 (queue_qos0_messages)` {
    private static let limits = {
        var limits = Limits()
        limits.queuesAtMostOnce = true
        return limits
    }()

    @Test func `keeps it for an offline session, in order with the rest`() {
        let away = Away(filters: ("t", .exactlyOnce), limits: Self.limits)
        away.publish([1], .atMostOnce)
        away.publish([2], .atLeastOnce)
        away.publish([3, 4], .atMostOnce)
        away.publish([5], .exactlyOnce)
        #expect(
            away.comeBack().takeDeliveries() == [
                Delivery(topic: "t", payload: "1"),
                Delivery(topic: "t", payload: "2", qos: .atLeastOnce, packetIdentifier: 1),
                Delivery(topic: "t", payload: "3"), Delivery(topic: "t", payload: "4"),
                Delivery(topic: "t", payload: "5", qos: .exactlyOnce, packetIdentifier: 2),
            ])
        #expect(away.comeBack().takePayloads() == ["2", "5"], "QoS 0 comes once")
    }

    @Test func `bounds it by the same limits`() {
        var limits = Self.limits
        limits.queuedMessages = 3
        let away = Away(filters: ("t", .atMostOnce), limits: limits)
        away.publish([1, 2, 3, 4], .exactlyOnce)
        #expect(away.broker.counters.publishesDropped == 1)
        #expect(away.comeBack().takePayloads() == ["1", "2", "3"])
    }

    @Test func `lets no newer message past those that wait [MQTT-4.6.0-6]`() {
        let away = Away(filters: ("t", .atMostOnce), limits: Self.limits)
        away.publish(Array(1...100), .atMostOnce)
        away.broker.settlesAtOnce = false
        let subscriber = away.comeBack()
        away.publish([101], .atMostOnce)  // Between two steps of catching up.
        away.broker.settle()
        #expect(subscriber.takePayloads() == (1...101).map { "\($0)" })
    }

    @Test func `lets no newer message past those that wait for the window [MQTT-4.6.0-6]`() {
        var limits = Self.limits
        limits.inFlightMessages = 1
        let away = Away(filters: ("one", .atLeastOnce), ("t", .atMostOnce), limits: limits)
        away.publish([1, 2], .atLeastOnce, to: "one")
        away.publish([3], .atMostOnce)
        let subscriber = away.comeBack()
        away.publish([4], .atMostOnce)
        subscriber.acknowledge(1)
        #expect(subscriber.takeDeliveries().filter { $0.topic == "t" }.map(\.payload) == ["3", "4"])
    }
}
