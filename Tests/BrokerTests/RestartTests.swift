import MQTT
import Testing

@testable import Broker

@Suite struct `A broker that begins again` {
    private let broker = ShardHarness(shards: 2)
    private let publisher: TestConnection

    init() {
        broker.keepOnDisk()
        publisher = broker.connect("publisher", cleanSession: false, home: 0)
        broker.commitAll()
        _ = publisher.take()
    }

    private func subscribe(_ client: String = "subscriber", on broker: ShardHarness? = nil) -> TestConnection {
        let connection = (broker ?? self.broker).connect(client, cleanSession: false)
        connection.subscribe(("t/#", .exactlyOnce))
        (broker ?? self.broker).commitAll()
        _ = connection.take()
        return connection
    }

    @Test(arguments: [1, 2, 3])
    func `has sessions, subscriptions and queues, in order, on other shards`(_ shards: Int) {
        subscribe().drop()
        for number in 1...50 {
            publisher.publish("t/x", "\(number)", number % 2 == 0 ? .exactlyOnce : .atLeastOnce)
        }
        broker.commitAll()
        let broker = broker.restarted(shards: shards)
        #expect(broker.figures.sessionCount == 2 && broker.figures.subscriptionCount == 1)
        let other = broker.connect("other")
        other.publish("t/x", "51", .atLeastOnce)
        broker.commitAll()
        let subscriber = broker.reconnect("subscriber")
        broker.commitAll()
        let packets = subscriber.take()
        #expect(packets.first == .accepted(sessionPresent: true))
        #expect(TestConnection.deliveries(in: packets).map(\.payload) == (1...51).map(String.init))
        broker.commitAll()
        #expect(broker.queue(of: "subscriber") == [])
    }

    @Test(arguments: [true, false]) func `has a commit that was under way, whole or not at all`(_ isWritten: Bool) {
        subscribe("first").drop()
        subscribe("second").drop()
        broker.commitAll()
        publisher.publish("t/x", "1", .exactlyOnce, identifier: 7, isRetained: true)
        #expect(broker.commits.count == 1)
        let broker = broker.restarted(isWritten: isWritten)
        #expect(broker.queue(of: "first") == (isWritten ? ["1"] : []))
        #expect(broker.queue(of: "second") == (isWritten ? ["1"] : []))
        #expect(broker.disk.session(of: "publisher")?.inbound == (isWritten ? [7] : []))
        #expect(broker.figures.retainedCount == (isWritten ? 1 : 0))
        let again = broker.connect("publisher", cleanSession: false)
        _ = again.take()
        again.publish("t/x", "1", .exactlyOnce, identifier: 7, isDuplicate: true, isRetained: true)
        broker.commitAll()
        #expect(again.takeAcknowledgements() == [Acknowledgement(.publishReceived, 7)])
        #expect(broker.queue(of: "first") == ["1"] && broker.queue(of: "second") == ["1"])
    }

    @Test func `sends what was in flight again with its identifier, and PUBREL for what was received [MQTT-4.4.0-1]`() {
        let subscriber = subscribe()
        for number in 1...4 { publisher.publish("t/x", "\(number)", number == 1 ? .atLeastOnce : .exactlyOnce) }
        broker.commitAll()
        let sent = subscriber.takeDeliveries()
        #expect(sent.map(\.payload) == ["1", "2", "3", "4"])
        subscriber.acknowledge(.publishReceived, sent[1].packetIdentifier)
        subscriber.acknowledge(.publishReceived, sent[2].packetIdentifier)
        broker.commitAll()
        subscriber.acknowledge(.publishComplete, sent[1].packetIdentifier)
        broker.commitAll()
        let broker = broker.restarted()
        let again = broker.connect("subscriber", cleanSession: false)
        var expected = [sent[0], sent[3]]
        for index in expected.indices { expected[index].isDuplicate = true }
        let packets = again.take()
        #expect(TestConnection.deliveries(in: packets) == expected)
        #expect(packets.contains(.acknowledgement(.publishRelease, sent[2].packetIdentifier)))
        let other = broker.connect("other")
        other.publish("t/x", "5", .atLeastOnce)
        broker.commitAll()
        let next = again.takeDeliveries()
        #expect(next.map(\.payload) == ["5"] && next.map(\.isDuplicate) == [false])
        #expect(!sent.map(\.packetIdentifier).contains(next[0].packetIdentifier), "[MQTT-2.3.1-4]")
    }

    @Test func `keeps to a window that is smaller than what is in flight`() {
        let subscriber = subscribe()
        for number in 1...20 { publisher.publish("t/x", "\(number)", .atLeastOnce) }
        broker.commitAll()
        #expect(subscriber.takeDeliveries().count == 20)
        var limits = Limits.withoutDamping
        limits.inFlightMessages = 5
        let broker = broker.restarted(limits: limits)
        let again = broker.connect("subscriber", cleanSession: false)
        let other = broker.connect("other")
        other.publish("t/x", "21", .atLeastOnce)
        broker.commitAll()
        let sent = again.takeDeliveries()
        #expect(sent.map(\.payload) == (1...20).map(String.init))
        for delivery in sent[..<15] { again.acknowledge(delivery.packetIdentifier) }
        broker.commitAll()
        #expect(again.takeDeliveries() == [])
        again.acknowledge(sent[15].packetIdentifier)
        broker.commitAll()
        #expect(again.takePayloads() == ["21"])
    }

