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
            if let next = throttle.charge(bytes: 10, now: now, limits) {
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
            let next = throttle.charge(bytes: size, now: now, limits)
            let milliseconds = Int(now - start)
            #expect(packets <= rate * (milliseconds + 1_000) / 1_000 + 2)
            #expect(bytes <= bandwidth * (milliseconds + 1_000) / 1_000 + size + 1)
            now = (next ?? now) + Int64(generator.below(3) == 0 ? generator.below(300) : 0)
        }
    }

    @Test func `makes nobody wait longer than the longest pause, however large the packet`() throws {
        var throttle = Throttle()
        let now = Instant(milliseconds: 1_000_000)
        let next = throttle.charge(bytes: 268_435_455, now: now, Self.limits(rate: 0, bandwidth: 1))
        #expect(try #require(next) - now == Limits.longestPause)
        let after = throttle.charge(bytes: 268_435_455, now: try #require(next), Self.limits(rate: 0, bandwidth: 1))
        #expect(try #require(after) - now == 2 * Limits.longestPause)
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

    @Test func `is a new one for each connection`() {
        let broker = ShardHarness(limits: Self.limits(rate: 1))
        let first = broker.connect("a")
        for _ in 1...3 { first.publish("t", "") }
        #expect(broker.isPaused(first))
        first.drop()
        let second = broker.connect("a")
        #expect(second.number == first.number ?? second.number)
        second.publish("t", "")
        #expect(!broker.isPaused(second))
    }

    @Test func `has no end where no limit is set`() {
        let broker = ShardHarness()
        let publisher = broker.connect("publisher")
        for _ in 1...5_000 { publisher.publish("t", "") }
        #expect(!broker.isPaused(publisher))
        #expect(broker.counters.publishesReceived == 5_000)
    }
}
