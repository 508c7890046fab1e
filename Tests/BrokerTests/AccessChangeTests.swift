import Access
import MQTT
import Testing

@testable import Broker

@Suite struct `A change of the rules` {
    private static func users(
        _ passwords: PasswordFile, _ lines: [String] = ["topic #", "user alice", "topic #", "user bob", "topic #"]
    ) -> AccessControl {
        AccessWorld.control { listener in
            listener.allowsAnonymous = false
            listener.passwordFile = passwords
            listener.policy =
                (try? Policy.parse(AccessWorld.bytes(lines.joined(separator: "\n") + "\n"), file: "acl"))!
        }
    }

    private static let both = users(AccessWorld.passwords("alice", "bob"))

    private func connect(
        _ client: String, _ user: String, _ broker: ShardHarness, home: Int? = nil, will: String? = nil
    )
        -> TestConnection
    {
        broker.connect(
            client, cleanSession: false, will: will.map { WillMessage($0, "gone") }, home: home, userName: user,
            password: "secret")
    }

    @Test(arguments: [1, 2])
    func `re-decides live subscriptions, both ways`(_ shards: Int) {
        let broker = ShardHarness(shards: shards, access: Self.both)
        let alice = connect("a", "alice", broker, home: 0)
        let bob = connect("b", "bob", broker, home: shards - 1)
        bob.subscribe(("one/+", .atLeastOnce), ("two", .atMostOnce), ("#", .atMostOnce))
        _ = bob.take()
        func received() -> [String] {
            for topic in ["one/x", "two", "three"] { alice.publish(topic, topic, .atLeastOnce) }
            return bob.takePayloads()
        }
        let alices = ["user alice", "topic #", "user bob"]
        #expect(received() == ["one/x", "two", "three"])
        for _ in 0..<2 {
            broker.adopt(Self.users(AccessWorld.passwords("alice", "bob"), alices + ["topic read two"]))
            #expect(received() == ["two"])
            broker.adopt(Self.users(AccessWorld.passwords("alice", "bob"), alices))
            #expect(received() == [])
            broker.adopt(
                Self.users(AccessWorld.passwords("alice", "bob"), alices + ["topic read #", "topic deny two"]))
            #expect(received() == ["one/x", "three"])
            broker.adopt(Self.both)
            #expect(received() == ["one/x", "two", "three"])
        }
        #expect(!bob.isClosed && !alice.isClosed)
    }

    @Test(arguments: [1, 3])
    func `ends the connections of those it takes away, and nobody else's`(_ shards: Int) {
        let broker = ShardHarness(shards: shards, access: Self.both)
        let alices = (0..<700).map { connect("a\($0)", "alice", broker, home: $0 % shards) }
        let bobs = (0..<10).map { connect("b\($0)", "bob", broker, home: $0 % shards, will: "will") }
        alices[0].subscribe(("will", .atLeastOnce))
        for connection in alices { _ = connection.take() }
        broker.adopt(Self.users(AccessWorld.passwords("alice")))
        #expect(bobs.allSatisfy { $0.closeReason == .notAuthorized })
        #expect(alices.allSatisfy { !$0.isClosed && $0.packets.isEmpty }, "not even their wills")
        #expect(broker.figures.sessionCount == 710 && broker.figures.connectedSessionCount == 700)
    }

    @Test func `counts at once, and is carried through in steps`() {
        let broker = ShardHarness(access: Self.both)
        let alice = connect("a", "alice", broker)
        alice.subscribe(("#", .atLeastOnce))
        let others = (0..<600).map { connect("\($0)", "alice", broker) }
        let bobs = (0..<4).map { connect("b\($0)", "bob", broker, will: "will") }
        bobs[2].subscribe(("t", .atLeastOnce))
        for connection in [alice] + bobs { _ = connection.take() }
        broker.settlesAtOnce = false
        broker.adopt(Self.users(AccessWorld.passwords("alice"), ["user alice", "topic #"]))
        #expect(broker.hasWork() && bobs.allSatisfy { !$0.isClosed })
        bobs[0].publish("t", "1", .atLeastOnce)
        bobs[1].subscribe(("t", .atLeastOnce))
        #expect(bobs[0].closeReason == .notAuthorized && bobs[1].closeReason == .notAuthorized)
        #expect(bobs.allSatisfy { $0.packets.isEmpty } && alice.takePayloads().isEmpty)
        alice.publish("t", "2", .atLeastOnce)
        #expect(bobs[2].packets.isEmpty)
        #expect(alice.takePayloads() == ["2"])
        bobs[3].disconnect()
        #expect(bobs[3].closeReason == .notAuthorized)
        var steps = 0
        while broker.hasWork() {
            broker.work()
            steps += 1
        }
        #expect(steps == 3 && bobs[2].closeReason == .notAuthorized)
        #expect(others.allSatisfy { !$0.isClosed })
    }

    @Test(arguments: [true, false])
    func `that is a new password ends the connection, and its session misses nothing`(_ settles: Bool) {
        let access = AccessWorld.control(devices: ["DEV1"]) { $0.policy = AccessWorld.policy("topic #") }
        let broker = ShardHarness(shards: 2, access: access)
        let backend = broker.connect("backend", home: 1)
        func device(_ password: String) -> TestConnection {
            broker.connect("dev1", cleanSession: false, home: 0, userName: "DEV1", password: password)
        }
        let old = device("secret")
        old.subscribe(("devices/DEV1/command", .atLeastOnce))
        _ = old.take()
        var changed = access
        changed.accounts.devices["DEV1"]?.secret = AccessWorld.secret("new")
        broker.settlesAtOnce = settles
        broker.adopt(changed, changed: settles ? [.device("DEV1")] : nil)
        backend.publish("devices/DEV1/command", "LED_ON", .atLeastOnce)
        if !settles {  // The message comes before the sweep.
            while !old.isClosed, broker.step() {}
        }
        broker.settlesAtOnce = true
        broker.settle()
        #expect(old.closeReason == .notAuthorized && old.packets.isEmpty)
        backend.publish("devices/DEV1/command", "LED_OFF", .atLeastOnce)
        #expect(device("secret").closeReason == .refused(.notAuthorized))
        #expect(device("new").takePayloads() == ["LED_ON", "LED_OFF"])
    }

