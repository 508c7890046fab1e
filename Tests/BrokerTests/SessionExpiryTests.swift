import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `A session whose client is away` {
    private let limits = {
        var limits = Limits()
        limits.sessionExpiry = 10_000
        return limits
    }()

    @Test(arguments: [1, 3]) func `ends when it has been for as long as persistent_client_expiration says`(
        _ shards: Int
    ) {
        let broker = ShardHarness(shards: shards, limits: limits)
        let first = broker.connect("first", cleanSession: false)
        first.subscribe(("a/#", .atLeastOnce))
        first.drop()
        broker.advanceByDeadlines(5000)
        broker.connect("second", cleanSession: false).disconnect()
        broker.advanceByDeadlines(4999)
        #expect(broker.figures.sessionCount == 2)
        broker.advanceByDeadlines(1)
        #expect(broker.figures.sessionCount == 1)
        #expect(broker.figures.subscriptionCount == 0)
        #expect(broker.counters.clientsExpired == 1)
        let again = broker.connect("first", cleanSession: false)
        #expect(again.take() == [.accepted(sessionPresent: false)])
        broker.advanceByDeadlines(5000)
        #expect(broker.counters.clientsExpired == 2)
        #expect(!again.isClosed)
    }

    @Test func `begins its time anew each time`() {
        let broker = ShardHarness(limits: limits)
        for _ in 0..<5 {
            broker.connect("a", cleanSession: false).drop()
            broker.advanceByDeadlines(9000)
        }
        let connection = broker.connect("a", cleanSession: false)
        #expect(connection.take() == [.accepted(sessionPresent: true)])
        broker.advanceByDeadlines(100_000)
        #expect(!connection.isClosed)
        #expect(broker.nextTick() == nil)
    }

    @Test func `ends by a limit that came with a reload, counted from when its client went`() {
        let broker = ShardHarness()
        for client in ["c", "a", "b"] {
            broker.connect(client, cleanSession: false).drop()
            broker.advance(3000)
        }
        _ = broker.connect("there", cleanSession: false)
        broker.adopt(limits)
        for left in [3, 2, 1] {
            broker.advanceByDeadlines(left == 3 ? 1001 : 3000)
            #expect(broker.figures.sessionCount == left)
        }
        broker.adopt(Limits())
        broker.connect("d", cleanSession: false).drop()
        broker.advanceByDeadlines(1_000_000)
        #expect(broker.figures.sessionCount == 2)
    }

    @Test func `does not keep the others waiting when many end at once`() {
        let broker = ShardHarness(limits: limits)
        for client in 0..<1000 { broker.connect("\(client)", cleanSession: false).drop() }
        broker.advance(10_000)
        #expect(broker.figures.sessionCount == 1000 - Limits.sessionsExpiredAtOnce)
        broker.advanceByDeadlines(0)
        #expect(broker.figures.sessionCount == 0)
    }
}

@Suite struct `Numbers in their order of arrival` {
    @Test func `agree with a plain array`() {
        var generator = SeededGenerator(seed: 7)
        var (order, model) = (ArrivalOrder(), [UInt32]())
        for _ in 0..<20_000 {
            let number = UInt32(generator.below(12))
            model.removeAll { $0 == number }
            if generator.happens(60) {
                order.append(number)
                model.append(number)
            } else {
                order.remove(number)
            }
            #expect(order.first == model.first)
        }
        while let first = model.first {
            #expect(order.first == first)
            order.remove(first)
            model.removeFirst()
        }
        #expect(order.first == nil)
    }
}
