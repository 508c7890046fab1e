import Locks
import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `What has to be on the disk` {
    private let broker = ShardHarness(shards: 2)
    private let (publisher, subscriber): (TestConnection, TestConnection)

    init() {
        broker.keepOnDisk()
        publisher = broker.connect("publisher", home: 0)
        subscriber = broker.connect("subscriber", home: 1)
        subscriber.subscribe(("#", .atMostOnce))
        _ = (publisher.take(), subscriber.take())
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func `is acknowledged when it is there, and is on its way to others before`(_ qos: QoS) {
        let type = qos == .atLeastOnce ? ControlPacketType.publishAcknowledgement : .publishReceived
        publisher.publish("t", "1", qos, identifier: 7, isRetained: true)
        #expect(publisher.takeAcknowledgements() == [])
        #expect(subscriber.takePayloads() == ["1"])
        #expect(broker.commits.count == 1 && broker.disk.payloads.isEmpty)
        broker.finishCommit()
        #expect(broker.disk.payloads == ["t": "1"])
        #expect(publisher.takeAcknowledgements() == [Acknowledgement(type, 7)])
        #expect(broker.commits.isEmpty, "nothing is committed that has not changed")
    }

    @Test func `holds up what its own client sends behind it, and nobody else [MQTT-4.6.0-2]`() {
        let other = broker.connect("other", home: 0)
        _ = other.take()
        publisher.publish("t", "1", .atLeastOnce, identifier: 1, isRetained: true)
        publisher.publish("u", "2", .atLeastOnce, identifier: 2)
        other.publish("u", "3", .atLeastOnce, identifier: 9)
        other.send(.pingRequest)
        publisher.send(.pingRequest)
        #expect(other.take() == [.acknowledgement(.publishAcknowledgement, 9), .pingResponse])
        #expect(publisher.take() == [])
        broker.finishCommit()
        #expect(
            publisher.take()
                == [
                    .acknowledgement(.publishAcknowledgement, 1), .acknowledgement(.publishAcknowledgement, 2),
                    .pingResponse,
                ])
    }

    @Test func `holds no PINGRESP up for so long that a client might think the broker gone [MQTT-3.12.4-1]`() {
        publisher.publish("t", "1", .atLeastOnce, identifier: 1, isRetained: true)
        publisher.send(.pingRequest)
        broker.advanceByDeadlines(Limits.pingPatience - 1)
        #expect(publisher.take() == [])
        broker.advanceByDeadlines(1)
        #expect(publisher.take() == [.pingResponse])
        publisher.send(.pingRequest)
        #expect(publisher.take() == [.pingResponse], "the disk is known to be late")
        broker.finishCommit()
        #expect(publisher.take() == [.acknowledgement(.publishAcknowledgement, 1)])
    }

    @Test func `comes together while a commit is under way, and is one commit then`() {
        for number in UInt16(1)...4 {
            publisher.publish("t", "\(number)", .atLeastOnce, identifier: number, isRetained: true)
        }
        #expect(broker.commits.count == 1)
        broker.finishCommit()
        #expect(publisher.takeAcknowledgements().map(\.packetIdentifier) == [1])
        #expect(broker.commits.count == 1)
        broker.finishCommit()
        #expect(publisher.takeAcknowledgements().map(\.packetIdentifier) == [2, 3, 4])
        #expect(broker.disk.payloads == ["t": "4"] && broker.commits.isEmpty)
    }

    @Test func `is cleared there as well, and what is the server's own never gets there`() {
        publisher.publish("t", "1", isRetained: true)
        publisher.publish("t", "", .atLeastOnce, identifier: 1, isRetained: true)
        publisher.publish("u", "1", isRetained: true)
        broker.publishAsServer("$SYS/x", "1", isRetained: true)
        while !broker.commits.isEmpty { broker.finishCommit() }
        #expect(broker.disk.payloads == ["u": "1"])
        #expect(broker.figures.retainedCount == 2)
    }

    @Test func `is acknowledged for each time that it came, when it came again before`() {
        publisher.publish("t", "1", .exactlyOnce, identifier: 3, isRetained: true)
        publisher.publish("t", "1", .exactlyOnce, identifier: 3, isDuplicate: true, isRetained: true)
        #expect(publisher.takeAcknowledgements() == [])
        broker.finishCommit()
        let received = Acknowledgement(.publishReceived, 3)
        #expect(publisher.takeAcknowledgements() == [received, received])
        #expect(subscriber.takePayloads() == ["1"])
    }

    @Test func `is acknowledged to nobody when its client has gone meanwhile`() {
        publisher.publish("t", "1", .atLeastOnce, identifier: 1, isRetained: true)
        let number = publisher.number
        publisher.drop()
        let successor = broker.connect("successor", home: 0)
        #expect(successor.number == number, "it has the place of the one that has gone")
        _ = successor.take()
        broker.finishCommit()
        #expect(successor.take() == [] && broker.disk.payloads == ["t": "1"])
    }

    @Test func `is acknowledged before where nobody wants to wait, and gets there all the same`() {
        let broker = ShardHarness()
        broker.keepOnDisk(DurabilityRules(.relaxed))
        let publisher = broker.connect("c")
        _ = publisher.take()
        publisher.publish("t", "1", .atLeastOnce, identifier: 1, isRetained: true)
        publisher.publish("t", "2", .exactlyOnce, identifier: 2, isRetained: true)
        publisher.publish("t", "2", .exactlyOnce, identifier: 2, isDuplicate: true, isRetained: true)
        #expect(publisher.takeAcknowledgements().map(\.packetIdentifier) == [1, 2, 2])
        while !broker.commits.isEmpty { broker.finishCommit() }
        #expect(broker.disk.payloads == ["t": "2"])
    }

    @Test func `takes no more room than what is retained, while the disk takes nothing`() {
        for number in 0..<20_000 { publisher.publish("t/\(number % 3)", "\(number)", isRetained: true) }
        let unsaved = broker.directory.withLock { $0.takeUnsavedRetained() }
        #expect(unsaved.count == 3)
        #expect(
            unsaved.map { String(decoding: $0.message.bytes.suffix(5), as: UTF8.self) } == ["19997", "19998", "19999"])
    }

    @Test func `is the order in which things were stored, whoever stored them`() {
        var generator = SeededGenerator(seed: 5)
        let publishers = [publisher, broker.connect("other", home: 1)]
        var expected: [String: String] = [:]
        for number in 0..<2_000 {
            let topic = "t/\(generator.below(20))"
            let payload = generator.below(4) == 0 ? "" : "\(number)"
            generator.element(of: publishers).publish(topic, payload, .atLeastOnce, isRetained: true)
            expected[topic] = payload.isEmpty ? nil : payload
            if !broker.commits.isEmpty, generator.below(3) == 0 { broker.finishCommit() }
        }
        while !broker.commits.isEmpty { broker.finishCommit() }
        #expect(broker.disk.payloads == expected)
        #expect(publishers.map { $0.takeAcknowledgements().count }.reduce(0, +) == 2_000)
    }
}
