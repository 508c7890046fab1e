import MQTT
import Testing

@testable import Broker

/// Where the persistent sessions are that get a message; its publisher is on shard 0.
enum Receivers: CaseIterable {
    case away, here, elsewhere, everywhere

    var shards: [Int] {
        switch self {
        case .away: [1]
        case .here: [0]
        case .elsewhere: [1]
        case .everywhere: [0, 1]
        }
    }
}

@Suite struct `What persistent sessions bring to the disk` {
    private let broker = ShardHarness(shards: 2)
    private let publisher: TestConnection

    init() {
        broker.keepOnDisk()
        publisher = broker.connect("publisher", home: 0)
        _ = publisher.take()
    }

    /// With a persistent session that is on the disk.
    private func connect(_ client: String, home: Int = 1, subscribed: Bool = true) -> TestConnection {
        let connection = broker.connect(client, cleanSession: false, home: home)
        if subscribed { connection.subscribe(("t/#", .exactlyOnce)) }
        broker.commitAll()
        _ = connection.take()
        return connection
    }

    // MARK: Publishers

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce], Receivers.allCases)
    func `is there before its publisher hears of it`(_ qos: QoS, _ receivers: Receivers) {
        let subscribers = receivers.shards.map { connect("subscriber \($0)", home: $0) }
        if receivers == .away { for subscriber in subscribers { subscriber.drop() } }
        broker.commitAll()
        publisher.publish("t/x", "1", qos, identifier: 7)
        #expect(publisher.takeAcknowledgements() == [])
        #expect(broker.queue(of: "subscriber \(receivers.shards[0])") == [])
        broker.finishCommit()
        let type = qos == .atLeastOnce ? ControlPacketType.publishAcknowledgement : .publishReceived
        #expect(publisher.takeAcknowledgements() == [Acknowledgement(type, 7)])
        for shard in receivers.shards { #expect(broker.queue(of: "subscriber \(shard)") == ["1"]) }
    }

    @Test(arguments: QoS.allCases) func `is nothing where only clean sessions are`(_ qos: QoS) {
        let subscriber = broker.connect("subscriber", home: 1)
        subscriber.subscribe(("t/#", .exactlyOnce))
        #expect(subscriber.take().count == 2, "its SUBACK waits for nothing")
        publisher.publish("t/x", "1", qos, identifier: 7)
        #expect(publisher.takeAcknowledgements().count == (qos == .atMostOnce ? 0 : 1))
        #expect(subscriber.takePayloads() == ["1"])
        #expect(broker.commits.isEmpty)
    }

    @Test func `is nothing for a message of QoS 1 from one of them to clean sessions`() {
        let persistent = connect("persistent", subscribed: false)
        persistent.publish("t/x", "1", .atLeastOnce, identifier: 7)
        #expect(persistent.takeAcknowledgements() == [Acknowledgement(.publishAcknowledgement, 7)])
        #expect(broker.commits.isEmpty)
    }

    @Test func `is not a message that was acknowledged before the round was closed`() {
        let subscriber = connect("subscriber")
        let before = broker.disk.rowsWritten
        subscriber.acknowledgesAtOnce = true
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7)
        #expect(subscriber.takePayloads() == ["1"])
        broker.commitAll()
        #expect(publisher.takeAcknowledgements() == [Acknowledgement(.publishAcknowledgement, 7)])
        #expect(broker.disk.rowsWritten == before)
    }

    @Test func `is the identifier of a QoS 2 message, from PUBLISH to PUBREL [MQTT-4.3.3-2]`() {
        let persistent = connect("persistent", subscribed: false)
        persistent.publish("u", "1", .exactlyOnce, identifier: 7)
        persistent.publish("u", "1", .exactlyOnce, identifier: 7, isDuplicate: true)
        #expect(persistent.takeAcknowledgements() == [] && broker.disk.session(of: "persistent")?.inbound == [])
        broker.commitAll()
        #expect(persistent.takeAcknowledgements().count == 2)
        #expect(broker.disk.session(of: "persistent")?.inbound == [7])
        persistent.acknowledge(.publishRelease, 7)
        persistent.acknowledge(.publishRelease, 7)
        #expect(persistent.takeAcknowledgements() == [])
        broker.commitAll()
        let completed = Acknowledgement(.publishComplete, 7)
        #expect(persistent.takeAcknowledgements() == [completed, completed])
        #expect(broker.disk.session(of: "persistent")?.inbound == [])
    }

    // MARK: Subscribers

    @Test func `is the identifier of a QoS 2 message before it goes out, and its release before PUBREL`() throws {
        let subscriber = connect("subscriber")
        publisher.publish("t/x", "1", .exactlyOnce, identifier: 7)
        #expect(subscriber.take() == [])
        broker.finishCommit()
        let identifier = try #require(subscriber.takeDeliveries().first).packetIdentifier
        #expect(broker.disk.queue(of: "subscriber")?.map(\.packetIdentifier) == [identifier])
        broker.commitAll()
        subscriber.acknowledge(.publishReceived, identifier)
        subscriber.acknowledge(.publishReceived, identifier)
        #expect(subscriber.take() == [])
        broker.finishCommit()
        let release = Acknowledgement(.publishRelease, identifier)
        #expect(subscriber.takeAcknowledgements() == [release, release])
        #expect(broker.disk.queue(of: "subscriber")?.map(\.isReleased) == [true])
        subscriber.acknowledge(.publishComplete, identifier)
        broker.commitAll()
        #expect(broker.queue(of: "subscriber") == [])
    }

    @Test func `is the identifiers of a whole window in one commit`() {
        let subscriber = connect("subscriber")
        for number in 1...20 {
            publisher.publish("t/x", "\(number)", .exactlyOnce, identifier: PacketIdentifier(number))
        }
        broker.finishCommit()
        broker.finishCommit()
        #expect(subscriber.takePayloads() == (1...20).map(String.init))
    }

    @Test func `is a subscription before its SUBACK, and what is retained comes behind that`() {
        publisher.publish("t/x", "old", .atLeastOnce, identifier: 1, isRetained: true)
        let subscriber = connect("subscriber", subscribed: false)
        subscriber.subscribe(("t/#", .atLeastOnce), identifier: 3)
        #expect(subscriber.take() == [] && broker.disk.session(of: "subscriber")?.subscriptions.isEmpty == true)
        broker.finishCommit()
        #expect(broker.disk.session(of: "subscriber")?.subscriptions == [Array("t/#".utf8): .atLeastOnce])
        let packets = subscriber.take()
        #expect(packets.first == .granted(.atLeastOnce, identifier: 3))
        #expect(TestConnection.deliveries(in: packets).map(\.payload) == ["old"])
        subscriber.unsubscribe("t/#", identifier: 4)
        #expect(subscriber.take() == [])
        broker.commitAll()
        #expect(subscriber.take() == [.acknowledgement(.unsubscribeAcknowledgement, 4)])
        #expect(broker.disk.session(of: "subscriber")?.subscriptions.isEmpty == true)
    }

    @Test func `is its own end before a CONNECT that discards it is answered [MQTT-3.1.2-6]`() {
        connect("subscriber").drop()
        broker.commitAll()
        let clean = broker.connect("subscriber")
        #expect(clean.take() == [] && broker.disk.session(of: "subscriber") != nil)
        broker.finishCommit()
        #expect(clean.take() == [.accepted(sessionPresent: false)])
        #expect(broker.disk.session(of: "subscriber") == nil)
    }

    @Test(arguments: [true, false])
    func `is its own end before the next CONNECT too, if the one that discarded it has gone`(_ cleanSession: Bool) {
        connect("subscriber").drop()
        broker.commitAll()
        broker.connect("subscriber").drop()
        let next = broker.connect("subscriber", cleanSession: cleanSession)
        let other = broker.connect("other", cleanSession: cleanSession)
        #expect(next.take() == [])
        #expect(other.take() == [.accepted(sessionPresent: false)], "nobody else waits")
        broker.commitAll()
        #expect(next.take() == [.accepted(sessionPresent: false)])
        #expect(broker.disk.session(of: "subscriber")?.subscriptions.isEmpty == (cleanSession ? nil : true))
    }

    @Test func `is its own end before its client is answered that comes too late`() {
        var limits = Limits.withoutDamping
        limits.sessionExpiry = 10_000
        let broker = ShardHarness(shards: 2, limits: limits)
        broker.keepOnDisk()
        broker.connect("late", cleanSession: false).drop()
        broker.commitAll()
        broker.advanceByDeadlines(10_000)
        #expect(broker.figures.sessionCount == 0 && broker.disk.session(of: "late") != nil)
        let late = broker.connect("late", cleanSession: false)
        #expect(late.take() == [])
        broker.commitAll()
        #expect(late.take() == [.accepted(sessionPresent: false)])
    }

    @Test func `holds no takeover up [MQTT-3.1.4-2]`() {
        let first = connect("subscriber")
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7)
        let second = broker.connect("subscriber", cleanSession: false)
        #expect(first.isClosed)
        #expect(second.take().first == .accepted(sessionPresent: true))
    }

    // MARK: durability, durability_topic

    @Test(arguments: [Durability.memory, .relaxed, .acknowledged], [Durability.memory, .relaxed, .acknowledged])
    func `is what durability_topic says, whatever durability is`(_ standard: Durability, _ durability: Durability) {
        let broker = ShardHarness(shards: 2)
        let rules = [DurabilityRules.Rule(filter: Array("t/#".utf8), durability: durability)]
        broker.keepOnDisk(DurabilityRules(standard, rules: rules))
        let subscriber = broker.connect("subscriber", cleanSession: false, home: 1)
        subscriber.subscribe(("#", .exactlyOnce))
        broker.commitAll()
        subscriber.drop()
        broker.commitAll()
        let publisher = broker.connect("publisher", cleanSession: false, home: 0)
        broker.commitAll()
        _ = publisher.take()
        publisher.publish("t/x", "ruled", .atLeastOnce, identifier: 1)
        #expect(publisher.takeAcknowledgements().isEmpty == (durability == .acknowledged))
        broker.commitAll()
        _ = publisher.take()
        publisher.publish("t/x", "ruled twice", .exactlyOnce, identifier: 2)
        #expect(publisher.takeAcknowledgements().isEmpty == (durability == .acknowledged))
        broker.commitAll()
        _ = publisher.take()
        publisher.publish("u", "not ruled", .atLeastOnce, identifier: 3)
        #expect(publisher.takeAcknowledgements().isEmpty == (standard == .acknowledged))
        broker.commitAll()
        #expect(
            broker.queue(of: "subscriber")
                == (durability > .memory ? ["ruled", "ruled twice"] : []) + (standard > .memory ? ["not ruled"] : []))
        #expect(broker.disk.session(of: "publisher")?.inbound == (durability > .memory ? [2] : []))
        let again = broker.reconnect("subscriber")
        broker.commitAll()
        #expect(again.takePayloads() == ["ruled", "ruled twice", "not ruled"], "it is in order all the same")
    }
}
