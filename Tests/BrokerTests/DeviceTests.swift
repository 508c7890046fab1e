import Access
import MQTT
import Testing

@testable import Broker

@Suite struct `What devices report` {
    @Test(arguments: [
        ("devices/DEV1/health", DeviceMessage.Kind.health), ("devices/DEV1/status", .status),
        ("devices/DEV1/ota/status", .otaStatus), ("devices/DEV1/telemetry/a", .other),
        ("devices/DEV1/telemetry/a/b/c", .other), ("devices/DEV1/telemetry/", .other),
        ("devices/DEV1/telemetry", .other),  // `telemetry/#` is its parent too (4.7.1.2).
        ("devices/a/health", .health), ("devices/ /status", .status),
    ])
    func `is told by topic, once, with what is wanted of it`(_ topic: String, _ kind: DeviceMessage.Kind) {
        for qos in QoS.allCases {
            for isRetained in [false, true] {
                let world = FleetWorld()
                let watcher = world.connect(.admin, home: 1)
                watcher.subscribe(("devices/#", .exactlyOnce))
                _ = watcher.take()
                let device = world.connect(.anonymous)
                device.publish(topic, "x", qos, identifier: 3, isRetained: isRetained)
                if qos == .exactlyOnce { device.publish(topic, "x", qos, identifier: 3, isDuplicate: true) }
                let name = String(topic.split(separator: "/", omittingEmptySubsequences: false)[1])
                #expect(
                    world.reports == [DeviceMessage(device: name, kind: kind, payload: kind == .other ? [] : [120])])
                #expect(watcher.takeDeliveries().map(\.topic) == [topic], "and those get it who subscribe")
            }
        }
    }

    @Test(arguments: [
        "devices/DEV1/healthy", "devices/DEV1/healt", "devices/DEV1/health/", "devices/DEV1/health/x",
        "devices/DEV1/status/x", "devices/DEV1/x/status", "devices/DEV1/ota", "devices/DEV1/ota/", "devices/DEV1/ota/x",
        "devices/DEV1/ota/status/x", "devices/DEV1/command", "devices/DEV1/telemetryx", "devices/DEV1/Health",
        "devices/DEV1/", "devices/DEV1//health", "devices/DEV1", "devices//health", "devices/health", "devices/",
        "devices", "d", "/devices/DEV1/health", "Devices/DEV1/health", "device/DEV1/health", "devicesx/DEV1/health",
        "x/devices/DEV1/health", "$devices/DEV1/health", "$SYS/devices/DEV1/health", "$CONTROL/devices/DEV1/health",
    ])
    func `is on its own topics alone`(_ topic: String) {
        let world = FleetWorld()
        world.connect(.admin).publish(topic, "x", .atLeastOnce)
        #expect(world.reports == [] && world.requests == [])
    }

    @Test func `names nobody whose name is too long for a device`() {
        let world = FleetWorld()
        for count in 63...66 {
            world.connect(.admin).publish("devices/\(String(repeating: "A", count: count))/status", "ON")
        }
        #expect(world.reports.map(\.device.utf8.count) == [63, 64])
    }

    @Test func `is told in the order in which it came, between the beginning of a connection and its end`() {
        let world = FleetWorld()
        let device = world.connect(.device)
        device.publish("devices/DEV1/health", "1")
        device.publish("devices/DEV1/status", "ON", .atLeastOnce)
        device.publish("devices/DEV1/health", "2", .exactlyOnce)
        device.disconnect()
        var story: [String] = []
        for event in world.broker.events {
            switch event {
            case .connected: story.append("connected")
            case .deviceMessage(let message): story.append(String(decoding: message.payload, as: UTF8.self))
            case .closed: story.append("closed")
            default: break
            }
        }
        #expect(story == ["connected", "1", "ON", "2", "closed"])
    }

    @Test func `is no report where who says it may not: another's topic, or one that somebody only reads`() {
        let world = FleetWorld(policy: AccessWorld.policy("topic read #"))
        for who in FleetWorld.Who.allCases where ![.admin, .otherAdmin, .mightyService, .device].contains(who) {
            let denied = world.broker.counters.publishesDenied
            let connection = world.connect(who)
            for topic in ["health", "status", "ota/status", "telemetry/x"] {
                connection.publish("devices/DEV1/\(topic)", "ON", .atLeastOnce)
            }
            #expect(world.reports == [], "\(who)")
            #expect(world.broker.counters.publishesDenied == denied + 4)
            #expect(connection.takeAcknowledgements().count == 4)
        }
        world.connect(.admin).publish("devices/DEV1/status", "ON")
        #expect(world.reports.map(\.device) == ["DEV1"], "whoever may write for it speaks for it")
    }

    @Test func `is no report any more once the right to it is gone`() {
        let world = FleetWorld()
        let device = world.connect(.device)
        device.publish("devices/DEV1/status", "ON")
        world.access.accounts.devices["DEV1"]?.isBlocked = true
        world.broker.settlesAtOnce = false
        world.broker.adopt(world.access)
        device.publish("devices/DEV1/status", "OFF")
        #expect(world.reports.count == 1 && device.closeReason == .notAuthorized)
        world.broker.settlesAtOnce = true
        world.broker.settle()
    }

    @Test func `is not in a will, which says nothing of the present`() {
        let world = FleetWorld()
        let watcher = world.connect(.admin)
        watcher.subscribe(("devices/#", .atMostOnce))
        _ = watcher.take()
        let will = WillMessage("devices/DEV1/status", "OFF", .atLeastOnce, isRetained: true)
        world.connect(.device, home: 1, will: will).drop()
        #expect(watcher.takePayloads() == ["OFF"])
        _ = world.connect(.device, home: 1, will: will)
        world.broker.shutDown()
        #expect(watcher.takePayloads() == ["OFF"])
        #expect(world.reports == [])
    }

    @Test func `is not in what the server says, nor in a message that is too long`() {
        var limits = Limits.withoutDamping
        limits.payloadBytes = 4
        let world = FleetWorld(limits: limits)
        world.broker.publish("devices/DEV1/status", "ON")
        world.connect(.device).publish("devices/DEV1/status", "ON...")
        #expect(world.reports == [])
    }

    @Test func `counts as the others see its topic, behind a mount point`() {
        let world = FleetWorld()
        let device = world.connect(.anonymous, listener: 1)
        device.publish("devices/DEV1/health", "{}")
        #expect(world.reports == [])

        var rules = [ListenerRules(), ListenerRules()]
        rules[1].mountPoint = Array("devices/".utf8)
        let broker = ShardHarness(rules: rules)
        broker.watchDevices()
        broker.connect("d", listener: 1).publish("DEV1/health", "{}")
        #expect(
            broker.events.contains(.deviceMessage(DeviceMessage(device: "DEV1", kind: .health, payload: [123, 125]))))
    }

    @Test func `is nothing where nobody manages devices`() {
        let world = FleetWorld(watchesDevices: false)
        world.connect(.device).publish("devices/DEV1/status", "ON")
        #expect(world.reports == [])
    }
}

