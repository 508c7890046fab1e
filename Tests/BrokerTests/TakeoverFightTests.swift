import MQTT
import Testing

@testable import Broker

@Suite struct `A fight over a Client Identifier` {
    private static let limits: Limits = {
        var limits = Limits()
        limits.takeovers = 3
        return limits
    }()

    /// Two clients, of which the one that was thrown out comes back at once, for so many milliseconds. Returns how often
    /// one was accepted.
    private func fight(_ broker: ShardHarness, for milliseconds: Int64, cleanSession: Bool) -> Int {
        var accepted = 0
        let end = broker.now + milliseconds
        var clients = (0...1).map { _ in broker.connect("a", cleanSession: cleanSession) }
        while broker.now < end {
            for index in clients.indices {
                if !clients[index].take().isEmpty { accepted += 1 }
                if clients[index].isClosed { clients[index] = broker.connect("a", cleanSession: cleanSession) }
            }
            broker.advance(10)
        }
        for client in clients { client.drop() }
        return accepted
    }

    private var fights: (ShardHarness) -> [BrokerEvent] {
        { broker in
            broker.events.filter {
                switch $0 {
                case .takeoverFight, .takeoverFightOver: true
                default: false
                }
            }
        }
    }

    @Test(arguments: [true, false])
    func `slows down until somebody is thrown out every five seconds`(_ cleanSession: Bool) {
        let broker = ShardHarness(shards: 2, limits: Self.limits)
        let soon = fight(broker, for: 5_000, cleanSession: cleanSession)
        #expect((6...9).contains(soon), "\(soon)")  // Not 500.
        #expect(broker.counters.takeoverFights == 1)
    }

    @Test func `is named once, and counted when it is over`() throws {
        let broker = ShardHarness(limits: Self.limits)
        let accepted = fight(broker, for: 60_000, cleanSession: false)
        #expect((15...20).contains(accepted), "\(accepted)")
        #expect(fights(broker).count == 1)
        broker.advanceByDeadlines(2 * Limits.takeoverWindow)
        guard case .takeoverFightOver(let client, let takeovers)? = fights(broker).last else {
            Issue.record("the fight never ends")
            return
        }
        #expect(client == ClientIdentifier("a") && abs(takeovers - accepted) <= 2, "\(takeovers) of \(accepted)")
        #expect(fights(broker).count == 2)
        #expect(broker.nextTick() == nil)
    }

