import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `What memory_limit gives up` {
    @Test func `comes in a fixed order, and goes well below where it came`() {
        var gauge = MemoryGauge(limit: 1_000)
        let steps: [(Int, Shedding)] = [
            (799, .none), (800, .connections), (760, .connections), (749, .none), (899, .connections), (900, .queues),
            (949, .queues), (950, .readers), (999, .readers), (1_000, .storage), (950, .storage), (949, .readers),
            (899, .queues), (850, .queues), (849, .connections), (750, .connections), (0, .none), (5_000, .storage),
            (700, .none),
        ]
        for (bytes, stage) in steps { #expect(gauge.observe(bytes) == stage, "\(bytes)") }
    }

    @Test func `is new sessions first, but nobody's own`() {
        let broker = ShardHarness(shards: 2)
        let connected = broker.connect("connected")
        let absent = broker.connect("absent", cleanSession: false)
        absent.disconnect()
        broker.shed(.connections)
        #expect(broker.connect("new").take() == [.refused(.serverUnavailable)])
        #expect(broker.connect("").take() == [.refused(.serverUnavailable)])
        #expect(broker.connect("absent", cleanSession: false).take() == [.accepted(sessionPresent: true)])
        #expect(!connected.isClosed)
        #expect(broker.counters.memoryConnectionsRefused == 2)
        broker.shed(.none)
        #expect(broker.connect("new").take() == [.accepted(sessionPresent: false)])
    }

    /// A session that is away, with messages of QoS 0 and 1 in its queue.
    private func away() -> (ShardHarness, TestConnection) {
        var limits = Limits()
        limits.queuesAtMostOnce = true
        let broker = ShardHarness(limits: limits)
        let subscriber = broker.connect("a", cleanSession: false)
        subscriber.subscribe(("#", .exactlyOnce))
        subscriber.disconnect()
        let publisher = broker.connect("publisher")
        for number in 1...20 { publisher.publish("t", "\(number)", number % 2 == 0 ? .atLeastOnce : .atMostOnce) }
        return (broker, publisher)
    }

    @Test func `is then what waits at QoS 0, and only that`() {
        let (broker, publisher) = away()
        broker.shed(.queues)
        publisher.publish("t", "21")
        publisher.publish("t", "22", .atLeastOnce)
        #expect(broker.counters.memoryMessagesDropped == 11)
        #expect(broker.counters.publishesDropped == 11)
        let back = broker.connect("a", cleanSession: false)
        #expect(back.takePayloads() == (1...11).map { "\(2 * $0)" })
        broker.shed(.none)
        back.disconnect()
        publisher.publish("t", "23")
        #expect(broker.connect("a", cleanSession: false).takeDeliveries().last?.payload == "23")
    }

    @Test func `is in the end what is new for absent sessions or retained, while the rest is delivered`() {
        let (broker, publisher) = away()
        let present = broker.connect("present")
        present.subscribe(("#", .atLeastOnce))
        publisher.publish("kept", "long", isRetained: true)
        _ = present.take()
        broker.shed(.storage)
        publisher.publish("t", "21", .atLeastOnce)
        publisher.publish("new", "22", isRetained: true)
        publisher.publish("kept", "longer", isRetained: true)
        publisher.publish("kept", "same", isRetained: true)
        #expect(present.takePayloads() == ["21", "22", "longer", "same"])
        #expect(broker.counters.memoryMessagesNotStored == 3)
        #expect(broker.figures.retainedCount == 1)
        #expect(broker.figures.retainedBytes == 4)
        publisher.publish("kept", "", isRetained: true)
        #expect(broker.figures.retainedCount == 0)
        let back = broker.connect("a", cleanSession: false)
        #expect(!back.takePayloads().contains("21"))
    }
}

@Suite struct `Messages that sessions hold` {
    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `are counted as one finds them, whatever happens`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var limits = Limits()
        limits.inFlightMessages = 1 + generator.below(4)
        limits.queuedMessages = 30
        limits.queuesAtMostOnce = generator.happens(50)
        limits.takeovers = 0
        let broker = ShardHarness(shards: 1 + generator.below(3), limits: limits, seed: seed)
        var clients: [TestConnection?] = [nil, nil, nil, nil]
        for step in 1...400 {
            let index = generator.below(clients.count)
            if let client = clients[index], !client.isClosed {
                act(on: client, step, &generator)
            } else {
                let isClean = generator.happens(20)
                clients[index] = broker.connect("\(index)", cleanSession: isClean, on: 0)
                clients[index]?.acknowledgesAtOnce = generator.happens(30)
            }
            if generator.happens(3) { broker.shed(generator.element(of: [.none, .queues, .storage])) }
            let (held, figures) = (broker.heldByLooking, broker.counters)
            guard figures.heldMessages == held.messages, figures.heldBytes == held.bytes else {
                Issue.record("step \(step): \(figures.heldMessages), \(figures.heldBytes) bytes, but there are \(held)")
                return
            }
        }
        // With the sessions everything goes.
        broker.shed(.none)
        for index in clients.indices { broker.connect("\(index)", cleanSession: true).disconnect() }
        #expect(broker.counters.heldMessages == 0 && broker.counters.heldBytes == 0)
    }

    private func act(on client: TestConnection, _ step: Int, _ generator: inout SeededGenerator) {
        let topic = generator.element(of: ["a", "b"])
        switch generator.below(12) {
        case 0: client.drop()
        case 1: client.disconnect()
        case 2: client.subscribe((topic, generator.element(of: QoS.allCases)))
        case 3: client.subscribe(("#", .exactlyOnce))
        case 4...5: for packet in client.take() { if let answer = packet.answer { client.send(answer) } }
        case 6: if let packet = client.packets.last, let answer = packet.answer { client.send(answer) }
        default:
            let filler = String(repeating: "x", count: generator.below(20))
            client.publish(
                topic, "\(step) \(filler)", generator.element(of: QoS.allCases), isRetained: generator.happens(20))
        }
    }
}