@Suite struct `A request to whoever manages the fleet` {
    private let world = FleetWorld()
    private let topic = "$CONTROL/fleet/v1"
    private var broker: ShardHarness { world.broker }

    @Test(arguments: QoS.allCases, [false, true])
    func `is handed over as it came, from an administrator`(_ qos: QoS, _ isRetained: Bool) {
        let admin = world.connect(.admin)
        let payloads: [[UInt8]] = [
            [], [0, 0xff, 0xc3, 0x28], Array(#"{"commands":[]} "#.utf8), .init(repeating: 7, count: 5_000),
        ]
        for (number, payload) in payloads.enumerated() {
            admin.send(
                .publish(
                    ApplicationMessage(topic: topic, payload: payload), qos: qos,
                    packetIdentifier: qos == .atMostOnce ? 0 : PacketIdentifier(number + 1), isDuplicate: false,
                    isRetained: isRetained))
        }
        #expect(world.requests == payloads.map { .init(person: "admin@x", payload: $0) })
        #expect(broker.figures.retainedCount == 0, "it is never retained")
        #expect(broker.counters.publishesDenied == 0)
    }

    @Test(arguments: [FleetWorld.Who.admin, .owner])
    func `is acknowledged like any message, and counts once [MQTT-4.3.3-2]`(_ who: FleetWorld.Who) {
        let connection = world.connect(who)
        _ = connection.take()
        connection.publish(topic, "1", .atLeastOnce, identifier: 5)
        #expect(connection.take() == [.acknowledgement(.publishAcknowledgement, 5)])
        for isDuplicate in [false, true] {
            connection.publish(topic, "2", .exactlyOnce, identifier: 5, isDuplicate: isDuplicate)
            #expect(connection.take() == [.acknowledgement(.publishReceived, 5)])
        }
        connection.acknowledge(.publishRelease, 5)
        #expect(connection.take() == [.acknowledgement(.publishComplete, 5)])
        connection.publish(topic, "3", .exactlyOnce, identifier: 5)
        #expect(connection.take() == [.acknowledgement(.publishReceived, 5)])
        let handed = world.requests.map { String(decoding: $0.payload, as: UTF8.self) }
        #expect(handed == (who == .admin ? ["1", "2", "3"] : []))
    }

    @Test func `is handed over once by a session that lasts, though its connection was lost before PUBREC`() {
        let world = FleetWorld(disk: SimulatedDisk())
        let admin = world.connect(.admin, cleanSession: false)
        world.broker.commitAll()
        admin.publish(topic, "1", .exactlyOnce, identifier: 5)
        world.broker.commitAll()
        #expect(world.requests.count == 1)
        let next = FleetWorld(disk: world.broker.crash(), now: world.broker.now + 5)
        let back = next.connect(.admin, cleanSession: false)
        back.publish(topic, "1", .exactlyOnce, identifier: 5, isDuplicate: true)
        next.broker.commitAll()
        #expect(back.take().last == .acknowledgement(.publishReceived, 5))
        #expect(next.requests == [])
    }

    @Test(arguments: FleetWorld.Who.allCases.filter { $0 != .admin && $0 != .otherAdmin }, QoS.allCases)
    func `from anybody else is denied, acknowledged and dropped`(_ who: FleetWorld.Who, _ qos: QoS) {
        let connection = world.connect(who)
        _ = connection.take()
        connection.publish(topic, "x", qos)
        #expect(world.requests == [] && !connection.isClosed)
        #expect(broker.counters.publishesDenied == 1)
        #expect(connection.take().count == (qos == .atMostOnce ? 0 : 1))
    }

    @Test func `counts by the role of the moment`() {
        let admin = world.connect(.admin)
        func asks(_ payload: String) -> Bool {
            let before = world.requests.count
            admin.publish(topic, payload)
            return world.requests.count > before
        }
        #expect(asks("1"))
        world.change(.admin) { $0.role = .user }
        #expect(!asks("2") && !admin.isClosed)
        world.change(.admin) { $0.role = .admin }
        #expect(asks("3"))
        world.change(.owner) { $0.role = .admin }
        let owner = world.connect(.owner)
        owner.publish(topic, "4")
        #expect(world.requests.last == .init(person: "owner@x", payload: Array("4".utf8)))
    }

    @Test(arguments: [true, false], [true, false])
    func `is none from an administrator who is blocked, or has to change the password`(
        _ isBlocked: Bool, _ isNamed: Bool
    ) {
        let admin = world.connect(.admin)
        world.access.accounts.people["admin@x"]?.isBlocked = isBlocked
        world.access.accounts.people["admin@x"]?.mustChangePassword = !isBlocked
        broker.settlesAtOnce = false
        broker.adopt(world.access, changed: isNamed ? [.person("id of admin")] : nil)
        admin.publish(topic, "x")
        #expect(world.requests == [] && admin.closeReason == .notAuthorized)
        broker.settlesAtOnce = true
        broker.settle()
    }

    @Test func `is seen by nobody who listens, not even by administrators, then or later`() {
        let filters = ["$CONTROL/#", "$CONTROL/fleet/v1", "$CONTROL/+/+", "+/fleet/v1", "#", "$share/g/$CONTROL/#"]
        func listen(_ who: FleetWorld.Who, _ client: String) -> TestConnection {
            let listener = world.connect(who, client: client, home: 1)
            for filter in filters { listener.subscribe((filter, .exactlyOnce)) }
            _ = listener.take()
            return listener
        }
        let listeners = FleetWorld.Who.allCases.map { listen($0, "\($0)") }
        let admin = world.connect(.admin)
        for qos in QoS.allCases {
            for isRetained in [false, true] { admin.publish(topic, "x", qos, isRetained: isRetained) }
        }
        #expect(world.requests.count == 6)
        #expect(listeners.allSatisfy { $0.packets.isEmpty })
        #expect(listen(.admin, "late").packets.isEmpty)
    }

    @Test func `is no will`() {
        let watcher = world.connect(.otherAdmin)
        watcher.subscribe(("$CONTROL/#", .atMostOnce))
        _ = watcher.take()
        world.connect(.admin, will: WillMessage(topic, "x", isRetained: true)).drop()
        #expect(world.requests == [] && watcher.packets.isEmpty)
        #expect(broker.counters.publishesDenied == 1 && broker.figures.retainedCount == 0)
    }

    @Test(arguments: [
        "$CONTROL/fleet/v1/", "$CONTROL/fleet/v1/response", "$CONTROL/fleet/v2", "$CONTROL/fleet", "$control/fleet/v1",
        "$CONTROL/dynamic-security/v1", "CONTROL/fleet/v1", "/$CONTROL/fleet/v1",
    ])
    func `has one topic`(_ topic: String) {
        let watcher = world.connect(.otherAdmin)
        watcher.subscribe(("$CONTROL/#", .atMostOnce))
        _ = watcher.take()
        world.connect(.admin).publish(topic, "x", isRetained: true)
        #expect(world.requests == [] && watcher.packets.isEmpty)
    }

    @Test func `does not come through a mount point, nor where nobody manages devices`() {
        world.connect(.admin, listener: 1).publish(topic, "x")
        #expect(world.requests == [] && broker.counters.publishesDenied == 0, "it is a topic of that listener's")
        let other = FleetWorld(watchesDevices: false)
        other.connect(.admin).publish(topic, "x")
        #expect(other.requests == [] && other.broker.counters.publishesDenied == 1)
    }

    // MARK: Its answer

    @Test func `is answered on all connections by which that administrator listens, and on nobody else's`() {
        let response = "$CONTROL/fleet/v1/response"
        func listen(_ who: FleetWorld.Who, _ client: String, _ filter: String, _ qos: QoS, home: Int) -> TestConnection
        {
            let listener = world.connect(who, client: client, cleanSession: false, home: home)
            listener.subscribe((filter, qos))
            _ = listener.take()
            return listener
        }
        let here = listen(.admin, "here", response, .exactlyOnce, home: 0)
        let there = listen(.admin, "there", "$CONTROL/#", .atMostOnce, home: 1)
        listen(.admin, "away", response, .atLeastOnce, home: 1).drop()
        let others = FleetWorld.Who.allCases.filter { $0 != .admin }.map {
            listen($0, "\($0)", "$CONTROL/#", .atLeastOnce, home: 0)
        }
        broker.answer("{}", to: "admin@x")
        #expect(
            here.takeDeliveries() == [Delivery(topic: response, payload: "{}", qos: .atLeastOnce, packetIdentifier: 1)])
        #expect(there.takeDeliveries() == [Delivery(topic: response, payload: "{}")])
        #expect(others.allSatisfy { $0.packets.isEmpty })
        #expect(world.connect(.admin, client: "away", cleanSession: false).takeDeliveries() == [])
        broker.answer("{}", to: "owner@x")
        world.change(.admin) { $0.role = .user }
        broker.answer("{}", to: "admin@x")
        #expect(here.packets.isEmpty && there.packets.isEmpty, "who is no administrator any more gets none")
    }
}