    @Test func `is none for a burst of takeovers, nor for many with calm between them`() {
        let broker = ShardHarness(limits: Self.limits)
        _ = broker.connect("a")
        for _ in 1...Self.limits.takeovers { #expect(broker.connect("a").take() == [.accepted(sessionPresent: false)]) }
        broker.advance(Limits.takeoverWindow + 1)
        for _ in 1...20 {
            broker.advance(Limits.takeoverWindow + 1)
            #expect(broker.connect("a").take() == [.accepted(sessionPresent: false)])
        }
        #expect(fights(broker).isEmpty)
        #expect(broker.counters.takeoversDelayed == 0)
    }

    @Test(arguments: [1000, 4000, 9000] as [Int64])
    func `is one too when somebody is thrown out only now and then`(_ pause: Int64) {
        let broker = ShardHarness(limits: Limits())
        _ = broker.connect("a")
        for _ in 1...Limits.takeoverRounds {
            #expect(broker.connect("a").take() == [.accepted(sessionPresent: false)])
            broker.advance(pause)
        }
        let newcomer = broker.connect("a")
        #expect(newcomer.take() == [])
        #expect(fights(broker).count == 1)
        broker.advance(Limits.firstTakeoverDelay + TimerWheel.granularity)
        #expect(newcomer.take() == [.accepted(sessionPresent: false)])
    }

    /// A session that is fought over, the one who has it, and one who waits for it.
    private func waiting(limits: Limits = Self.limits, shards: Int = 1) -> (
        ShardHarness, TestConnection, TestConnection
    ) {
        let broker = ShardHarness(shards: shards, limits: limits)
        var incumbent = broker.connect("a", cleanSession: false, home: shards - 1)
        for _ in 1...limits.takeovers { incumbent = broker.connect("a", cleanSession: false, home: shards - 1) }
        return (broker, incumbent, broker.connect("a", cleanSession: false))
    }

    @Test(arguments: [1, 2])
    func `makes the newcomer wait, and nobody else`(_ shards: Int) {
        let (broker, incumbent, newcomer) = waiting(shards: shards)
        #expect(newcomer.packets.isEmpty && !newcomer.isClosed && !incumbent.isClosed)
        #expect(broker.isPaused(newcomer))
        #expect(broker.connect("b").take() == [.accepted(sessionPresent: false)])
        incumbent.send(.pingRequest)
        #expect(incumbent.packets.contains(.pingResponse))
        let counted = broker.counters.packetsReceived
        broker.advanceByDeadlines(Limits.firstTakeoverDelay + 2 * TimerWheel.granularity)
        #expect(incumbent.closeReason == .takenOver)
        #expect(newcomer.take() == [.accepted(sessionPresent: true)])
        // Counted when it is handled, and once; one that was moved here has been counted there.
        #expect(broker.counters.packetsReceived == counted + (shards == 1 ? 1 : 0))
    }

    @Test func `lets the newcomer in when the other one goes`() {
        let (broker, incumbent, newcomer) = waiting()
        incumbent.disconnect()
        broker.advanceByDeadlines(2 * TimerWheel.granularity)
        #expect(newcomer.take() == [.accepted(sessionPresent: true)])
        #expect(broker.figures.connectedSessionCount == 1)
    }

    @Test func `forgets a newcomer that goes`() {
        let (broker, incumbent, newcomer) = waiting()
        newcomer.drop()
        broker.advanceByDeadlines(2 * Limits.longestTakeoverDelay)
        #expect(!incumbent.isClosed)
        #expect(broker.counters.connections == 1)
    }

    @Test func `does not let the time to CONNECT run out`() {
        var limits = Self.limits
        limits.connectTimeout = 50
        let (broker, _, newcomer) = waiting(limits: limits)
        broker.advanceByDeadlines(Limits.firstTakeoverDelay + 2 * TimerWheel.granularity)
        #expect(newcomer.take() == [.accepted(sessionPresent: true)])
    }

    @Test func `keeps what the newcomer sends behind its CONNECT`() {
        let (broker, _, newcomer) = waiting()
        let subscriber = broker.connect("subscriber")
        subscriber.subscribe(("t", .atMostOnce))
        _ = subscriber.take()
        newcomer.publish("t", "1")
        #expect(subscriber.takePayloads() == [])
        broker.advanceByDeadlines(Limits.firstTakeoverDelay + 2 * TimerWheel.granularity)
        #expect(subscriber.takePayloads() == ["1"])
    }

    @Test func `refuses newcomers when too many wait`() {
        let (broker, incumbent, _) = waiting()
        var refused = 0
        for _ in 1...Limits.waitingTakeovers {
            refused += broker.connect("a").take() == [.refused(.serverUnavailable)] ? 1 : 0
        }
        #expect(refused == 1)
        #expect(broker.counters.takeoversRefused == 1)
        #expect(!incumbent.isClosed)
    }

    @Test func `is remembered for a bounded number of sessions`() {
        var fights = TakeoverFights()
        let now = Instant(milliseconds: 1_000_000)
        for _ in 0...3 { _ = fights.newcomer(ClientIdentifier("first"), now: now, limit: 3) }
        for number in 0..<Limits.takeoversRemembered {
            _ = fights.newcomer(ClientIdentifier("\(number)"), now: now, limit: 3)
        }
        #expect(fights.takeOver()?.client == ClientIdentifier("first"))
        #expect(fights.newcomer(ClientIdentifier("first"), now: now, limit: 3) == .takeOver)
        #expect(fights.nextCheck == nil)
    }
}
