import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `A retained message` {
    private let broker = ShardHarness(shards: 2)
    private let (publisher, subscriber): (TestConnection, TestConnection)

    init() {
        publisher = broker.connect("publisher", home: 0)
        subscriber = broker.connect("subscriber", home: 1)
        subscriber.acknowledgesAtOnce = true
        _ = (publisher.take(), subscriber.take())
    }

    private func found(by filter: String, at qos: QoS = .exactlyOnce) -> [String] {
        subscriber.subscribe((filter, qos))
        return subscriber.takeDeliveries().map { "\($0.topic)=\($0.payload)" }
    }

    @Test func `is sent with RETAIN to a new subscription, behind its SUBACK [MQTT-3.3.1-6] [MQTT-3.3.1-8]`() {
        publisher.publish("t", "1", .atLeastOnce, isRetained: true)
        subscriber.subscribe(("t", .atLeastOnce), identifier: 3)
        #expect(
            subscriber.take() == [
                .granted(.atLeastOnce, identifier: 3),
                .publish(
                    ApplicationMessage(topic: "t", payload: Array("1".utf8)), qos: .atLeastOnce, packetIdentifier: 1,
                    isRetained: true),
            ])
    }

    @Test func `is sent without RETAIN to who has subscribed before [MQTT-3.3.1-9]`() {
        subscriber.subscribe(("t", .exactlyOnce))
        publisher.publish("t", "1", .exactlyOnce, isRetained: true)
        #expect(subscriber.takeDeliveries().map(\.isRetained) == [false])
    }

    @Test func `replaces the one before, whatever their QoS [MQTT-3.3.1-5] [MQTT-3.3.1-7]`() {
        for (index, qos) in [QoS.exactlyOnce, .atMostOnce, .atLeastOnce].enumerated() {
            publisher.publish("t", "\(index)", qos, isRetained: true)
            subscriber.subscribe(("t", .exactlyOnce))
            let deliveries = subscriber.takeDeliveries().filter(\.isRetained)
            #expect(deliveries.map(\.payload) == ["\(index)"])
            #expect(deliveries.map(\.qos) == [qos])
            #expect(broker.figures.retainedCount == 1)
        }
    }

    @Test(arguments: QoS.allCases, QoS.allCases)
    func `has the lower QoS of its own and the subscription's [MQTT-3.8.4-6]`(_ published: QoS, _ granted: QoS) {
        publisher.publish("t", "1", published, isRetained: true)
        subscriber.subscribe(("t", granted))
        #expect(subscriber.takeDeliveries().map(\.qos) == [min(published, granted)])
    }

    @Test func `of no payload removes what is retained and is delivered [MQTT-3.3.1-10] [MQTT-3.3.1-11]`() {
        subscriber.subscribe(("#", .atMostOnce))
        publisher.publish("t", "1", isRetained: true)
        publisher.publish("t", "", .exactlyOnce, isRetained: true)
        publisher.publish("other", "", isRetained: true)
        let expected = [
            Delivery(topic: "t", payload: "1"), Delivery(topic: "t", payload: ""),
            Delivery(topic: "other", payload: ""),
        ]
        #expect(subscriber.takeDeliveries() == expected)
        #expect(broker.figures.retainedCount == 0)
        #expect(found(by: "#") == [])
    }

    @Test func `stays when a message without RETAIN comes, even an empty one [MQTT-3.3.1-12]`() {
        publisher.publish("t", "1", isRetained: true)
        publisher.publish("t", "2")
        publisher.publish("t", "")
        #expect(found(by: "t") == ["t=1"])
    }

    @Test func `is found by every filter that matches its topic, and by no other [MQTT-3.3.2-3]`() {
        for topic in ["a", "a/b", "a/b/c", "a//c", "/", "b/c"] { publisher.publish(topic, "1", isRetained: true) }
        for (filter, topics) in [
            ("#", ["/", "a", "a//c", "a/b", "a/b/c", "b/c"]), ("a/#", ["a", "a//c", "a/b", "a/b/c"]),
            ("a/b/#", ["a/b", "a/b/c"]), ("+", ["a"]), ("+/+", ["/", "a/b", "b/c"]), ("a/+/c", ["a//c", "a/b/c"]),
            ("+/b/+", ["a/b/c"]), ("a/b", ["a/b"]), ("/+", ["/"]), ("/#", ["/"]), ("a/+/#", ["a//c", "a/b", "a/b/c"]),
            ("+/c", ["b/c"]), ("nobody/#", []), ("a/b/c/d", []), ("+/+/+/#", ["a//c", "a/b/c"]), ("//#", ["/"]),
        ] {
            #expect(found(by: filter).sorted() == topics.map { "\($0)=1" }.sorted(), "\(filter)")
        }
    }

    @Test func `is sent for each filter of one SUBSCRIBE [MQTT-3.8.4-4]`() {
        publisher.publish("a/b", "1", isRetained: true)
        subscriber.subscribe(("a/#", .atMostOnce), ("a/b", .atMostOnce), ("+/b", .atMostOnce))
        #expect(subscriber.takePayloads() == ["1", "1", "1"])
    }

    @Test func `is sent again for a repeated SUBSCRIBE [MQTT-3.8.4-3]`() {
        publisher.publish("t", "1", isRetained: true)
        #expect(found(by: "t") == ["t=1"])
        #expect(found(by: "t") == ["t=1"])
    }

    @Test func `is not sent to a session that comes back [MQTT-3.3.1-6]`() {
        publisher.publish("t", "1", .atLeastOnce, isRetained: true)
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .atLeastOnce))
        first.acknowledge(1)
        first.drop()
        #expect(broker.connect("a", cleanSession: false).takeDeliveries().isEmpty)
    }

    @Test func `keeps RETAIN when it is sent again [MQTT-3.3.1-1]`() {
        publisher.publish("t", "1", .atLeastOnce, isRetained: true)
        let first = broker.connect("a", cleanSession: false)
        first.subscribe(("t", .atLeastOnce))
        first.drop()
        let again = Delivery(
            topic: "t", payload: "1", qos: .atLeastOnce, packetIdentifier: 1, isDuplicate: true, isRetained: true)
        #expect(broker.connect("a", cleanSession: false).takeDeliveries() == [again])
    }
}