@Suite struct `What the management says of devices` {
    private static let topics = ["$SYS/devices/DEV1", "$SYS/rollouts/1", "$SYS/activity"]

    /// By role, whatever a policy says.
    private static func readable(by who: FleetWorld.Who) -> [String] {
        switch who {
        case .admin, .otherAdmin: topics
        case .owner: ["$SYS/devices/DEV1"]
        default: []
        }
    }

    @Test(arguments: FleetWorld.Who.allCases, [true, false])
    func `is for whom their role lets`(_ who: FleetWorld.Who, _ isRetained: Bool) {
        // What an `acl_file` would say that gives everything away.
        let world = FleetWorld(policy: AccessWorld.policy("topic #", "topic $SYS/#"))
        func listen(_ client: String) -> TestConnection {
            let listener = world.connect(who, client: client, home: 1)
            for filter in ["$SYS/devices/#", "$SYS/rollouts/+", "$SYS/activity", "$SYS/broker/#"] {
                listener.subscribe((filter, .atLeastOnce))
            }
            return listener
        }
        let early = listen("early")
        for topic in Self.topics + ["$SYS/broker/uptime"] {
            world.broker.publishAsServer(topic, "{}", isRetained: isRetained)
        }
        func seen(_ connection: TestConnection) -> [String] {
            connection.takeDeliveries().map(\.topic).filter { $0 != "$SYS/broker/uptime" }.sorted()
        }
        #expect(seen(early) == Self.readable(by: who).sorted())
        #expect(seen(listen("late")) == (isRetained ? Self.readable(by: who).sorted() : []))
    }
}
