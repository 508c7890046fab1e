import MQTT
import Testing

@testable import Broker

@Suite struct `A persistent session` {
    @Test(arguments: [true, false])
    func `outlives its connection [MQTT-3.1.2-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]`(_ disconnects: Bool) {
        let broker = ShardHarness()
        for isPresent in [false, true, true] {
            let connection = broker.connect("a", cleanSession: false)
            #expect(connection.take() == [.accepted(sessionPresent: isPresent)])
            if disconnects { connection.disconnect() } else { connection.drop() }
        }
        #expect(broker.figures.sessionCount == 1)
        #expect(broker.figures.connectedSessionCount == 0)
    }

    @Test func `keeps subscriptions, and for them QoS 1 and 2 in order [MQTT-3.1.2-5] [MQTT-4.1.0-1]`() {
        let broker = ShardHarness()
        let publisher = broker.connect("publisher")
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("zero", .atMostOnce), ("one", .atLeastOnce), ("two", .exactlyOnce))
        first.disconnect()
        for (index, topic) in ["two", "zero", "one", "two", "one"].enumerated() {
            publisher.publish(topic, "\(index)", .exactlyOnce)
        }
        let second = broker.connect("a", cleanSession: false)
        #expect(
            second.takeDeliveries() == [
                Delivery(topic: "two", payload: "0", qos: .exactlyOnce, packetIdentifier: 1),
                Delivery(topic: "one", payload: "2", qos: .atLeastOnce, packetIdentifier: 2),
                Delivery(topic: "two", payload: "3", qos: .exactlyOnce, packetIdentifier: 3),
                Delivery(topic: "one", payload: "4", qos: .atLeastOnce, packetIdentifier: 4),
            ])
        publisher.publish("zero", "live")
        #expect(second.takePayloads() == ["live"])
    }

    @Test func `does not keep what is published at QoS 0 [MQTT-3.1.2-5]`() {
        let broker = ShardHarness()
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .exactlyOnce))
        first.drop()
        broker.connect("publisher").publish("t", "1", .atMostOnce)
        #expect(broker.connect("a", cleanSession: false).takeDeliveries().isEmpty)
    }

    @Test func `knows the QoS 2 identifiers of its client again [MQTT-4.1.0-1] [MQTT-4.3.3-2]`() {
        let broker = ShardHarness()
        let watcher = broker.connect("watcher")
        watcher.subscribe(("t", .atMostOnce))
        _ = watcher.take()
        let first = broker.connect("a", cleanSession: false)
        first.publish("t", "1", .exactlyOnce, identifier: 7)
        first.drop()
        let second = broker.connect("a", cleanSession: false)
        second.publish("t", "1", .exactlyOnce, identifier: 7, isDuplicate: true)
        #expect(second.takeAcknowledgements() == [Acknowledgement(.publishReceived, 7)])
        second.acknowledge(.publishRelease, 7)
        #expect(second.takeAcknowledgements() == [Acknowledgement(.publishComplete, 7)])
        #expect(watcher.takePayloads() == ["1"])
        second.publish("t", "2", .exactlyOnce, identifier: 7)
        #expect(watcher.takePayloads() == ["2"])
    }

    @Test func `is gone with a CONNECT that wants a clean one, wholly [MQTT-3.1.2-6] [MQTT-3.2.2-1]`() {
        let broker = ShardHarness()
        let (publisher, watcher) = (broker.connect("publisher"), broker.connect("watcher"))
        watcher.subscribe(("from a", .atMostOnce))
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .exactlyOnce), ("$share/g/t", .atLeastOnce))
        first.publish("from a", "1", .exactlyOnce, identifier: 7)
        first.drop()
        publisher.publish("t", "1", .exactlyOnce)
        _ = watcher.take()

        let clean = broker.connect("a")
        #expect(clean.take() == [.accepted(sessionPresent: false)])
        publisher.publish("t", "2", .exactlyOnce)
        #expect(clean.take() == [])
        #expect(broker.figures.subscriptionCount == 1)
        clean.publish("from a", "2", .exactlyOnce, identifier: 7)
        #expect(watcher.takePayloads() == ["2"], "identifier 7 is new in a new session")
        clean.drop()

        let third = broker.connect("a", cleanSession: false)
        #expect(third.take() == [.accepted(sessionPresent: false)])
        third.publish("from a", "3", .exactlyOnce, identifier: 7)
        #expect(watcher.takePayloads() == ["3"])
    }

    @Test func `starts its identifiers where it stopped [MQTT-2.3.1-3]`() {
        let broker = ShardHarness()
        let publisher = broker.connect("publisher")
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .atLeastOnce))
        publisher.publish("t", "1", .atLeastOnce)
        first.drop()
        publisher.publish("t", "2", .atLeastOnce)
        #expect(
            broker.connect("a", cleanSession: false).takeDeliveries() == [
                Delivery(topic: "t", payload: "1", qos: .atLeastOnce, packetIdentifier: 1, isDuplicate: true),
                Delivery(topic: "t", payload: "2", qos: .atLeastOnce, packetIdentifier: 2),
            ])
    }

    @Test func `is one of many, and each gets its own back`() {
        let broker = ShardHarness(shards: 3, seed: 5)
        let publisher = broker.connect("publisher")
        for client in 0..<50 {
            let connection = broker.connect("client \(client)", cleanSession: false)
            connection.subscribe(("t/\(client)", .atLeastOnce))
            connection.drop()
        }
        for client in 0..<50 { publisher.publish("t/\(client)", "\(client)", .atLeastOnce) }
        for client in (0..<50).reversed() {
            #expect(broker.connect("client \(client)", cleanSession: false).takePayloads() == ["\(client)"])
        }
    }
}

@Suite struct `A clean session` {
    @Test(arguments: [true, false])
    func `ends with its connection [MQTT-3.1.2-6] [MQTT-3.2.2-1]`(_ disconnects: Bool) {
        let broker = ShardHarness()
        let first = broker.connect("a")
        first.subscribe(("t", .exactlyOnce), ("#", .atMostOnce), ("$share/g/+", .atLeastOnce))
        if disconnects { first.disconnect() } else { first.drop() }
        #expect(broker.figures.sessionCount == 0)
        #expect(broker.figures.subscriptionCount == 0)
        broker.connect("publisher").publish("t", "1", .exactlyOnce)
        for cleanSession in [true, false] {
            let next = broker.connect("a", cleanSession: cleanSession)
            #expect(next.take() == [.accepted(sessionPresent: false)])
            next.drop()
        }
    }

    @Test func `takes no retained message with it [MQTT-3.1.2.7]`() {
        let broker = ShardHarness()
        let first = broker.connect("a")
        first.publish("t", "kept", isRetained: true)
        first.drop()
        let next = broker.connect("b")
        next.subscribe(("t", .atMostOnce))
        #expect(next.takePayloads() == ["kept"])
    }

    @Test func `lives at least as long as its connection [MQTT-4.1.0-2]`() {
        let broker = ShardHarness()
        let connection = broker.connect("a")
        connection.subscribe(("t", .atLeastOnce))
        _ = connection.take()
        for _ in 0..<100 { broker.advance(3_600_000) }
        broker.connect("publisher").publish("t", "1", .atLeastOnce)
        #expect(connection.takePayloads() == ["1"])
    }
}
