import MQTT
import Testing

@testable import Broker

@Suite struct `SUBSCRIBE` {
    private let broker = ShardHarness()
    private let (publisher, subscriber): (TestConnection, TestConnection)

    init() {
        (publisher, subscriber) = (broker.connect("publisher"), broker.connect("subscriber"))
        _ = (publisher.take(), subscriber.take())
    }

    @Test(arguments: [1, 255, 256, 65_535] as [PacketIdentifier])
    func `is answered with its identifier and a code for each filter, in order [MQTT-3.8.4-1] [MQTT-3.8.4-5]`(
        _ identifier: PacketIdentifier
    ) {
        subscriber.subscribe(
            ("a", .exactlyOnce), ("#", .atMostOnce), ("+/b", .atLeastOnce), ("$share/g/a", .exactlyOnce),
            identifier: identifier)
        let expected = ControlPacket.granted(
            .exactlyOnce, .atMostOnce, .atLeastOnce, .exactlyOnce, identifier: identifier)
        #expect(subscriber.take() == [expected])  // [MQTT-3.8.4-2] [MQTT-3.9.3-1]
        #expect(broker.figures.subscriptionCount == 4)
        #expect(broker.figures.sharedSubscriptionCount == 1)
    }

    @Test func `takes effect as several of one filter would [MQTT-3.8.4-4]`() {
        subscriber.subscribe(("t", .exactlyOnce), ("t", .atLeastOnce), identifier: 1)
        #expect(subscriber.take() == [.granted(.exactlyOnce, .atLeastOnce, identifier: 1)])
        #expect(broker.figures.subscriptionCount == 1)
        publisher.publish("t", "1", .exactlyOnce)
        #expect(subscriber.takeDeliveries().map(\.qos) == [.atLeastOnce], "the last one counts")
    }

    @Test func `of the same filter replaces the QoS and interrupts nothing [MQTT-3.8.4-3]`() {
        for (index, qos) in [QoS.atMostOnce, .exactlyOnce, .atLeastOnce, .atMostOnce].enumerated() {
            subscriber.subscribe(("t/+", qos))
            publisher.publish("t/1", "\(index)", .exactlyOnce)
            #expect(subscriber.takeDeliveries().map(\.qos) == [qos])
        }
        #expect(broker.figures.subscriptionCount == 1)
    }

    @Test func `with one bad filter has no effect at all [MQTT-3-8.3-4]`() {
        subscriber.send([0x82, 10, 0, 1, 0, 1, 0x61, 0, 0, 1, 0x62, 3])
        #expect(subscriber.closeReason == .malformed(.invalidRequestedQoS(3)))
        #expect(broker.figures.subscriptionCount == 0)
    }

    @Test func `of another spelling is another subscription [MQTT-4.7.3-4]`() {
        for filter in ["a", "A", "/a", "a/", "é", "e\u{301}"] { subscriber.subscribe((filter, .atMostOnce)) }
        #expect(broker.figures.subscriptionCount == 6)
        _ = subscriber.take()
        publisher.publish("a", "1")
        #expect(subscriber.takePayloads() == ["1"])
    }

    @Test func `of 65,535 levels works like any other [MQTT-4.7.3-3]`() {
        let deep = String(repeating: "/", count: 65_535)
        subscriber.subscribe((deep, .atMostOnce), (String(repeating: "/", count: 65_000) + "#", .atMostOnce))
        _ = subscriber.take()
        publisher.publish(deep, "1", isRetained: true)
        #expect(subscriber.takePayloads() == ["1"])
        subscriber.subscribe((deep, .atMostOnce))
        #expect(subscriber.takePayloads() == ["1"])
        publisher.publish(deep, "", isRetained: true)
        subscriber.drop()
        #expect(broker.figures.subscriptionCount == 0)
        #expect(broker.figures.retainedCount == 0)
    }
}

@Suite struct `Overlapping subscriptions` {
    @Test(arguments: QoS.allCases)
    func `bring one copy at the highest QoS of those that match [MQTT-3.3.5-1]`(_ highest: QoS) {
        let broker = ShardHarness()
        let (publisher, subscriber) = (broker.connect("publisher"), broker.connect("subscriber"))
        let filters = ["#", "a/#", "a/+", "a/b", "+/b", "+/+", "a/b/#"]
        for chosen in filters {
            for filter in filters { subscriber.subscribe((filter, filter == chosen ? highest : .atMostOnce)) }
            _ = subscriber.take()
            publisher.publish("a/b", "1", .exactlyOnce)
            #expect(subscriber.takeDeliveries().map(\.qos) == [highest], "\(chosen)")
        }
    }

