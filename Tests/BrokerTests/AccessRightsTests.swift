import Access
import MQTT
import Testing

@testable import Broker

extension TestConnection {
    /// The codes of the SUBACKs since the last time; other packets are forgotten.
    func takeReturnCodes() -> [SubscribeReturnCode] {
        take().flatMap { packet -> [SubscribeReturnCode] in
            if case .subscribeAcknowledgement(let acknowledgement) = packet { return acknowledgement.returnCodes }
            return []
        }
    }
}

@Suite struct `A right` {
    /// Everybody publishes under `in/`; bob reads `out/` and his own, alice everything.
    private static let rules = [
        "topic write in/#", "user bob", "topic read out/#", "topic write in/#", "user alice", "topic readwrite #",
        "pattern readwrite own/%u/%c",
    ]

    private static func access(_ lines: [String] = rules) -> AccessControl {
        AccessWorld.control { listener in
            listener.policy =
                (try? Policy.parse(AccessWorld.bytes(lines.joined(separator: "\n") + "\n"), file: "acl"))!
        }
    }

    private func broker(
        shards: Int = 1, _ lines: [String] = rules, _ change: (inout Limits) -> Void = { _ in }
    ) -> ShardHarness {
        var limits = Limits.withoutDamping
        change(&limits)
        return ShardHarness(shards: shards, limits: limits, access: Self.access(lines))
    }

    @Test(arguments: QoS.allCases)
    func `that is missing leaves a PUBLISH acknowledged, dropped and counted [MQTT-3.3.5-2]`(_ qos: QoS) {
        let broker = broker()
        let alice = broker.connect("a", userName: "alice")
        alice.subscribe(("#", .exactlyOnce))
        _ = alice.take()
        let bob = broker.connect("b", userName: "bob")
        _ = bob.take()
        bob.publish("out/1", "x", qos, identifier: 7)
        bob.publish("in/1", "y", qos, identifier: 8)
        let type = qos == .atLeastOnce ? ControlPacketType.publishAcknowledgement : .publishReceived
        let expected = qos == .atMostOnce ? [] : [Acknowledgement(type, 7), Acknowledgement(type, 8)]
        #expect(bob.takeAcknowledgements() == expected)
        #expect(alice.takePayloads() == ["y"])
        #expect(broker.counters.publishesDenied == 1 && broker.counters.publishesReceived == 2)
        guard qos == .exactlyOnce else { return }
        bob.publish("out/1", "x", qos, identifier: 7, isDuplicate: true)
        bob.acknowledge(.publishRelease, 7)
        bob.publish("in/2", "z", qos, identifier: 7)
        #expect(alice.takePayloads() == ["z"], "the identifier is free again")
        #expect(broker.counters.publishesDenied == 1, "what comes again is not counted again")
    }

    @Test func `that is missing keeps a retained message from being stored, and from being cleared`() {
        let broker = broker()
        let (alice, bob) = (broker.connect("a", userName: "alice"), broker.connect("b", userName: "bob"))
        alice.publish("out/1", "kept", isRetained: true)
        bob.publish("out/1", "other", isRetained: true)
        bob.publish("out/1", "", isRetained: true)
        bob.publish("out/2", "new", isRetained: true)
        #expect(broker.figures.retainedCount == 1)
        bob.subscribe(("out/#", .atMostOnce))
        #expect(bob.takePayloads() == ["kept"])
    }