    @Test func `takes a QoS 2 message that comes again for what it is [MQTT-4.3.3-2]`() {
        let subscriber = subscribe()
        publisher.publish("t/x", "1", .exactlyOnce, identifier: 7)
        broker.commitAll()
        #expect(subscriber.takePayloads() == ["1"])
        let broker = broker.restarted()
        let other = broker.connect("other")
        other.subscribe(("t/#", .atMostOnce))
        _ = other.take()
        let again = broker.connect("publisher", cleanSession: false)
        _ = again.take()
        again.publish("t/x", "1", .exactlyOnce, identifier: 7, isDuplicate: true)
        broker.commitAll()
        #expect(again.takeAcknowledgements() == [Acknowledgement(.publishReceived, 7)])
        #expect(other.take() == [])
        again.acknowledge(.publishRelease, 7)
        broker.commitAll()
        again.publish("t/x", "2", .exactlyOnce, identifier: 7)
        broker.commitAll()
        #expect(other.takePayloads() == ["2"])
    }

    // MARK: Wills

    private func withWill(keepAlive: UInt16) {
        let client = broker.connect(
            "mourned", cleanSession: false, keepAlive: keepAlive, will: WillMessage("t/will", "gone", .atLeastOnce))
        broker.commitAll()
        _ = client.take()
    }

    @Test(arguments: zip([10, 0] as [UInt16], [15_000, Limits.unreadPatience]))
    func `publishes the will of a client that does not come back, once`(_ keepAlive: UInt16, _ after: Int64) {
        withWill(keepAlive: keepAlive)
        var broker = broker.restarted()
        broker.advanceByDeadlines(after / 2)
        broker = broker.restarted()
        var watcher = subscribe("watcher", on: broker)
        broker.advanceByDeadlines(after - 1)
        #expect(watcher.takePayloads() == [])
        broker.advanceByDeadlines(1)
        broker.commitAll()
        #expect(watcher.takePayloads() == ["gone"])
        #expect(broker.disk.session(of: "mourned")?.will == nil)
        watcher.acknowledge(1)
        broker.commitAll()
        broker = broker.restarted()
        watcher = subscribe("watcher", on: broker)
        broker.advanceByDeadlines(2 * after)
        broker.commitAll()
        #expect(watcher.takePayloads() == [])
    }

    @Test func `publishes no will of a client that comes back, or has said goodbye`() {
        withWill(keepAlive: 10)
        let polite = broker.connect(
            "polite", cleanSession: false, keepAlive: 10, will: WillMessage("t/will", "gone", .atLeastOnce))
        broker.commitAll()
        polite.disconnect()
        broker.commitAll()
        let broker = broker.restarted()
        let watcher = subscribe("watcher", on: broker)
        let again = broker.connect("mourned", cleanSession: false)
        broker.advanceByDeadlines(100_000)
        #expect(watcher.takePayloads() == [] && !again.isClosed)
    }

    // MARK: Expiry

    @Test(arguments: [true, false]) func `goes on counting how long a client has been away`(_ isAway: Bool) {
        var limits = Limits.withoutDamping
        limits.sessionExpiry = 10_000
        let client = subscribe()
        if isAway { client.drop() }
        broker.commitAll()
        broker.advance(4000)
        publisher.drop()
        broker.commitAll()
        let broker = broker.restarted(limits: limits)
        broker.advanceByDeadlines(isAway ? 5_999 : 9_999)
        #expect(broker.disk.session(of: "subscriber") != nil && broker.figures.sessionCount == 2)
        broker.advanceByDeadlines(1)
        broker.commitAll()
        #expect(broker.disk.session(of: "subscriber") == nil)
    }

    /// Shards close a round one after the other: what a client begins on one is not in it before the end of its session on
    /// another.
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `has the later session of a client whose earlier one expires in the midst of a round`(_ seed: UInt64) {
        var limits = Limits.withoutDamping
        limits.sessionExpiry = 10
        let broker = ShardHarness(shards: 2, limits: limits, seed: seed)
        broker.keepOnDisk(DurabilityRules(.relaxed))
        let first = broker.connect("client", cleanSession: false, home: 1)
        broker.commitAll()
        broker.settlesAtOnce = false
        first.drop()
        broker.beginRound()
        broker.step()
        broker.advance(10)
        let second = broker.connect("client", cleanSession: false, home: 0)
        broker.settlesAtOnce = true
        broker.settle()
        broker.commitAll()
        broker.advance(10)
        broker.commitAll()
        #expect(second.take() == [.accepted(sessionPresent: false)])
        #expect(broker.disk.session(of: "client")?.row.absentSince == nil && broker.disk.session(of: "client") != nil)
        #expect(broker.disk.problem == nil)
    }
}

