import MQTT
import Testing

@testable import Broker

@Suite struct `The keep-alive` {
    @Test(arguments: [1, 2, 5, 60, 3600, 65_535] as [UInt16])
    func `ends a silent connection after one and a half times itself [MQTT-3.1.2-24]`(_ keepAlive: UInt16) {
        let broker = ShardHarness()
        let connection = broker.connect("a", keepAlive: keepAlive)
        let silence = Int64(keepAlive) * 1500
        broker.advanceByDeadlines(silence - 1)
        #expect(!connection.isClosed)
        broker.advanceByDeadlines(2 * TimerWheel.granularity)
        #expect(connection.closeReason == .keepAliveExpired)
        #expect(broker.nextTick() == nil)
    }

    @Test func `counts from the last packet that came, whatever it was`() {
        let broker = ShardHarness()
        let connection = broker.connect("a", keepAlive: 10)
        for packet in [
            .pingRequest, .publish(ApplicationMessage(topic: "t", payload: []), qos: .atMostOnce),
            .acknowledgement(.publishAcknowledgement, 9), .acknowledgement(.publishRelease, 9),
            .unsubscribe([[0x61]], packetIdentifier: 1),
        ] as [ControlPacket] {
            broker.advanceByDeadlines(14_999)
            connection.send(packet)
        }
        broker.advanceByDeadlines(14_999)
        #expect(!connection.isClosed)
        broker.advanceByDeadlines(200)
        #expect(connection.closeReason == .keepAliveExpired)
    }

    @Test func `is not served by what goes to the client`() {
        let broker = ShardHarness()
        let subscriber = broker.connect("a", keepAlive: 10)
        subscriber.subscribe(("t", .atMostOnce))
        let publisher = broker.connect("b")
        for _ in 0..<20 {
            broker.advanceByDeadlines(1000)
            publisher.publish("t", "")
        }
        #expect(subscriber.closeReason == .keepAliveExpired)
        #expect(!publisher.isClosed)
    }

    @Test func `lets a peer live that is not read but takes what is sent`() {
        let broker = ShardHarness()
        let connection = broker.connect("a", keepAlive: 10)
        for _ in 0..<10 {
            broker.advanceByDeadlines(14_000)
            broker.noteProgress(connection)
        }
        #expect(!connection.isClosed)
    }

    @Test(arguments: [1000, 20_000, 59_000] as [Int64])
    func `stands still while the connection is not read, and begins anew then [MQTT-3.1.2-24]`(_ unread: Int64) {
        let broker = ShardHarness()
        let connection = broker.connect("a", keepAlive: 10)
        broker.setUnread(connection, true)
        broker.advanceByDeadlines(unread)
        #expect(!connection.isClosed)
        broker.setUnread(connection, false)
        broker.advanceByDeadlines(14_999)
        #expect(!connection.isClosed)
        broker.advanceByDeadlines(200)
        #expect(connection.closeReason == .keepAliveExpired)
    }

    @Test(arguments: [10, 100] as [UInt16])
    func `gives a peer that is not read and takes nothing a minute at least`(_ keepAlive: UInt16) {
        let broker = ShardHarness()
        let connection = broker.connect("a", keepAlive: keepAlive)
        broker.advanceByDeadlines(1000)
        broker.setUnread(connection, true)
        let patience = max(Limits.unreadPatience, Int64(keepAlive) * 1500)
        broker.advanceByDeadlines(patience - 1)
        #expect(!connection.isClosed)
        broker.advanceByDeadlines(200)
        #expect(connection.closeReason == .keepAliveExpired)
    }

    @Test func `of 0 ends nothing`() {
        let broker = ShardHarness()
        let connection = broker.connect("a", keepAlive: 0)
        broker.advanceByDeadlines(10_000_000_000)
        broker.advance(10_000_000_000)
        #expect(!connection.isClosed)
        #expect(broker.nextTick() == nil)
    }

    @Test func `ends a thousand connections, each in its time, however late the clock is looked at`() {
        let broker = ShardHarness()
        let connections = (0..<1000).map { broker.connect("\($0)", keepAlive: UInt16(1 + $0 % 200)) }
        broker.advance(150_000 + TimerWheel.granularity)
        for (index, connection) in connections.enumerated() {
            #expect(connection.isClosed == (Int64(1 + index % 200) * 1500 <= 150_000), "\(index)")
        }
        broker.advanceByDeadlines(160_000)
        #expect(broker.counters.connections == 0)
    }
}

@Suite struct `A connection without CONNECT` {
    @Test func `ends after the connect timeout`() {
        var limits = Limits()
        limits.connectTimeout = 5000
        let broker = ShardHarness(limits: limits)
        let connection = broker.open()
        broker.advanceByDeadlines(4999)
        #expect(!connection.isClosed)
        broker.advanceByDeadlines(200)
        #expect(connection.closeReason == .connectTimeout)
        #expect(connection.packets.isEmpty)
    }

    @Test func `that comes at last lives on, also with no keep-alive`() {
        let broker = ShardHarness()
        let connection = broker.open()
        broker.advanceByDeadlines(9000)
        connection.sendConnect("a", keepAlive: 0)
        broker.advanceByDeadlines(100_000)
        #expect(!connection.isClosed)
    }

    @Test func `leaves no deadline behind for the next of its number`() {
        let broker = ShardHarness()
        let first = broker.open()
        broker.advanceByDeadlines(9000)
        first.drop()
        let second = broker.open()
        #expect(second.number == 0)
        broker.advanceByDeadlines(9000)
        #expect(!second.isClosed)
        broker.advanceByDeadlines(1200)
        #expect(second.isClosed)
    }

    @Test func `and one that has moved has no deadline where it was`() {
        let broker = ShardHarness(shards: 2)
        broker.connect("a", cleanSession: false, home: 1).drop()
        let connection = broker.connect("a", cleanSession: false, keepAlive: 10, on: 0)
        #expect(connection.shard == 1)
        #expect(broker.nextTick(0) == nil)
        broker.advanceByDeadlines(16_000)
        #expect(connection.closeReason == .keepAliveExpired)
    }
}