    @Test(arguments: [true, false])
    func `to nothing under a filter is answered 0x80, or nothing arrives`(_ refuses: Bool) {
        let broker = broker { $0.refusesDeniedSubscriptions = refuses }
        let (alice, bob) = (broker.connect("a", userName: "alice"), broker.connect("b", userName: "bob"))
        alice.publish("secret/kept", "kept", isRetained: true)
        bob.subscribe(
            ("secret/#", .atLeastOnce), ("out/#", .atLeastOnce), ("$share/g/secret/#", .atMostOnce),
            ("own/eve/+", .atMostOnce), ("own/bob/b", .atMostOnce))
        let denied = refuses ? SubscribeReturnCode.failure : nil
        #expect(
            bob.takeReturnCodes() == [
                denied ?? .granted(.atLeastOnce), .granted(.atLeastOnce), denied ?? .granted(.atMostOnce),
                denied ?? .granted(.atMostOnce), .granted(.atMostOnce),
            ])
        #expect(broker.figures.subscriptionCount == (refuses ? 2 : 5))
        #expect(broker.counters.subscriptionsDenied == (refuses ? 3 : 0))
        for topic in ["secret/1", "out/1", "own/eve/b", "own/bob/b"] { alice.publish(topic, topic, .atLeastOnce) }
        #expect(bob.takePayloads() == ["out/1", "own/bob/b"])
    }

    @Test func `that is missing is no failure to a client of MQTT 3.1, which knows none`() {
        let broker = broker()
        let bob = broker.open()
        bob.sendConnect("b", version: .mqtt31, userName: "bob")
        bob.subscribe(("secret/#", .atLeastOnce))
        #expect(bob.takeReturnCodes() == [.granted(.atLeastOnce)])
        #expect(broker.figures.subscriptionCount == 0 && broker.counters.subscriptionsDenied == 1)
    }

    @Test func `to write that was used is used up when the rules change`() {
        let broker = broker()
        let alice = broker.connect("a", userName: "alice")
        alice.subscribe(("#", .atMostOnce))
        _ = alice.take()
        let bob = broker.connect("b", userName: "bob")
        let long = "in/" + String(repeating: "x", count: 200)
        for topic in ["in/1", "in/1", "in/2", "in/1", long, long] { bob.publish(topic, topic) }
        #expect(alice.takePayloads() == ["in/1", "in/1", "in/2", "in/1", long, long])
        bob.publish("in/1", "before")
        broker.adopt(Self.access(["user alice", "topic readwrite #", "user bob", "topic write in/2"]))
        for topic in ["in/1", "in/2", "in/1", long] { bob.publish(topic, topic) }
        #expect(alice.takePayloads() == ["before", "in/2"])
    }

    @Test func `to a part of a filter brings that part, retained or not, and never more`() {
        let broker = broker(shards: 2)
        let alice = broker.connect("a", home: 0, userName: "alice")
        for topic in ["secret", "out/1", "in/1", "own/bob/b"] { alice.publish(topic, "r \(topic)", isRetained: true) }
        let bob = broker.connect("b", home: 1, userName: "bob")
        let expected: [(filter: String, retained: [String], live: [String])] = [
            ("#", ["out/1", "own/bob/b"], ["out/1", "out", "own/bob/b"]), ("+/1", ["out/1"], ["out/1"]),
            ("+/bob/b", ["own/bob/b"], ["own/bob/b"]), ("$share/g/#", [], ["out/1", "out", "own/bob/b"]),
            ("$share/h/+", [], ["out"]),
        ]
        for (filter, retained, live) in expected {
            bob.subscribe((filter, .exactlyOnce))
            #expect(bob.takeDeliveries().map(\.topic).sorted() == retained, "\(filter)")
            for topic in ["secret", "out/1", "in/1", "own/eve/b", "out", "own/bob/b"] { alice.publish(topic, "live") }
            #expect(bob.takeDeliveries().map(\.topic) == live, "\(filter)")
            bob.unsubscribe(filter)
        }
    }

    @Test func `counts for the topic behind the mount point too`() {
        var mounted = ListenerRules()
        mounted.mountPoint = AccessWorld.bytes("site/")
        var listener = AccessControl.Listener()
        listener.policy = AccessWorld.policy("topic readwrite site/a", "topic read site/out/#")
        let broker = ShardHarness(
            rules: [ListenerRules(), mounted], access: AccessControl(listeners: [.init(), listener]))
        let outside = broker.connect("outside")
        let inside = broker.connect("inside", listener: 1)
        outside.subscribe(("#", .atMostOnce))
        inside.subscribe(("a", .atMostOnce), ("b", .atMostOnce), ("#", .atMostOnce))
        #expect(inside.takeReturnCodes() == [.granted(.atMostOnce), .failure, .granted(.atMostOnce)])
        _ = outside.take()
        inside.publish("a", "1")
        inside.publish("b", "2")
        #expect(inside.takeDeliveries().map(\.topic) == ["a"])
        #expect(outside.takeDeliveries().map(\.topic) == ["site/a"])
        for topic in ["site/a", "site/b", "a", "site/out/x"] { outside.publish(topic, "3") }
        #expect(inside.takeDeliveries().map(\.topic) == ["a", "out/x"])
        #expect(broker.counters.publishesDenied == 1)
    }

    @Test func `of a Client Identifier or a user name with wildcards widens no pattern`() {
        let broker = broker(["pattern readwrite own/%u/%c", "pattern write in/%c"])
        for (client, name) in [
            ("+", "alice"), ("#", "alice"), ("a", "+"), ("a/b", "alice"), ("b", "alice/a"), ("$x", "#"),
        ] {
            let thief = broker.connect(client, cleanSession: false, userName: name)
            thief.subscribe(("#", .atMostOnce), ("own/+/+", .atMostOnce))
            if name != "#" { thief.subscribe(("own/\(name)/\(client)", .atMostOnce)) }
            _ = thief.take()
            let owner = broker.connect("mine", userName: "alice")
            owner.publish("own/alice/mine", "x")
            thief.publish("own/alice/mine", "y")
            #expect(thief.take().isEmpty, "\(client) \(name)")
            thief.drop()
            owner.drop()
        }
        #expect(broker.counters.publishesDenied == 6)
    }

    @Test func `of many filters is asked about each message`() {
        let broker = broker { $0.refusesDeniedSubscriptions = false }
        let bob = broker.connect("b", userName: "bob")
        for number in 0..<100 { bob.subscribe(("out/\(number)", .atMostOnce)) }
        bob.subscribe(("secret", .atMostOnce))
        broker.adopt(Self.access())
        _ = bob.take()
        let alice = broker.connect("a", userName: "alice")
        for number in 0..<100 { alice.publish("out/\(number)", "x") }
        alice.publish("secret", "x")
        #expect(bob.takePayloads().count == 100)
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read out/7"]))
        for number in 0..<100 { alice.publish("out/\(number)", "\(number)") }
        #expect(bob.takePayloads() == ["7"])
    }

    @Test func `to a message that waits at QoS 0 counts when it goes out`() {
        let broker = broker { $0.queuesAtMostOnce = true }
        let bob = broker.connect("b", cleanSession: false, userName: "bob")
        bob.subscribe(("out/#", .atMostOnce))
        bob.drop()
        let alice = broker.connect("a", userName: "alice")
        for topic in ["out/1", "out/2", "out/3"] { alice.publish(topic, topic) }
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read out/2"]))
        let back = broker.connect("b", cleanSession: false, userName: "bob")
        #expect(back.takePayloads() == ["out/2"])
        #expect(broker.counters.publishesWithheld == 2)
        #expect(broker.counters.heldMessages == 0)
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce], [1, 2])
    func `to a message that waits counts when it goes out`(_ qos: QoS, _ shards: Int) {
        let broker = broker(shards: shards) { $0.inFlightMessages = 2 }
        let bob = broker.connect("b", cleanSession: false, home: 0, userName: "bob")
        bob.subscribe(("out/#", qos))
        bob.drop()
        let alice = broker.connect("a", home: shards - 1, userName: "alice")
        for number in 1...9 { alice.publish("out/\(number % 3)", "\(number)", qos) }
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read out/2"]))
        let back = broker.connect("b", cleanSession: false, userName: "bob")
        back.acknowledgesAtOnce = true
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read out/2"]))
        var payloads = back.takePayloads()
        back.acknowledge(.publishAcknowledgement, 3)
        for identifier in 1...9 as ClosedRange<PacketIdentifier> {
            back.acknowledge(qos == .atLeastOnce ? .publishAcknowledgement : .publishReceived, identifier)
            back.acknowledge(.publishComplete, identifier)
        }
        payloads += back.takePayloads()
        #expect(payloads == ["2", "5", "8"])
        #expect(broker.counters.publishesWithheld == 6)
        alice.publish("out/2", "more", qos)
        #expect(back.takePayloads() == ["more"], "the window is open")
        #expect(broker.counters.heldMessages == 0 && broker.heldByLooking.messages == 0)
    }

    @Test(arguments: [QoS.atLeastOnce, .exactlyOnce])
    func `to a message in flight counts when it is re-sent, and its identifier is free`(_ qos: QoS) {
        let broker = broker { $0.inFlightMessages = 3 }
        let bob = broker.connect("b", cleanSession: false, userName: "bob")
        bob.subscribe(("out/#", qos))
        let alice = broker.connect("a", userName: "alice")
        for number in 1...5 { alice.publish("out/\(number)", "\(number)", qos) }
        #expect(bob.takePayloads() == ["1", "2", "3"])
        bob.drop()
        broker.adopt(
            Self.access(["user alice", "topic #", "user bob", "topic read out/3", "topic read out/5"]))
        let back = broker.connect("b", cleanSession: false, userName: "bob")
        let deliveries = back.takeDeliveries()
        #expect(deliveries.map(\.payload) == ["3", "5"])
        #expect(deliveries.map(\.isDuplicate) == [true, false])
        #expect(broker.counters.publishesWithheld == 3)
        // What the client answers late to those that were withdrawn disturbs nothing.
        back.acknowledge(qos == .atLeastOnce ? .publishAcknowledgement : .publishReceived, 1)
        for number in 3...5 { alice.publish("out/3", "more \(number)", qos) }
        #expect(back.takePayloads() == ["more 3"], "one place of three is free")
        #expect(broker.counters.heldMessages == broker.heldByLooking.messages)
    }

    @Test func `does not keep an exchange of QoS 2 from its end after PUBREC [MQTT-4.3.3-1]`() {
        let broker = broker()
        let bob = broker.connect("b", cleanSession: false, userName: "bob")
        bob.subscribe(("out/#", .exactlyOnce))
        let alice = broker.connect("a", userName: "alice")
        for number in 1...3 { alice.publish("out/\(number)", "\(number)", .exactlyOnce) }
        bob.acknowledge(.publishReceived, 2)
        bob.drop()
        broker.adopt(Self.access(["user alice", "topic #"]))
        let back = broker.connect("b", cleanSession: false, userName: "bob")
        #expect(back.packets == [.accepted(sessionPresent: true), .acknowledgement(.publishRelease, 2)])
        back.acknowledge(.publishComplete, 2)
        #expect(broker.counters.publishesWithheld == 2 && broker.heldByLooking.messages == 0)
    }

    @Test(arguments: [1, 2])
    func `to what a filter has brought that is given up since counts too`(_ shards: Int) {
        let broker = broker(shards: shards) { $0.inFlightMessages = 1 }
        let bob = broker.connect("b", cleanSession: false, home: 0, userName: "bob")
        bob.subscribe(("out/#", .atLeastOnce), ("in/x", .atLeastOnce))
        let alice = broker.connect("a", home: shards - 1, userName: "alice")
        for number in 1...3 { alice.publish("out/\(number)", "\(number)", .atLeastOnce) }
        bob.unsubscribe("out/#")
        #expect(bob.takePayloads() == ["1"])
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read in/x"]))
        bob.acknowledge(1)
        #expect(bob.takePayloads().isEmpty)
        #expect(broker.counters.publishesWithheld == 2)
    }

    @Test func `of who takes over a session counts for what waits in it`() {
        let broker = broker()
        let alice = broker.connect("id", cleanSession: false, userName: "alice")
        alice.subscribe(("#", .atLeastOnce))
        alice.drop()
        let other = broker.connect("a", userName: "alice")
        for topic in ["secret", "out/1"] { other.publish(topic, topic, .atLeastOnce) }
        let bob = broker.connect("id", cleanSession: false, userName: "bob")
        #expect(bob.packets.first == .accepted(sessionPresent: true))
        #expect(bob.takePayloads() == ["out/1"])
        other.publish("secret", "2", .atLeastOnce)
        #expect(bob.take().isEmpty, "and for what its filters bring")
    }

    // MARK: Retained messages

    @Test(arguments: [true, false])
    func `of the publisher of a retained message counts, unless check_retain_source is false`(_ isChecked: Bool) {
        let broker = broker { $0.checksRetainSource = isChecked }
        let writer = broker.connect("w", userName: "bob")
        writer.publish("in/1", "kept", .atLeastOnce, isRetained: true)
        writer.disconnect()
        let alice = broker.connect("a", userName: "alice")
        func reads() -> [String] {
            alice.subscribe(("in/#", .exactlyOnce))
            return alice.takePayloads()
        }
        #expect(reads() == ["kept"])
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read in/#"]))
        #expect(reads() == (isChecked ? [] : ["kept"]))
        broker.adopt(Self.access())
        #expect(reads() == ["kept"])
        broker.publish("in/2", "the server's", isRetained: true)
        _ = alice.take()
        broker.adopt(Self.access(["user alice", "topic read #"]))
        #expect(reads() == (isChecked ? ["the server's"] : ["kept", "the server's"]))
    }

    @Test func `of a publisher that is blocked or deleted ends with it, for what it has retained`() {
        var access = AccessWorld.control(devices: ["DEV1", "DEV2"])
        let broker = ShardHarness(access: access)
        for device in ["DEV1", "DEV2"] {
            let connection = broker.connect(device, userName: device, password: "secret")
            connection.publish("devices/\(device)/status", "ON", isRetained: true)
        }
        let reader = broker.connect("r")
        func reads() -> [String] {
            reader.subscribe(("devices/#", .atMostOnce))
            return reader.takeDeliveries().map(\.topic).sorted()
        }
        #expect(reads() == ["devices/DEV1/status", "devices/DEV2/status"])
        access.accounts.devices["DEV1"]?.isBlocked = true
        broker.adopt(access, changed: [.device("DEV1")])
        #expect(reads() == ["devices/DEV2/status"])
        access.accounts.devices["DEV1"]?.isBlocked = false
        access.accounts.devices["DEV2"] = nil
        broker.adopt(access, changed: [.device("DEV1"), .device("DEV2")])
        #expect(reads() == ["devices/DEV1/status"])
    }

    @Test func `of the reader counts for each retained message while they are being read`() {
        let broker = broker { $0.messagesPerStep = 1 }
        let alice = broker.connect("a", userName: "alice")
        for number in 0..<20 { alice.publish("out/\(number)", "\(number)", isRetained: true) }
        let bob = broker.connect("b", userName: "bob")
        broker.settlesAtOnce = false
        bob.subscribe(("out/#", .atMostOnce))
        #expect(bob.takePayloads().count == 1)
        broker.adopt(Self.access(["user alice", "topic #", "user bob", "topic read out/19"]))
        broker.settle()
        #expect(bob.takePayloads() == ["19"])
    }

    // MARK: Wills

    @Test(arguments: [true, false])
    func `to a will counts when it is due`(_ isGranted: Bool) {
        let lines = ["user alice", "topic #", "user bob"]
        let broker = broker(isGranted ? lines : Self.rules)
        let alice = broker.connect("a", userName: "alice")
        alice.subscribe(("#", .atLeastOnce))
        _ = alice.take()
        let bob = broker.connect("b", will: WillMessage("in/will", "gone", isRetained: true), userName: "bob")
        broker.adopt(Self.access(isGranted ? Self.rules : lines))
        bob.drop()
        #expect(alice.takePayloads() == (isGranted ? ["gone"] : []))
        #expect(broker.figures.retainedCount == (isGranted ? 1 : 0))
        #expect(broker.counters.publishesDenied == (isGranted ? 0 : 1))
    }

    @Test func `to a will counts when the server stops`() {
        let broker = broker()
        let alice = broker.connect("a", userName: "alice")
        alice.subscribe(("#", .atLeastOnce))
        _ = alice.take()
        _ = broker.connect("b", will: WillMessage("out/x", "denied"), userName: "bob")
        _ = broker.connect("c", will: WillMessage("in/x", "granted"), userName: "bob")
        broker.shutDown()
        #expect(alice.takePayloads() == ["granted"])
    }

    // MARK: Shared subscriptions

    @Test(arguments: [1, 3])
    func `decides who of a group gets a message`(_ shards: Int) {
        let broker = broker(shards: shards) { $0.refusesDeniedSubscriptions = false }
        let readers = (0..<3).map { broker.connect("r\($0)", home: $0 % shards, userName: "bob") }
        let others = (0..<3).map { broker.connect("o\($0)", home: $0 % shards, userName: "eve") }
        for member in readers + others { member.subscribe(("$share/g/out/#", .atLeastOnce)) }
        for member in readers + others { _ = member.take() }
        let alice = broker.connect("a", userName: "alice")
        for number in 0..<30 { alice.publish("out/x", "\(number)", .atLeastOnce) }
        #expect(others.allSatisfy { $0.packets.isEmpty })
        #expect(readers.map { $0.takePayloads().count } == [10, 10, 10])
        broker.adopt(Self.access(["user alice", "topic #", "user eve", "topic read out/#"]))
        for number in 0..<30 { alice.publish("out/x", "\(number)") }
        #expect(readers.allSatisfy { $0.packets.isEmpty })
        #expect(others.map { $0.takePayloads().count } == [10, 10, 10])
        broker.adopt(Self.access(["user alice", "topic #"]))
        let before = broker.counters.heldMessages
        alice.publish("out/x", "nobody's", .atLeastOnce)
        #expect((readers + others).allSatisfy { $0.packets.isEmpty })
        #expect(broker.counters.heldMessages == before)
    }

    @Test func `prefers a member that is away and may read to one that is there and may not`() {
        let broker = broker { $0.refusesDeniedSubscriptions = false }
        let away = broker.connect("away", cleanSession: false, userName: "bob")
        let there = broker.connect("there", userName: "eve")
        for member in [away, there] { member.subscribe(("$share/g/#", .atLeastOnce)) }
        away.drop()
        _ = there.take()
        broker.connect("a", userName: "alice").publish("out/1", "x", .atLeastOnce)
        #expect(there.packets.isEmpty)
        #expect(broker.connect("away", cleanSession: false, userName: "bob").takePayloads() == ["x"])
    }
}