    @Test func `withholds the will of who is ended by it`() {
        var access = AccessWorld.control(devices: ["DEV1"])
        let broker = ShardHarness(access: access)
        let watcher = broker.connect("w")
        watcher.subscribe(("#", .atMostOnce))
        _ = watcher.take()
        let device = broker.connect(
            "d", will: WillMessage("devices/DEV1/status", "gone"), userName: "DEV1", password: "secret")
        access.accounts.devices["DEV1"]?.secret = AccessWorld.secret("new")
        broker.adopt(access, changed: [.device("DEV1")])
        #expect(device.closeReason == .notAuthorized)
        #expect(watcher.take().isEmpty)
    }

    @Test(arguments: [true, false], [true, false])
    func `ends the session of an account that is deleted, and keeps that of one that is blocked`(
        _ isDeleted: Bool, _ isNamed: Bool
    ) {
        var access = AccessWorld.control(devices: ["DEV1", "DEV2"]) { $0.policy = AccessWorld.policy("topic #") }
        let broker = ShardHarness(shards: 2, access: access)
        let devices = (0..<3).map { index in
            let connection = broker.connect(
                "d\(index)", cleanSession: index == 2, home: index % 2, userName: index == 1 ? "DEV2" : "DEV1",
                password: "secret")
            connection.subscribe(("devices/DEV1/command", .atLeastOnce), ("devices/DEV2/command", .atLeastOnce))
            return connection
        }
        let absent = broker.connect("d3", cleanSession: false, home: 1, userName: "DEV1", password: "secret")
        absent.subscribe(("devices/DEV1/ota", .atLeastOnce))
        absent.drop()
        let backend = broker.connect("backend")
        backend.publish("devices/DEV1/ota", "before", .atLeastOnce)
        #expect(broker.figures.sessionCount == 5)
        if isDeleted {
            access.accounts.devices["DEV1"] = nil
        } else {
            access.accounts.devices["DEV1"]?.isBlocked = true
        }
        broker.adopt(access, changed: isNamed ? [.device("DEV1")] : nil)
        #expect(devices[0].closeReason == .notAuthorized && devices[2].closeReason == .notAuthorized)
        #expect(!devices[1].isClosed)
        #expect(broker.figures.sessionCount == (isDeleted ? 2 : 4))
        #expect(broker.counters.heldMessages == (isDeleted ? 0 : 1))
        backend.publish("devices/DEV1/ota", "meanwhile", .atLeastOnce)
        access.accounts.devices["DEV1"] = .init(deviceId: "DEV1", secret: AccessWorld.secret("secret"))
        broker.adopt(access, changed: isNamed ? [.device("DEV1")] : nil)
        let back = broker.connect("d3", cleanSession: false, userName: "DEV1", password: "secret")
        #expect(back.packets.first == .accepted(sessionPresent: !isDeleted))
        #expect(back.takePayloads() == (isDeleted ? [] : ["before"]), "what comes while it is blocked is not for it")
    }

    @Test func `concerns only those whom it names`() {
        var access = AccessWorld.control(devices: ["DEV1", "DEV2"])
        let broker = ShardHarness(shards: 2, access: access)
        let devices = ["DEV1", "DEV2"].map { broker.connect($0, userName: $0, password: "secret") }
        access.accounts.revokedCertificates = ["1234"]
        broker.adopt(access)
        #expect(devices.allSatisfy { !$0.isClosed })
        access.accounts.devices["DEV2"]?.isBlocked = true
        broker.adopt(access, changed: [.device("DEV2")])
        #expect(!devices[0].isClosed && devices[1].isClosed && !broker.hasWork())
    }

    @Test func `that revokes a certificate ends what came with it`() {
        var access = AccessWorld.control(devices: ["DEV1", "DEV2"])
        let broker = ShardHarness(access: access)
        let first = broker.connect("1", proof: AccessWorld.certificate("DEV1", serial: "1"))
        let second = broker.connect("2", proof: AccessWorld.certificate("DEV2", serial: "2"))
        #expect(first.packets + second.packets == [.accepted(sessionPresent: false), .accepted(sessionPresent: false)])
        access.accounts.revokedCertificates = ["2"]
        broker.adopt(access)
        #expect(!first.isClosed && second.closeReason == .notAuthorized)
        #expect(broker.connect("2", proof: AccessWorld.certificate("DEV2", serial: "2")).isClosed)
    }

    @Test func `that comes while another is carried through leaves nobody out`() {
        let broker = ShardHarness(access: Self.both)
        let bobs = (0..<600).map { connect("b\($0)", "bob", broker) }
        let alices = (0..<600).map { connect("a\($0)", "alice", broker) }
        broker.settlesAtOnce = false
        broker.adopt(Self.users(AccessWorld.passwords("alice", "bob"), ["user alice", "topic #"]))
        for _ in 0..<2 { broker.work() }
        broker.adopt(Self.users(AccessWorld.passwords("alice")))
        broker.settle()
        #expect(bobs.allSatisfy(\.isClosed) && !alices.contains(where: \.isClosed))
    }
}
