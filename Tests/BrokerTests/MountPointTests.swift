import Access
import Locks
import MQTT
import Testing

@testable import Broker

@Suite struct `A mount point` {
    private let broker = {
        var mounted = ListenerRules()
        mounted.mountPoint = Array("ward/7/".utf8)
        return ShardHarness(shards: 2, rules: [ListenerRules(), mounted])
    }()

    private func outside(_ client: String = "outside") -> TestConnection { broker.connect(client, home: 0) }
    private func inside(_ client: String = "inside", home: Int = 1) -> TestConnection {
        broker.connect(client, home: home, listener: 1)
    }

    @Test(arguments: QoS.allCases) func `stands before what its clients publish`(_ qos: QoS) {
        let watcher = outside()
        watcher.subscribe(("#", .exactlyOnce))
        inside().publish("a/b", "x", qos)
        #expect(watcher.takeDeliveries().map(\.topic) == ["ward/7/a/b"])
    }

    @Test(arguments: QoS.allCases) func `is not seen by its clients, nor is anything beside it`(_ qos: QoS) {
        let publisher = outside()
        publisher.publish("ward/7/kept", "1", qos, isRetained: true)
        publisher.publish("kept", "2", qos, isRetained: true)
        let subscribers = [inside("first", home: 0), inside("second", home: 1)]
        for subscriber in subscribers { subscriber.subscribe(("#", .exactlyOnce)) }
        for topic in ["ward/7/a/b", "ward/7/", "ward/7", "ward/8/a", "a"] { publisher.publish(topic, "3", qos) }
        for subscriber in subscribers {
            #expect(subscriber.takeDeliveries().map(\.topic) == ["kept", "a/b"])
        }
    }

    @Test func `lies between the group of a shared subscription and its filter`() {
        let member = inside()
        member.subscribe(("$share/group/a/+", .atLeastOnce))
        outside().publish("ward/7/a/b", "x")
        #expect(member.takeDeliveries().map(\.topic) == ["a/b"])
        member.unsubscribe("$share/group/a/+")
        #expect(broker.figures.subscriptionCount == 0)
    }

    @Test func `holds for UNSUBSCRIBE`() {
        let subscriber = inside()
        subscriber.subscribe(("a", .atMostOnce), ("b", .atMostOnce))
        subscriber.unsubscribe("a")
        #expect(broker.figures.subscriptionCount == 1)
    }

    @Test func `holds for wills, and hides what the server tells about itself`() {
        let (watcher, other) = (outside(), inside("other"))
        watcher.subscribe(("ward/7/#", .atMostOnce))
        other.subscribe(("$SYS/#", .atMostOnce), ("#", .atMostOnce))
        broker.publish("$SYS/broker/version", "x")
        broker.connect("a", will: WillMessage("status", "gone", isRetained: true), home: 0, listener: 1).drop()
        #expect(watcher.takeDeliveries().map(\.topic) == ["ward/7/status"])
        #expect(other.takeDeliveries().map(\.topic) == ["status"])
    }

    @Test func `goes with what is kept for a session, in flight or not`() {
        var session = broker.connect("kept", cleanSession: false, home: 0, listener: 1)
        session.subscribe(("#", .atLeastOnce))
        _ = session.take()
        let publisher = outside()
        publisher.publish("ward/7/a", "in flight", .atLeastOnce)
        session.drop()
        publisher.publish("ward/7/b", "queued", .atLeastOnce)
        session = broker.connect("kept", cleanSession: false, home: 0, listener: 1)
        #expect(session.takeDeliveries().map(\.topic) == ["a", "b"])
        // Through a listener without one its client sees everything as it is.
        session.drop()
        session = broker.connect("kept", cleanSession: false, home: 0)
        #expect(session.takeDeliveries().map(\.topic) == ["ward/7/a", "ward/7/b"])
    }

    @Test func `makes some topics too long: dropped and counted, or answered with 0x80`() {
        let long = String(repeating: "x", count: 65_530)
        let client = inside()
        _ = client.take()
        client.publish(long, "x", .atLeastOnce)
        #expect(broker.counters.publishesDropped == 1)
        #expect(client.take() == [.acknowledgement(.publishAcknowledgement, 1)])
        client.subscribe((long, .atLeastOnce), ("a", .atLeastOnce))
        let answer = SubscribeAcknowledgement(packetIdentifier: 2, returnCodes: [.failure, .granted(.atLeastOnce)])
        #expect(client.take() == [.subscribeAcknowledgement(answer)])
        client.unsubscribe(long)
        #expect(!client.isClosed)
        let other = broker.open(on: 1, home: 1, listener: 1)
        other.sendConnect("will", will: WillMessage(long, "x"))
        #expect(other.isClosed)
    }

    @Test func `costs one copy of a message, however many clients see it`() throws {
        var mounted = ListenerRules()
        mounted.mountPoint = Array("ward/".utf8)
        let now = Instant(milliseconds: 0)
        var state = ShardState(
            shard: 0, of: 1, limits: Limits(), rules: [ListenerRules(), mounted],
            access: AccessControl(listeners: [AccessControl.Listener(), AccessControl.Listener()]),
            directory: Lock(Directory(shards: 1, seed: 1)), throttle: Lock(SignInThrottle(attempts: 10)), now: now)
        var outbox = Outbox(shards: 1)
        func send(_ packet: ControlPacket, from number: ConnectionNumber) throws {
            var bytes: [UInt8] = []
            packet.encode(into: &bytes)
            let header = try #require(try FixedHeader(bytes.span, at: 0))
            let body = bytes.span.extracting(header.length..<bytes.count)
            try state.receive(header, body, from: number, now: now, into: &outbox)
        }
        for number in 0..<100 as Range<ConnectionNumber> {
            state.open(number, listener: number == 0 ? 0 : 1, now: now)
            try send(.connect(Connect(keepAlive: 0, clientIdentifier: Array("\(number)".utf8))), from: number)
            let qos = QoS(rawValue: UInt8(number % 3)) ?? .atMostOnce
            try send(.subscribe([Subscription(filter: [0x23], maximumQoS: qos)], packetIdentifier: 1), from: number)
        }
        outbox.clear()
        for round in 1...2 {
            let message = ApplicationMessage(topic: "ward/bed", payload: [UInt8](repeating: 0, count: 100_000))
            try send(.publish(message, qos: .exactlyOnce, packetIdentifier: UInt16(round)), from: 0)
            #expect(outbox.messages.count == 2 * round)
        }
    }
}