    @Test func `of many sessions bring each one copy`() {
        let broker = ShardHarness(shards: 3, seed: 3)
        let subscribers = (0..<30).map { broker.connect("subscriber \($0)") }
        for (index, subscriber) in subscribers.enumerated() {
            subscriber.subscribe(("t/#", .atMostOnce))
            if index % 2 == 0 { subscriber.subscribe(("t/+", .exactlyOnce), ("t/1", .atLeastOnce)) }
            if index % 3 == 0 { subscriber.unsubscribe("t/#") }
            _ = subscriber.take()
        }
        broker.connect("publisher").publish("t/1", "1", .exactlyOnce)
        for (index, subscriber) in subscribers.enumerated() {
            let expected: [QoS] = index % 2 == 0 ? [.exactlyOnce] : index % 3 == 0 ? [] : [.atMostOnce]
            #expect(subscriber.takeDeliveries().map(\.qos) == expected, "subscriber \(index)")
        }
    }
}

@Suite struct `UNSUBSCRIBE` {
    private let broker = ShardHarness()
    private let (publisher, subscriber): (TestConnection, TestConnection)

    init() {
        (publisher, subscriber) = (broker.connect("publisher"), broker.connect("subscriber"))
        _ = (publisher.take(), subscriber.take())
    }

    @Test func `is answered with its identifier, whatever it removes [MQTT-3.10.4-4] [MQTT-3.10.4-5]`() {
        subscriber.subscribe(("a", .atMostOnce), ("b/+", .atMostOnce), ("$share/g/a", .atMostOnce), identifier: 1)
        subscriber.unsubscribe("nobody", "a", "$share/g/nobody", "$share/other/a", identifier: 65_535)
        subscriber.unsubscribe("b/+", "b/+", "$share/g/a", identifier: 256)  // [MQTT-3.10.4-6]
        #expect(
            Array(subscriber.take().dropFirst()) == [
                .acknowledgement(.unsubscribeAcknowledgement, 65_535),
                .acknowledgement(.unsubscribeAcknowledgement, 256),
            ])
        #expect(broker.figures.subscriptionCount == 0)
    }

    @Test func `removes the filter that is the same, character by character [MQTT-3.10.4-1]`() {
        subscriber.subscribe(("a/#", .atMostOnce))
        for filter in ["a/+", "a", "a/b", "A/#", "#", "a//#", "$share/g/a/#"] { subscriber.unsubscribe(filter) }
        _ = subscriber.take()
        publisher.publish("a/b", "1")
        #expect(subscriber.takePayloads() == ["1"])
    }

    @Test func `ends deliveries, also where another session has the same filter [MQTT-3.10.4-2]`() {
        let other = broker.connect("other")
        other.subscribe(("t", .atMostOnce))
        subscriber.subscribe(("t", .atMostOnce), ("#", .atMostOnce))
        _ = (other.take(), subscriber.take())
        subscriber.unsubscribe("t")
        publisher.publish("t", "1")
        #expect(subscriber.takePayloads() == ["1"], "by #")
        subscriber.unsubscribe("#")
        publisher.publish("t", "2")
        #expect(subscriber.takePayloads().isEmpty)
        #expect(other.takePayloads() == ["1", "2"])
    }
}

@Suite struct `Topics of the server's` {
    @Test func `are not matched by wildcards at the start [MQTT-4.7.2-1]`() {
        let broker = ShardHarness()
        for (filter, matches) in [
            ("#", false), ("+/x", false), ("+/#", false), ("$share/g/#", false), ("$share/g/+/x", false),
            ("$SYS/#", true), ("$SYS/+", true), ("$SYS/x", true), ("$share/g/$SYS/#", true), ("$share/g/$SYS/x", true),
        ] {
            let subscriber = broker.connect("subscriber")
            subscriber.subscribe((filter, .atMostOnce))
            _ = subscriber.take()
            broker.publish("$SYS/x", "live")
            #expect(subscriber.takePayloads() == (matches ? ["live"] : []), "\(filter)")
        }
    }

    @Test func `are not found by wildcards at the start among what is retained [MQTT-4.7.2-1]`() {
        let broker = ShardHarness()
        broker.publish("$SYS/a/x", "1", isRetained: true)
        broker.publish("a/$SYS/x", "2", isRetained: true)
        broker.publish("$SYS", "3", isRetained: true)
        for (filter, payloads) in [
            ("#", ["2"]), ("+/#", ["2"]), ("+/+/x", ["2"]), ("+/a/x", []), ("+/a/+", []), ("+/a/#", []), ("+", []),
            ("$SYS/#", ["1", "3"]), ("$SYS/+/+", ["1"]),
            ("$SYS", ["3"]), ("a/+/x", ["2"]), ("a/#", ["2"]),
        ] as [(String, [String])] {
            let subscriber = broker.connect("subscriber")
            subscriber.subscribe((filter, .atMostOnce))
            #expect(subscriber.takePayloads().sorted() == payloads, "\(filter)")
        }
    }
}
