import MQTT
import Testing

@testable import Broker

@Suite struct `A full connection` {
    private let broker = ShardHarness()
    private let (publisher, subscriber): (TestConnection, TestConnection)

    init() {
        publisher = broker.connect("publisher")
        subscriber = broker.connect("subscriber", cleanSession: false)
        subscriber.subscribe(("t", .exactlyOnce), ("u", .exactlyOnce))
        _ = (publisher.take(), subscriber.take())
        broker.setFull(subscriber, true)
    }

    @Test func `gets no QoS 0, which is counted; QoS 1 and 2 wait and then come in order`() {
        for payload in 1...9 { publisher.publish("t", "\(payload)", QoS(rawValue: UInt8(payload % 3)) ?? .atMostOnce) }
        #expect(subscriber.take() == [])
        #expect(broker.counters.publishesDropped == 3)
        broker.setFull(subscriber, false)
        let deliveries = subscriber.takeDeliveries()
        #expect(deliveries.map(\.payload) == ["1", "2", "4", "5", "7", "8"])
        #expect(deliveries.allSatisfy { !$0.isDuplicate })
        publisher.publish("t", "10")
        #expect(subscriber.takePayloads() == ["10"])
    }

    @Test func `still gets the answers to its own packets`() {
        subscriber.send(.pingRequest)
        subscriber.publish("x", "", .atLeastOnce, identifier: 9)
        subscriber.subscribe(("v", .atMostOnce), identifier: 10)
        #expect(
            subscriber.take() == [
                .pingResponse, .acknowledgement(.publishAcknowledgement, 9), .granted(.atMostOnce, identifier: 10),
            ])
    }

    @Test func `gets nothing more for its acknowledgements until it has room`() {
        broker.setFull(subscriber, false)
        for payload in 1...30 { publisher.publish("t", "\(payload)", .atLeastOnce) }
        #expect(subscriber.takeDeliveries().count == 20)
        broker.setFull(subscriber, true)
        subscriber.acknowledge(1, 2, 3)
        #expect(subscriber.take() == [])
        broker.setFull(subscriber, false)
        #expect(subscriber.takePayloads() == ["21", "22", "23"])
    }

    @Test func `gets nothing that is retained until it has room`() {
        publisher.publish("r", "1", isRetained: true)
        subscriber.subscribe(("r", .atMostOnce), identifier: 5)
        #expect(subscriber.take() == [.granted(.atMostOnce, identifier: 5)])
        broker.setFull(subscriber, false)
        #expect(subscriber.takePayloads() == ["1"])
    }

    @Test func `is named once`() {
        for isFull in [false, true, false, true] { broker.setFull(subscriber, isFull) }
        #expect(
            broker.events.filter {
                if case .slowReader(_, let client) = $0 { client == ClientIdentifier("subscriber") } else { false }
            }.count == 1)
    }

    @Test func `keeps what waits for the next connection when it ends`() {
        publisher.publish("t", "1", .atLeastOnce)
        subscriber.drop()
        let next = broker.connect("subscriber", cleanSession: false)
        #expect(
            next.takeDeliveries() == [Delivery(topic: "t", payload: "1", qos: .atLeastOnce, packetIdentifier: 1)])
        publisher.publish("t", "2")
        #expect(next.takePayloads() == ["2"])
    }
}

@Suite struct `Another shard's mailbox` {
    private let broker = ShardHarness(shards: 3)
    private let (publisher, here, there): (TestConnection, TestConnection, TestConnection)

    init() {
        publisher = broker.connect("publisher", home: 0)
        here = broker.connect("here", home: 0)
        there = broker.connect("there", home: 1)
        for subscriber in [here, there] { subscriber.subscribe(("#", .exactlyOnce)) }
        _ = (publisher.take(), here.take(), there.take())
    }

    @Test func `that is full gets no QoS 0, which is counted`() {
        broker.setMailboxFull(1, true)
        publisher.publish("t", "1")
        #expect(here.takePayloads() == ["1"])
        #expect(there.takePayloads() == [])
        #expect(broker.counters.publishesDropped == 1)
        #expect(broker.holds == 0)
        broker.setMailboxFull(1, false)
        publisher.publish("t", "2")
        #expect(there.takePayloads() == ["2"])
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func `that is full still gets QoS 1 and 2, and the publisher is to wait`(_ qos: QoS) {
        broker.setMailboxFull(1, true)
        publisher.publish("t", "1", qos)
        #expect(broker.holds == 1)
        #expect(there.takePayloads() == ["1"])
        #expect(broker.counters.publishesDropped == 0)
        broker.setMailboxFull(1, false)
        publisher.publish("t", "2", qos)
        #expect(broker.holds == 1)
    }

    @Test func `that is full concerns only who lives there`() {
        broker.setMailboxFull(2, true)
        publisher.publish("t", "1", .exactlyOnce)
        #expect(broker.holds == 0)
        #expect(there.takePayloads() == ["1"])
    }

    @Test func `keeps the order of messages, long and short, for many receivers [MQTT-4.6.0-6]`() {
        let subscribers = (0..<9).map { broker.connect("subscriber \($0)", home: $0 % 3) }
        for subscriber in subscribers {
            subscriber.subscribe(("t", .atMostOnce))
            _ = subscriber.take()
        }
        broker.settlesAtOnce = false
        let payloads = (0..<30).map {
            "\($0)" + String(repeating: "x", count: $0 % 4 == 0 ? 2 * Limits.copiedBytes : $0)
        }
        for payload in payloads { publisher.publish("t", payload) }
        broker.settle()
        for subscriber in subscribers { #expect(subscriber.takePayloads() == payloads) }
    }

    @Test func `is weighed with all that its messages hold`() {
        var outbox = Outbox(shards: 2)
        let reference = SessionReference(number: 1, incarnation: 0)
        let receiver = Receiver(session: reference, maximumQoS: .atMostOnce)
        for bytes in [10, 100_000] {
            let before = outbox.mail[1].byteCount
            let message = outbox.add(ApplicationMessage(topic: "t", payload: Array(repeating: 0, count: bytes)))
            var place: Int?
            for _ in 0..<3 { outbox.forward(message, qos: .atMostOnce, to: receiver, on: 1, at: &place) }
            #expect((bytes...(bytes + 200)).contains(outbox.mail[1].byteCount - before), "\(bytes)")
        }
        #expect(!outbox.takeMail(for: 1).isEmpty)
        #expect(outbox.mail[1].isEmpty && outbox.mail[1].byteCount == 0)
    }
}
