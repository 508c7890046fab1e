import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `A message of QoS 1 to persistent sessions` {
    private let broker = ShardHarness(shards: 2)
    private let publisher: TestConnection
    private let puback = Acknowledgement(.publishAcknowledgement, 7)

    init() {
        broker.keepOnDisk()
        publisher = broker.connect("publisher", home: 0)
        _ = publisher.take()
    }

    private func connect(
        _ client: String, to filter: String = "t/#", at qos: QoS = .exactlyOnce, home: Int
    ) -> TestConnection {
        broker.settlesAtOnce = true
        let connection = broker.connect(client, cleanSession: false, home: home)
        connection.subscribe((filter, qos))
        broker.commitAll()
        _ = connection.take()
        broker.settlesAtOnce = false
        return connection
    }

    private func settle() { while broker.step() {} }

    private func commit() {
        broker.beginRound()
        settle()
        broker.finishCommit()
        settle()
    }

    @Test(arguments: Receivers.allCases.filter { $0 != .away })
    func `is acknowledged without a commit, once all their clients have done so [MQTT-4.3.2-2]`(_ receivers: Receivers)
    {
        let subscribers = receivers.shards.map { connect("subscriber \($0)", home: $0) }
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7)
        settle()
        for subscriber in subscribers {
            #expect(publisher.takeAcknowledgements() == [])
            subscriber.acknowledge(.publishAcknowledgement, 1)
            settle()
        }
        #expect(publisher.takeAcknowledgements() == [puback])
        #expect(!broker.awaitsCommit && broker.commits.isEmpty)
        let before = broker.disk.rowsWritten
        commit()
        #expect(broker.disk.rowsWritten == before)
        #expect(publisher.takeAcknowledgements() == [])
    }

    @Test func `is not asked a round for before their clients had their time, and then is`() {
        let subscriber = connect("subscriber", home: 1)
        for identifier in [7, 8] as [PacketIdentifier] {
            publisher.publish("t/x", "\(identifier)", .atLeastOnce, identifier: identifier)
        }
        settle()
        #expect(!broker.awaitsCommit)
        subscriber.acknowledge(.publishAcknowledgement, 1)
        settle()
        #expect(publisher.takeAcknowledgements() == [puback])
        broker.advanceByDeadlines(24)
        #expect(!broker.awaitsCommit)
        broker.advanceByDeadlines(1)
        #expect(broker.awaitsCommit)
        #expect(publisher.takeAcknowledgements() == [])
        commit()
        #expect(publisher.takeAcknowledgements() == [Acknowledgement(.publishAcknowledgement, 8)])
        #expect(broker.queue(of: "subscriber") == ["8"])
        subscriber.acknowledge(.publishAcknowledgement, 2)
        settle()
        #expect(publisher.takeAcknowledgements() == [], "once is enough")
    }

    @Test func `is asked a round for at once where a client is away`() {
        let away = connect("away", home: 1)
        away.drop()
        commit()
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7)
        settle()
        #expect(broker.awaitsCommit)
    }

    @Test func `is asked a round for at once for a while, after somebody took too long`() {
        let subscriber = connect("subscriber", home: 0)
        publisher.publish("t/x", "slow", .atLeastOnce, identifier: 1)
        settle()
        broker.advanceByDeadlines(25)
        commit()
        var impatient = 0
        for identifier in 2...40 as ClosedRange<PacketIdentifier> {
            publisher.publish("t/x", "\(identifier)", .atLeastOnce, identifier: identifier)
            settle()
            guard broker.awaitsCommit else { break }
            impatient += 1
            commit()
        }
        #expect(impatient == 14, "the next rounds, without the one that began then")
        #expect(publisher.takeAcknowledgements().count == 1 + impatient)
        _ = subscriber
    }

    @Test func `keeps those behind it waiting, which are settled already [MQTT-4.6.0-2]`() {
        let slow = connect("slow", to: "s", home: 1)
        let quick = connect("quick", home: 0)
        publisher.publish("s", "1", .atLeastOnce, identifier: 7)
        publisher.publish("t/x", "2", .atLeastOnce, identifier: 8)
        settle()
        quick.acknowledge(.publishAcknowledgement, 1)
        settle()
        #expect(publisher.takeAcknowledgements() == [])
        slow.acknowledge(.publishAcknowledgement, 1)
        settle()
        #expect(publisher.takeAcknowledgements() == [puback, Acknowledgement(.publishAcknowledgement, 8)])
    }

    @Test func `is waited for by nobody once its publisher has gone, nor taken for one of the next there`() {
        let subscriber = connect("subscriber", home: 1)
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7)
        settle()
        publisher.drop()
        settle()
        broker.settlesAtOnce = true
        let next = broker.connect("next", home: 0)
        broker.settlesAtOnce = false
        next.publish("t/x", "2", .atLeastOnce, identifier: 9)
        settle()
        _ = next.take()
        subscriber.acknowledge(.publishAcknowledgement, 1)
        settle()
        #expect(next.takeAcknowledgements() == [])
        subscriber.acknowledge(.publishAcknowledgement, 2)
        settle()
        #expect(next.takeAcknowledgements() == [Acknowledgement(.publishAcknowledgement, 9)])
    }

    @Test func `is nobody's to acknowledge where it is kept from all of them`() {
        let subscriber = connect("subscriber", home: 1)
        let full = connect("full", home: 0)
        var limits = Limits.withoutDamping
        (limits.queuedMessages, limits.inFlightMessages) = (1, 1)
        broker.adopt(limits)
        for identifier in 1...3 as ClosedRange<PacketIdentifier> {
            publisher.publish("t/x", "\(identifier)", .atLeastOnce, identifier: identifier)
            settle()
        }
        #expect(subscriber.takePayloads() == ["1"] && full.takePayloads() == ["1"])
        #expect(publisher.takeAcknowledgements() == [], "the third is dropped, and behind two that wait [MQTT-4.6.0-2]")
        for subscriber in [subscriber, full] {
            subscriber.acknowledge(.publishAcknowledgement, 1)
            settle()
            subscriber.acknowledge(.publishAcknowledgement, 2)
            settle()
        }
        #expect(publisher.takeAcknowledgements().map(\.packetIdentifier) == [1, 2, 3])
        #expect(!broker.awaitsCommit)
    }

    @Test func `is not settled by a session that gets it at QoS 0`() {
        let away = connect("away", home: 0)
        away.drop()
        commit()
        let other = connect("other", to: "t/#", at: .atMostOnce, home: 0)
        var limits = Limits.withoutDamping
        (limits.queuesAtMostOnce, limits.inFlightMessages) = (true, 1)
        broker.adopt(limits)
        other.subscribe(("u", .atLeastOnce))
        commit()
        _ = other.take()
        // Behind a message that has no room yet, so that it waits in the queue, and on the disk.
        for payload in ["a", "b"] { publisher.publish("u", payload, .atLeastOnce, identifier: payload == "a" ? 1 : 2) }
        settle()
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7)
        settle()
        publisher.publish("u", "c", .atLeastOnce, identifier: 8)
        settle()
        for identifier in [1, 2, 3] as [PacketIdentifier] {
            other.acknowledge(.publishAcknowledgement, identifier)
            settle()
        }
        #expect(other.takePayloads() == ["a", "b", "1", "c"])
        #expect(
            publisher.takeAcknowledgements().map(\.packetIdentifier) == [1, 2],
            "7 is on no disk yet for who is away, and 8 behind it")
        commit()
        #expect(broker.queue(of: "away") == ["1"])
    }

    @Test func `waits for the disk once much waits for it, so that no more comes together`() {
        let slow = connect("slow", to: "big", home: 0)
        let quick = connect("quick", home: 0)
        broker.beginRound()
        settle()  // It takes its time, and everything else is in the next.
        let payload = String(repeating: "x", count: 1 << 20)
        for identifier in 100..<165 as Range<PacketIdentifier> {
            publisher.publish("big", payload, .atLeastOnce, identifier: identifier)
        }
        settle()
        let other = broker.connect("other", home: 0)
        settle()
        _ = other.take()
        other.publish("t/x", "1", .atLeastOnce, identifier: 7)
        settle()
        quick.acknowledge(.publishAcknowledgement, 1)
        settle()
        #expect(quick.takePayloads() == ["1"] && other.takeAcknowledgements() == [])
        broker.finishCommit()
        settle()
        commit()
        #expect(other.takeAcknowledgements() == [puback])
        _ = slow
    }

    @Test(arguments: [true, false])
    func `is on the disk before, if it is retained, or wanted by one session more`(_ isRetained: Bool) {
        let subscriber = connect("subscriber", home: 0)
        if !isRetained {
            let other = connect("other", home: 1)
            other.drop()
            commit()
        }
        publisher.publish("t/x", "1", .atLeastOnce, identifier: 7, isRetained: isRetained)
        settle()
        subscriber.acknowledge(.publishAcknowledgement, 1)
        settle()
        #expect(publisher.takeAcknowledgements() == [])
        #expect(broker.awaitsCommit)
        commit()
        #expect(publisher.takeAcknowledgements() == [puback])
    }
}

