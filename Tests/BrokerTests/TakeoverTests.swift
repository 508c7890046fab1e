import Access
import Locks
import MQTT
import Seeded
import Testing

@testable import Broker

/// From what to what a session goes when its client comes a second time, and where the newcomer is accepted.
struct Takeover: CustomTestStringConvertible {
    let wasClean: Bool
    let isClean: Bool
    let comesToItsShard: Bool

    static let all = [true, false].flatMap { wasClean in
        [true, false].flatMap { isClean in
            [true, false].map { Takeover(wasClean: wasClean, isClean: isClean, comesToItsShard: $0) }
        }
    }

    var testDescription: String {
        func kind(_ isClean: Bool) -> String { isClean ? "clean" : "persistent" }
        return "\(kind(wasClean)) to \(kind(isClean)) on \(comesToItsShard ? "the same" : "another") shard"
    }
}

@Suite struct `Taking over a session` {
    @Test(arguments: Takeover.all)
    func `disconnects the earlier connection [MQTT-3.1.4-2]`(_ takeover: Takeover) {
        let broker = ShardHarness(shards: 2)
        let first = broker.connect("a", cleanSession: takeover.wasClean, home: 1)
        #expect(first.shard == 1)
        let second = broker.connect("a", cleanSession: takeover.isClean, on: takeover.comesToItsShard ? 1 : 0)
        #expect(first.closeReason == .takenOver)
        #expect(second.take() == [.accepted(sessionPresent: !takeover.wasClean && !takeover.isClean)])
        #expect(second.shard == 1)
        #expect(broker.figures.sessionCount == 1)
        #expect(broker.figures.connectedSessionCount == 1)
        #expect(broker.counters.connections == 1)
    }

    @Test(arguments: Takeover.all)
    func `keeps subscriptions only from persistent to persistent [MQTT-3.1.4-3]`(_ takeover: Takeover) {
        let broker = ShardHarness(shards: 2)
        let publisher = broker.connect("publisher", home: 0)
        let first = broker.connect("a", cleanSession: takeover.wasClean, home: 1)
        first.subscribe(("t", .exactlyOnce), ("$share/g/t", .atLeastOnce))
        let second = broker.connect("a", cleanSession: takeover.isClean, on: takeover.comesToItsShard ? 1 : 0)
        _ = second.take()
        publisher.publish("t", "1", .exactlyOnce)
        let isKept = !takeover.wasClean && !takeover.isClean
        #expect(second.takePayloads() == (isKept ? ["1", "1"] : []))
        #expect(broker.figures.subscriptionCount == (isKept ? 2 : 0))
    }

    @Test(arguments: Takeover.all)
    func `sends again what was in flight only from persistent to persistent [MQTT-4.4.0-1]`(_ takeover: Takeover) {
        let broker = ShardHarness(shards: 2)
        let publisher = broker.connect("publisher", home: 0)
        let first = broker.connect("a", cleanSession: takeover.wasClean, home: 1)
        first.subscribe(("t", .exactlyOnce))
        publisher.publish("t", "1", .atLeastOnce)
        publisher.publish("t", "2", .exactlyOnce)
        let second = broker.connect("a", cleanSession: takeover.isClean, on: takeover.comesToItsShard ? 1 : 0)
        let again = [
            Delivery(topic: "t", payload: "1", qos: .atLeastOnce, packetIdentifier: 1, isDuplicate: true),
            Delivery(topic: "t", payload: "2", qos: .exactlyOnce, packetIdentifier: 2, isDuplicate: true),
        ]
        #expect(second.takeDeliveries() == (!takeover.wasClean && !takeover.isClean ? again : []))
    }

    @Test(arguments: Takeover.all)
    func `publishes the will of the earlier connection, once [MQTT-3.1.2-8]`(_ takeover: Takeover) {
        let broker = ShardHarness(shards: 2)
        let watcher = broker.connect("watcher", home: 0)
        watcher.subscribe(("will", .atLeastOnce))
        _ = watcher.take()
        _ = broker.connect("a", cleanSession: takeover.wasClean, will: WillMessage("will", "1", .atLeastOnce), home: 1)
        let second = broker.connect("a", cleanSession: takeover.isClean, on: takeover.comesToItsShard ? 1 : 0)
        #expect(watcher.takePayloads() == ["1"])
        second.drop()
        #expect(watcher.takePayloads().isEmpty)
    }

