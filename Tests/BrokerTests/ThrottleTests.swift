import MQTT
import Seeded
import Testing

@testable import Broker

@Suite struct `A publisher's allowance` {
    private static func limits(rate: Int = 0, bandwidth: Int = 0) -> Limits {
        var limits = Limits()
        limits.publishRate = rate
        limits.publishBandwidth = bandwidth
        return limits
    }

    @Test(arguments: [1, 7, 100, 12_345])
    func `is a burst of one second, and then the rate`(_ rate: Int) {
        let limits = Self.limits(rate: rate)
        var throttle = Throttle()
        var now = Instant(milliseconds: 5_000_000)
        let end = now + 20_000
        var packets = 0
        while now < end {
            packets += 1
            if let next = throttle.charged(bytes: 10, now: now, limits) {
                #expect(next > now)
                now = next
            }
        }
        // A pause ends on a millisecond, which costs less than one packet each.
        #expect((20 * rate...21 * rate + 2).contains(packets), "\(packets)")
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `is never overdrawn by more than a packet, however the packets come`(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let (rate, bandwidth) = (1 + generator.below(50), 100 + generator.below(10_000))
        let limits = Self.limits(rate: rate, bandwidth: bandwidth)
        var throttle = Throttle()
        let start = Instant(milliseconds: 1_000_000)
        var now = start
        var (packets, bytes) = (0, 0)
        for _ in 0..<2_000 {
            let size = 2 + generator.below(bandwidth)
            packets += 1
            bytes += size
            let next = throttle.charged(bytes: size, now: now, limits)
            let milliseconds = Int(now - start)
            #expect(packets <= rate * (milliseconds + 1_000) / 1_000 + 2)
            #expect(bytes <= bandwidth * (milliseconds + 1_000) / 1_000 + size + 1)
            now = (next ?? now) + Int64(generator.below(3) == 0 ? generator.below(300) : 0)
        }
    }

    @Test func `lets other packets through in a long wait, and no PUBLISH before all is earned`() {
        let broker = ShardHarness(limits: Self.limits(bandwidth: 100))
        let subscriber = broker.connect("subscriber")
        subscriber.subscribe(("t", .atMostOnce))
        _ = subscriber.take()
        let publisher = broker.connect("publisher")
        publisher.publish("t", String(repeating: "x", count: 5_000))  // A second is free, 49 are owed.
        publisher.send(.pingRequest)
        publisher.publish("t", "next")
        #expect(subscriber.takePayloads().count == 1)
        #expect(!publisher.packets.contains(.pingResponse))
        broker.advanceByDeadlines(Limits.longestPause + 2 * TimerWheel.granularity)
        #expect(publisher.packets.contains(.pingResponse))
        broker.advanceByDeadlines(43_000)
        #expect(subscriber.packets.isEmpty)
        broker.advanceByDeadlines(2_000)
        #expect(subscriber.takePayloads() == ["next"])
    }

    @Test func `leaves what comes too fast unread, and loses nothing of it`() {
        let broker = ShardHarness(limits: Self.limits(rate: 10))
        let subscriber = broker.connect("subscriber")
        subscriber.subscribe(("t", .atMostOnce))
        _ = subscriber.take()
        let publisher = broker.connect("publisher")
        for number in 1...40 { publisher.publish("t", "\(number)") }
        publisher.send(.pingRequest)
        #expect(broker.isPaused(publisher))
        var got = subscriber.takePayloads()
        #expect(got.count == 11)
        let bystander = broker.connect("bystander")
        bystander.publish("t", "from somebody else")
        #expect(subscriber.takePayloads() == ["from somebody else"])
        broker.advanceByDeadlines(2_000)
        got += subscriber.takePayloads()
        #expect((30...33).contains(got.count))
        #expect(!publisher.packets.contains(.pingResponse))
        broker.advanceByDeadlines(1_100)
        got += subscriber.takePayloads()
        #expect(got == (1...40).map { "\($0)" })
        #expect(publisher.packets.contains(.pingResponse))
        #expect(broker.counters.publishersThrottled >= 20)
        #expect(broker.counters.publishesDropped == 0)
    }

    @Test func `does not count as silence`() {
        let broker = ShardHarness(limits: Self.limits(bandwidth: 10))
        let publisher = broker.connect("publisher", keepAlive: 1)
        publisher.publish("t", String(repeating: "x", count: 1_000))
        broker.setUnread(publisher, true)
        broker.advanceByDeadlines(Limits.longestPause - 1)
        #expect(!publisher.isClosed && broker.isPaused(publisher))
        broker.advanceByDeadlines(2 * TimerWheel.granularity)
        #expect(!publisher.isClosed && !broker.isPaused(publisher))
        broker.setUnread(publisher, false)
        broker.advanceByDeadlines(1_500 + 2 * TimerWheel.granularity)
        #expect(publisher.closeReason == .keepAliveExpired)
    }

    @Test(arguments: [true, false]) func `is no new one for a new connection`(_ cleanSession: Bool) {
        let broker = ShardHarness(limits: Self.limits(rate: 1))
        let first = broker.connect("a", cleanSession: cleanSession)
        for _ in 1...3 { first.publish("t", "") }
        #expect(broker.isPaused(first))
        first.drop()
        let received = broker.counters.publishesReceived
        let second = broker.connect("a", cleanSession: cleanSession)
        second.publish("t", "")
        #expect(broker.isPaused(second))
        #expect(broker.counters.publishesReceived == received)
        let other = broker.connect("b")
        other.publish("t", "")
        #expect(!broker.isPaused(other))
        broker.advanceByDeadlines(10_000)
        #expect(broker.counters.publishesReceived > received + 1)
    }

    @Test func `of those who are away is kept for as many as there is room for`() {
        let broker = ShardHarness(limits: Self.limits(rate: 1))
        for number in 0...Limits.debtsRemembered {
            let client = broker.connect("\(number)")
            for _ in 1...3 { client.publish("t", "") }
            client.drop()
        }
        func isPaused(_ number: Int) -> Bool {
            let client = broker.connect("\(number)")
            client.publish("t", "")
            return broker.isPaused(client)
        }
        #expect(!isPaused(0))
        #expect(isPaused(Limits.debtsRemembered))
    }

    @Test func `has no end where no limit is set`() {
        let broker = ShardHarness()
        let publisher = broker.connect("publisher")
        for _ in 1...5_000 { publisher.publish("t", "") }
        #expect(!broker.isPaused(publisher))
        #expect(broker.counters.publishesReceived == 5_000)
    }
}

extension Throttle {
    fileprivate mutating func charged(bytes: Int, now: Instant, _ limits: Limits) -> Instant? {
        charge(bytes: bytes, now: now, limits)
        return debtEnds(after: now)
    }
}