@Suite struct `The handovers of a shard` {
    private static let start = Instant(milliseconds: 1_000)

    /// Beside a plain dictionary.
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `are over when all sessions have settled them, or their round is on the disk`(_ seed: UInt64) {
        struct Expected {
            var missing: Int
            let round: CommitTicket
            let since: Instant
            let publisher: ConnectionNumber
        }
        var generator = SeededGenerator(seed: seed)
        var handovers = Handovers(shard: 2, of: 3)
        var expected: [HandoverNumber: Expected] = [:]
        var (now, round, committed) = (Self.start, CommitTicket(1), CommitTicket(0))
        for step in 0..<3_000 {
            now = now + Int64(generator.below(3))
            switch generator.below(10) {
            case 0..<4:
                let (publisher, count) = (ConnectionNumber(generator.below(9)), 1 + generator.below(3))
                let number = handovers.begin(publisher, sessions: count, in: round, now: now)
                #expect(number % 3 == 2 && expected[number] == nil)
                expected[number] = Expected(missing: count, round: round, since: now, publisher: publisher)
            case 4..<9:
                let open = expected.filter { $0.value.missing > 0 }.keys.sorted()
                guard !open.isEmpty else { continue }
                let number = open[generator.below(min(open.count, 5))]
                expected[number]?.missing -= 1
                let isOver = expected[number]?.missing == 0
                #expect(handovers.settle(number) == (isOver ? expected[number]?.publisher : nil))
            default:
                if round > committed + 1 {
                    committed += 1
                    handovers.end(committed)
                    for (number, handover) in expected where handover.round <= committed {
                        expected[number]?.missing = 0
                    }
                } else {
                    handovers.noteRound()
                    round += 1
                }
            }
            for (number, handover) in expected {
                #expect(handovers.isOver(number) == (handover.missing == 0), "seed \(seed), step \(step)")
            }
            let oldest = expected.filter { $0.value.missing > 0 && $0.value.round == round }.min { $0.key < $1.key }
            #expect(handovers.due() == (oldest?.value.since).map { $0 + 25 }, "seed \(seed), step \(step)")
        }
    }
}