    @Test func `goes on by itself when three come for one name`() {
        let broker = ShardHarness(shards: 3)
        let connections = (0..<9).map { broker.connect("a", cleanSession: $0 % 2 == 0, on: $0 % 3) }
        #expect(connections.filter { !$0.isClosed }.count == 1)
        #expect(connections.last?.isClosed == false)
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `leaves exactly one connection in whatever order the CONNECTs come [MQTT-3.1.4-2]`(_ seed: UInt64) {
        let broker = ShardHarness(shards: 3, seed: seed)
        var generator = SeededGenerator(seed: seed)
        broker.settlesAtOnce = false
        var connections: [TestConnection] = []
        for _ in 0..<12 {
            connections.append(broker.connect("a", cleanSession: generator.happens(50), on: generator.below(3)))
            for _ in 0..<generator.below(3) { broker.step() }
            if generator.happens(20) { generator.element(of: connections).drop() }
        }
        broker.settle()
        #expect(connections.filter { !$0.isClosed }.count <= 1, "seed \(seed)")
        #expect(broker.figures.connectedSessionCount == connections.filter { !$0.isClosed }.count, "seed \(seed)")
        #expect(broker.counters.connections == connections.filter { !$0.isClosed }.count, "seed \(seed)")
        for connection in connections where !connection.isClosed { #expect(connection.packets.count == 1) }
    }

    @Test func `gives a session that ends on the way a new home [MQTT-3.1.2-6]`() {
        let broker = ShardHarness(shards: 2)
        let first = broker.connect("a", home: 1)
        broker.settlesAtOnce = false
        let second = broker.connect("a", on: 0)
        #expect(second.place == .moving)
        first.disconnect()
        second.publish("t", "behind the CONNECT", .atLeastOnce)
        broker.settle()
        #expect(
            second.take() == [.accepted(sessionPresent: false), .acknowledgement(.publishAcknowledgement, 1)])
    }

    /// What is on the way between shards belongs to the session that it was sent to.
    @Test(arguments: QoS.allCases)
    func `to a clean session brings nothing that was under way to the old one [MQTT-3.1.2-6]`(_ qos: QoS) {
        let broker = ShardHarness(shards: 2)
        let publisher = broker.connect("publisher", home: 0)
        broker.connect("a", cleanSession: false, home: 1).subscribe(("t", qos))
        broker.settlesAtOnce = false
        publisher.publish("t", "for the old session", qos)
        let second = broker.open(home: 1)
        second.sendConnect("a", cleanSession: true)
        #expect(second.take() == [.accepted(sessionPresent: false)])
        broker.settle()
        #expect(second.takeDeliveries() == [], "it has subscribed to nothing")
    }
}

@Suite struct `Placing a session` {
    @Test func `spreads new sessions over the shards, wherever they are accepted`() {
        let broker = ShardHarness(shards: 3)
        let connections = (0..<9).map { broker.connect("client \($0)") }
        for shard in 0..<3 { #expect(connections.filter { $0.shard == shard }.count == 3) }
        #expect(connections.allSatisfy { $0.take() == [.accepted(sessionPresent: false)] })
    }

    @Test func `keeps a persistent session where it was made`() {
        let broker = ShardHarness(shards: 3)
        broker.connect("a", cleanSession: false, home: 2).drop()
        for shard in 0..<3 {
            let connection = broker.connect("a", cleanSession: false, on: shard)
            #expect(connection.shard == 2)
            #expect(connection.take() == [.accepted(sessionPresent: true)])
            connection.disconnect()
        }
        #expect(broker.figures.sessionCount == 1)
    }

    @Test func `does not mistake a session for another that had its number before`() {
        let broker = ShardHarness(shards: 2)
        let publisher = broker.connect("publisher", home: 0)
        let first = broker.connect("a", home: 1)
        first.subscribe(("t", .atLeastOnce))
        broker.settlesAtOnce = false
        publisher.publish("t", "for a", .atLeastOnce)
        first.disconnect()
        let other = broker.connect("b", home: 1)
        broker.settle()
        #expect(other.take() == [.accepted(sessionPresent: false)])
    }
}

@Suite struct `A packet that breaks a rule` {
    /// On another shard the session's successor may begin as soon as it is gone; mail that is in the outbox goes first.
    @Test(arguments: [0x36, 0x3e, 0xf0, 0x80] as [UInt8])
    func `leaves the session alone until the caller has posted what is in the outbox`(_ firstByte: UInt8) throws {
        let now = Instant(milliseconds: 0)
        var state = ShardState(
            shard: 0, of: 1, limits: Limits(), rules: [ListenerRules()],
            access: AccessControl(listeners: [AccessControl.Listener()]),
            directory: Lock(Directory(shards: 1, seed: 1)), throttle: Lock(SignInThrottle(attempts: 10)), now: now)
        var outbox = Outbox(shards: 1)
        var bytes: [UInt8] = []
        ControlPacket.connect(Connect(cleanSession: true, keepAlive: 0, clientIdentifier: Array("a".utf8)))
            .encode(into: &bytes)
        bytes += [firstByte, 5, 0, 1, 0x61, 0, 1]

        state.open(0, now: now)
        let connect = try #require(try FixedHeader(bytes.span, at: 0))
        let start = connect.packetLength
        try state.receive(connect, bytes.span.extracting(connect.length..<start), from: 0, now: now, into: &outbox)
        let broken = try #require(try FixedHeader(bytes.span, at: start))
        var reason: CloseReason?
        do throws(CloseReason) {
            try state.receive(
                broken, bytes.span.extracting((start + broken.length)...), from: 0, now: now, into: &outbox)
        } catch {
            reason = error
        }
        guard case .malformed? = reason else {
            Issue.record("\(String(describing: reason))")
            return
        }
        #expect(state.isOpen(0))
    }
}