@Suite struct `Many retained messages` {
    private static let topics = 2000

    private static func filled(_ limits: Limits = Limits(), qos: QoS = .atMostOnce, topics: Int = topics)
        -> ShardHarness
    {
        let broker = ShardHarness(limits: limits)
        let publisher = broker.connect("publisher")
        for topic in 0..<topics {
            publisher.publish("t/\(topic % 7)/\(topic)", "old", qos, isRetained: true)
        }
        return broker
    }

    @Test(arguments: QoS.allCases)
    func `come each exactly once, a window at a time [MQTT-3.3.1-6]`(_ qos: QoS) {
        let broker = Self.filled(qos: qos)
        let subscriber = broker.connect("a")
        subscriber.acknowledgesAtOnce = true
        subscriber.subscribe(("t/#", qos))
        let deliveries = subscriber.takeDeliveries()
        #expect(deliveries.count == Self.topics)
        #expect(Set(deliveries.map(\.topic)).count == Self.topics)
        #expect(deliveries.allSatisfy { $0.isRetained && $0.qos == qos })
    }

    @Test(arguments: [(1, 1, 0), (1, 10, 0), (20, 5, 0), (3, 0, 7)])
    func `are not dropped because the queue is shorter than they are many [MQTT-3.3.1-6]`(
        _ inFlightMessages: Int, _ queuedMessages: Int, _ queuedBytes: Int
    ) {
        var limits = Limits()
        limits.inFlightMessages = inFlightMessages
        limits.queuedMessages = queuedMessages
        limits.queuedBytes = queuedBytes
        let broker = Self.filled(limits, qos: .atLeastOnce, topics: 100)
        let subscriber = broker.connect("a")
        subscriber.acknowledgesAtOnce = true
        subscriber.subscribe(("#", .atLeastOnce))
        #expect(Set(subscriber.takeDeliveries().map(\.topic)).count == 100)
        #expect(broker.counters.publishesDropped == 0)
    }