@Suite struct `A queue that is longer than what is kept in memory` {
    private static func limits(window: Int) -> Limits {
        var limits = Limits.withoutDamping
        limits.inFlightMessages = window
        limits.queuedMessages = 0
        return limits
    }

    @Test(arguments: [1, 20], [(shards: 1, rowsRead: 16), (1, 1000), (2, 16), (2, 1)])
    func `stays short there, and in order while others publish`(
        _ window: Int, _ setting: (shards: Int, rowsRead: Int)
    ) {
        let (shards, rowsRead) = setting
        let broker = ShardHarness(shards: shards, limits: Self.limits(window: window), seed: UInt64(rowsRead))
        broker.keepOnDisk()
        broker.rowsRead = rowsRead
        let publishers = (0..<shards).map { broker.connect("publisher \($0)", home: $0) }
        let subscriber = broker.connect("subscriber", cleanSession: false, home: 0)
        subscriber.subscribe(("t/#", .atLeastOnce))
        broker.commitAll()
        subscriber.drop()
        for number in 0..<1500 {
            publishers[number % shards].publish("t/\(number % shards)", "\(number)", .atLeastOnce)
        }
        #expect(broker.heldByLooking.messages <= Limits.waitingInMemory)
        broker.commitAll()
        #expect(broker.queue(of: "subscriber")?.count == 1500)

        let again = broker.reconnect("subscriber")
        for number in 1500..<2000 {
            publishers[number % shards].publish("t/\(number % shards)", "\(number)", .atLeastOnce)
            if number % 7 == 0, !broker.commits.isEmpty { broker.finishCommit() }
        }
        broker.commitAll()
        let payloads = again.takePayloads().compactMap { Int($0) }
        for shard in 0..<shards {
            #expect(payloads.filter { $0 % shards == shard } == (0..<2000).filter { $0 % shards == shard })
        }
        #expect(broker.queue(of: "subscriber") == [] && broker.disk.problem == nil)
    }

    /// They have no place on the disk, and what comes after them has.
    @Test(arguments: [Durability.memory, .relaxed])
    func `keeps nobody out that has only messages which need no disk before it`(_ durability: Durability) {
        let broker = ShardHarness(limits: Self.limits(window: 20))
        let rule = DurabilityRules.Rule(filter: Array("m/#".utf8), durability: durability)
        broker.keepOnDisk(DurabilityRules(.acknowledged, rules: [rule]))
        let publisher = broker.connect("publisher")
        let subscriber = broker.connect("subscriber", cleanSession: false)
        subscriber.subscribe(("#", .atLeastOnce))
        broker.commitAll()
        subscriber.drop()
        for number in 0..<600 { publisher.publish("m/x", "\(number)", .atLeastOnce) }
        let again = broker.reconnect("subscriber")
        broker.commitAll()
        #expect(again.takePayloads() == (0..<600).map(String.init))
        #expect(broker.disk.problem == nil)
    }

    @Test func `does not count what is in flight, before a restart or after it`() {
        var limits = Self.limits(window: 20)
        limits.queuedMessages = 30
        let broker = ShardHarness(limits: limits)
        broker.keepOnDisk()
        let subscriber = broker.connect("subscriber", cleanSession: false)
        subscriber.subscribe(("t", .atLeastOnce))
        func publish(_ numbers: Range<Int>, _ broker: ShardHarness) {
            let publisher = broker.connect("publisher")
            for number in numbers { publisher.publish("t", "\(number)", .atLeastOnce) }
            broker.commitAll()
        }
        publish(0..<20, broker)
        #expect(subscriber.takeDeliveries().count == 20)
        subscriber.drop()
        publish(20..<35, broker)
        let again = broker.restarted(limits: limits)
        publish(35..<60, again)
        #expect(again.counters.publishesDropped == 10)
        #expect(again.queue(of: "subscriber") == (0..<50).map(String.init))
    }

    @Test func `is as long as the limits say, and what is on the disk only counts`() {
        var limits = Self.limits(window: 20)
        limits.queuedMessages = 400
        let broker = ShardHarness(limits: limits)
        broker.keepOnDisk()
        let publisher = broker.connect("publisher")
        let subscriber = broker.connect("subscriber", cleanSession: false)
        subscriber.subscribe(("t", .atLeastOnce))
        broker.commitAll()
        subscriber.drop()
        for number in 0..<500 { publisher.publish("t", "\(number)", .atLeastOnce) }
        broker.commitAll()
        #expect(broker.counters.publishesDropped == 100)
        #expect(broker.queue(of: "subscriber") == (0..<400).map(String.init))
        #expect(publisher.takeAcknowledgements().count == 500)
    }
}