    @Test func `come in steps, so that nobody else waits for them`() {
        let broker = Self.filled()
        let subscriber = broker.connect("a")
        broker.settlesAtOnce = false
        subscriber.subscribe(("#", .atMostOnce), ("nobody/+/+", .atMostOnce))
        var largest = 0
        while true {
            largest = max(largest, subscriber.takeDeliveries().count)
            guard broker.hasWork() else { break }
            broker.work()
        }
        #expect(largest <= 64)
    }

    /// Old values, new values and removals, at all QoS, between all steps: what the client knows at the end is what is
    /// retained, and nothing old comes after something new.
    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func `and their changes meanwhile come each once, the new after the old [MQTT-3.3.1-6] [MQTT-3.8.4-3]`(
        _ seed: UInt64
    ) {
        var generator = SeededGenerator(seed: seed)
        var limits = Limits()
        limits.inFlightMessages = generator.element(of: [1, 5, 20, 0])
        let shards = 1 + generator.below(3)
        let broker = ShardHarness(shards: shards, limits: limits, seed: seed)
        let publisher = broker.connect("publisher", home: 0)
        let subscriber = broker.connect("a", home: shards - 1)
        // One QoS for each run: messages of different QoS may overtake each other (4.6).
        let (qos, topicCount) = (generator.element(of: QoS.allCases), 300)
        var values = [Int](repeating: 0, count: topicCount)
        var latest = 0
        func change(_ topic: Int, removes: Bool) {
            latest += 1
            values[topic] = removes ? 0 : latest
            publisher.publish("t/\(topic)", removes ? "" : "\(latest)", qos, identifier: 1, isRetained: true)
            if qos == .exactlyOnce { publisher.acknowledge(.publishRelease, 1) }
        }
        for topic in 0..<topicCount where generator.happens(80) { change(topic, removes: false) }
        let before = values
        _ = subscriber.take()
        broker.settlesAtOnce = false
        subscriber.acknowledgesAtOnce = true
        subscriber.subscribe(("t/#", qos))
        var changed = Set<Int>()
        for _ in 0..<200 {
            for _ in 0..<generator.below(3) { broker.step() }
            let topic = generator.below(topicCount)
            change(topic, removes: generator.happens(25))
            changed.insert(topic)
        }
        broker.settle()

        var known: [String: Int] = [:]
        var retained: [String: Int] = [:]
        for delivery in subscriber.takeDeliveries() {
            let value = Int(delivery.payload) ?? 0
            if delivery.isRetained {
                retained[delivery.topic, default: 0] += 1
                #expect(known[delivery.topic] == nil, "seed \(seed): \(delivery) comes after what is newer")
            }
            if value > 0 { #expect(value > known[delivery.topic] ?? 0, "seed \(seed): \(delivery)") }
            known[delivery.topic] = value
        }
        for topic in 0..<topicCount {
            #expect(known["t/\(topic)"] ?? 0 == values[topic], "seed \(seed): t/\(topic)")
            let count = retained["t/\(topic)"] ?? 0
            let isUntouched = !changed.contains(topic) && before[topic] > 0
            #expect(isUntouched ? count == 1 : count <= 1, "seed \(seed): t/\(topic) came \(count) times")
        }
    }

    @Test func `come before a newer value that needs no window (ARCHITECTURE 3)`() {
        let broker = Self.filled(qos: .atLeastOnce, topics: 60)
        let subscriber = broker.connect("a")
        subscriber.subscribe(("#", .atLeastOnce))
        broker.connect("publisher").publish("t/3/59", "new", .atMostOnce, isRetained: true)
        subscriber.acknowledgesAtOnce = true
        for identifier in 1...20 as ClosedRange<PacketIdentifier> { subscriber.acknowledge(identifier) }
        let values = subscriber.takeDeliveries().filter { $0.topic == "t/3/59" }.map(\.payload)
        #expect(values.last == "new", "the client's last word on it")
    }
}
