import Access
import MQTT
import Seeded
import Testing

@testable import Broker

private func command(_ payload: String, id: PacketIdentifier = 1, isDuplicate: Bool = false) -> Delivery {
    Delivery(
        topic: "devices/DEV1/command", payload: payload, qos: .atLeastOnce, packetIdentifier: id,
        isDuplicate: isDuplicate)
}

@Suite struct `A command for a device` {
    private let world = FleetWorld()
    private var broker: ShardHarness { world.broker }

    // MARK: Who gets it

    @Test func `goes to all sessions of the device that are connected, at QoS 1, wherever they live`() {
        let here = world.listener(client: "here", home: 0)
        let there = world.listener(client: "there", home: 1, qos: .exactlyOnce)
        let deaf = world.connect(.device, client: "deaf")
        world.listener(client: "away", cleanSession: false, home: 1).drop()
        let other = world.listener(.otherDevice, to: "DEV2")
        _ = deaf.take()
        #expect(broker.command("LED_ON", to: "DEV1") == 2)
        for connection in [here, there] { #expect(connection.takeDeliveries() == [command("LED_ON")]) }
        #expect(deaf.packets.isEmpty && other.packets.isEmpty)
        #expect(world.connect(.device, client: "away", cleanSession: false).takeDeliveries() == [])
        #expect(broker.command("LED_ON", to: "DEV3") == 0)
    }

    @Test func `is not for another device, whatever that listens to`() {
        let thief = world.connect(.otherDevice)
        thief.subscribe(
            ("devices/DEV1/command", .atLeastOnce), ("devices/+/command", .atLeastOnce), ("#", .atLeastOnce))
        _ = thief.take()
        #expect(broker.command("LED_ON", to: "DEV1") == 0)
        #expect(thief.packets.isEmpty && broker.commandsUnderWay == 0)
    }

    @Test(arguments: [FleetWorld.Who.admin, .owner, .service, .mightyService, .anonymous], [true, false])
    func `comes to others who may read it as any message, if they shall get it`(_ who: FleetWorld.Who, _ shall: Bool) {
        let live = world.listener(who, client: "live", home: 1)
        world.listener(who, client: "away", cleanSession: false).drop()
        #expect(broker.command("LED_ON", number: 5, to: "DEV1", andOthers: shall) == 0, "they are not the device")
        let expected = shall ? ["LED_ON"] : []
        #expect(live.takeDeliveries().map(\.payload) == expected)
        live.acknowledge(1)
        #expect(broker.commandsUnderWay == 0 && world.delivered == [], "nor do they acknowledge it for the device")
        broker.advance(86_400_000)
        let back = world.connect(who, client: "away", cleanSession: false)
        #expect(back.takeDeliveries().map(\.payload) == expected, "a message has no time")
    }

    @Test func `of whoever may not command is none, and one of a client is a message like any other`() {
        let device = world.listener(cleanSession: false)
        world.connect(.otherDevice).publish("devices/DEV1/command", "theirs", .atLeastOnce)
        #expect(device.packets.isEmpty)
        world.connect(.owner).publish("devices/DEV1/command", "LED_ON", .atLeastOnce)
        #expect(device.takeDeliveries() == [command("LED_ON")])
        #expect(broker.commandsUnderWay == 0)
        device.drop()
        broker.advance(86_400_000)
        #expect(
            world.connect(.device, client: "client of device", cleanSession: false).takeDeliveries()
                == [command("LED_ON", isDuplicate: true)])
    }

    @Test func `does not reach a device that is blocked`() {
        let device = world.listener(cleanSession: false)
        world.access.accounts.devices["DEV1"]?.isBlocked = true
        broker.settlesAtOnce = false
        broker.adopt(world.access)
        #expect(!device.isClosed, "the sweep has not come to it")
        #expect(broker.command("LED_ON", to: "DEV1") == 0 && device.packets.isEmpty)
        broker.settlesAtOnce = true
        broker.settle()
        #expect(device.isClosed)
        #expect(broker.command("LED_ON", to: "DEV1") == 0)
        world.access.accounts.devices["DEV1"]?.isBlocked = false
        broker.adopt(world.access)
        #expect(world.connect(.device, cleanSession: false).takeDeliveries() == [])
    }

    @Test func `stays outside of a mount point, as any message does`() {
        world.listener(cleanSession: false).drop()
        let mounted = world.connect(.device, cleanSession: false, listener: 1)
        #expect(mounted.take() == [.accepted(sessionPresent: true)])
        #expect(broker.command("LED_ON", to: "DEV1") == 0)
        #expect(mounted.packets.isEmpty)
    }

    // MARK: What there has to be room for

    @Test func `waits for nobody who has too much on the way`() {
        var limits = Limits.withoutDamping
        limits.inFlightMessages = 2
        let world = FleetWorld(limits: limits)
        let (device, owner) = (world.listener(), world.connect(.owner))
        owner.publish("devices/DEV1/command", "1", .atLeastOnce)
        #expect(world.broker.command("2", number: 2, to: "DEV1") == 1)
        #expect(world.broker.command("3", number: 3, to: "DEV1") == 0, "the window is closed")
        #expect(device.takePayloads() == ["1", "2"])
        device.acknowledge(1, 2)
        #expect(device.packets.isEmpty && world.delivered == [2])
        world.broker.setFull(device, true)
        #expect(world.broker.command("4", number: 4, to: "DEV1") == 0, "its output is full")
        world.broker.setFull(device, false)
        #expect(device.packets.isEmpty && world.broker.commandsUnderWay == 0)
        #expect(world.broker.command("5", number: 5, to: "DEV1") == 1)
        #expect(device.takePayloads() == ["5"])
    }

    @Test func `nor behind messages that wait, nor for bytes that are on the way`() {
        var limits = Limits.withoutDamping
        (limits.inFlightMessages, limits.inFlightBytes) = (4, 10)
        let world = FleetWorld(limits: limits)
        let (device, owner) = (world.listener(), world.connect(.owner))
        owner.publish("devices/DEV1/command", "8 bytes.", .atLeastOnce)
        #expect(world.broker.command("long", number: 2, to: "DEV1") == 0)
        #expect(world.broker.command("2.", number: 3, to: "DEV1") == 1)
        #expect(device.takePayloads() == ["8 bytes.", "2."])
        for payload in ["a", "b"] { owner.publish("devices/DEV1/command", payload, .atLeastOnce) }
        #expect(world.broker.command("c", number: 4, to: "DEV1") == 0)
        device.acknowledge(1)
        #expect(device.takePayloads() == ["a", "b"], "what had no room has not waited")
        #expect(world.delivered == [])
    }

    @Test func `of QoS 0 is sent and not waited for`() {
        let device = world.listener(cleanSession: false, qos: .atMostOnce)
        #expect(broker.handOut("LED_ON", to: "DEV1") == (1, 0))
        #expect(device.takeDeliveries().map(\.qos) == [.atMostOnce])
        #expect(broker.commandsUnderWay == 0)
        let other = world.listener(client: "other", home: 1)
        #expect(broker.handOut("LED_OFF", to: "DEV1") == (2, 1))
        other.drop()
        device.drop()
        #expect(world.connect(.device, cleanSession: false).takeDeliveries() == [])
    }

    // MARK: Its acknowledgement

    @Test func `is remembered by session and Packet Identifier, and told when that is acknowledged`() {
        let owner = world.connect(.owner)
        let first = world.listener(client: "first", home: 0)
        let second = world.listener(client: "second", home: 1)
        owner.publish("devices/DEV1/command", "message", .atLeastOnce)
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 2)
        #expect(broker.command("LED_OFF", number: 8, to: "DEV1") == 2)
        #expect(broker.commandsUnderWay == 4)
        for connection in [first, second] {
            #expect(connection.takeDeliveries().map(\.packetIdentifier) == [1, 2, 3])
        }
        first.acknowledge(1, 9)
        #expect(world.delivered == [])
        first.acknowledge(3)
        #expect(world.delivered == [8])
        first.acknowledge(3)
        #expect(world.delivered == [8], "once")
        second.acknowledge(2)
        #expect(world.delivered == [8, 7])
        #expect(broker.events.contains(.commandDelivered(7, device: "DEV1")))
        #expect(broker.commandsUnderWay == 2)
    }

    @Test func `is not sent again once it is withdrawn, and those beside it are`() {
        let here = world.listener(client: "here", cleanSession: false, home: 0)
        let there = world.listener(client: "there", cleanSession: false, home: 1)
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(broker.command("\(number)", number: number, to: "DEV1") == 2)
        }
        broker.withdraw([2, 9])
        there.acknowledge(2)
        #expect(world.delivered == [2], "it was in the device's hands already")
        there.drop()
        here.drop()
        for name in ["here", "there"] {
            let back = world.connect(.device, client: name, cleanSession: false).takeDeliveries()
            #expect(back.map(\.payload) == ["1", "3"] && back.allSatisfy(\.isDuplicate), "\(name)")
        }
    }

    @Test func `is told at PUBREC where QoS is upgraded, and expires only before that`() {
        var limits = Limits.withoutDamping
        limits.upgradesQoS = true
        let world = FleetWorld(limits: limits)
        let device = world.listener(cleanSession: false, qos: .exactlyOnce)
        for number in 1...2 as ClosedRange<UInt64> {
            #expect(world.broker.command("\(number)", number: number, to: "DEV1") == 1)
        }
        #expect(device.takeDeliveries().map(\.qos) == [.exactlyOnce, .exactlyOnce])
        device.acknowledge(1)
        #expect(world.delivered == [])
        device.acknowledge(.publishReceived, 1)
        #expect(world.delivered == [1] && device.take() == [.acknowledgement(.publishRelease, 1)])
        device.drop()
        world.broker.advance(30_000)
        let back = world.connect(.device, cleanSession: false)
        #expect(back.take().dropFirst() == [.acknowledgement(.publishRelease, 1)])
        back.acknowledge(.publishComplete, 1)
        #expect(world.broker.commandsUnderWay == 0 && world.delivered == [1])
    }

    @Test func `given twice by one number is sent once, unless it has been acknowledged`() {
        let device = world.listener()
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 1)
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 1)
        #expect(device.takeDeliveries() == [command("LED_ON")])
        let late = world.listener(client: "late", home: 1)
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 2)
        #expect(device.packets.isEmpty && late.takeDeliveries() == [command("LED_ON")])
        device.acknowledge(1)
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 2)
        #expect(device.takeDeliveries() == [command("LED_ON", id: 2)] && late.packets.isEmpty)
    }

    // MARK: Its time

    @Test(arguments: [0, 29_999, 30_000, 30_001, 86_400_000] as [Int64], [true, false])
    func `is sent again at a reconnect before its time is over, and not after`(_ later: Int64, _ isTakenOver: Bool) {
        let (device, owner) = (world.listener(cleanSession: false), world.connect(.owner))
        owner.publish("devices/DEV1/command", "before", .atLeastOnce)
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 1)
        owner.publish("devices/DEV1/command", "behind", .atLeastOnce)
        #expect(device.takePayloads() == ["before", "LED_ON", "behind"])
        if !isTakenOver { device.drop() }
        broker.advance(later)
        let back = world.connect(.device, cleanSession: false)
        #expect(device.isClosed)
        let isLate = later >= 30_000
        let sent = back.takeDeliveries()
        #expect(sent.map(\.payload) == (isLate ? ["before", "behind"] : ["before", "LED_ON", "behind"]))
        #expect(sent.allSatisfy { $0.isDuplicate })
        #expect(broker.commandsUnderWay == (isLate ? 0 : 1))
        // It was in the device's hands before; of one that has expired nobody hears any more.
        back.acknowledge(2)
        #expect(world.delivered == (isLate ? [] : [7]))
        back.acknowledge(1, 3)
        #expect(broker.counters.heldMessages == 0)
        owner.publish("devices/DEV1/command", "next", .atLeastOnce)
        #expect(back.takeDeliveries() == [command("next", id: 4)])
    }

    @Test func `that is acknowledged late, while its connection lasts, is delivered all the same`() {
        let device = world.listener()
        #expect(broker.command("LED_ON", number: 7, to: "DEV1", within: 1_000) == 1)
        broker.advance(60_000)
        #expect(device.takeDeliveries() == [command("LED_ON")], "once")
        device.acknowledge(1)
        #expect(world.delivered == [7])
    }

    @Test func `goes with a session that ends, and nothing of the next is taken for it`() {
        let device = world.listener()
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 1)
        device.drop()
        let next = world.listener()
        #expect(next.packets.isEmpty)
        world.connect(.owner).publish("devices/DEV1/command", "message", .atLeastOnce)
        #expect(next.takeDeliveries() == [command("message")])
        next.acknowledge(1)
        #expect(world.delivered == [])
    }

    @Test func `is forgotten after its session, once there are many`() {
        var limits = Limits.withoutDamping
        limits.inFlightMessages = 2 * Limits.commandsBeforeSweep
        let world = FleetWorld(limits: limits)
        let gone = world.listener(client: "gone")
        let kept = world.listener(client: "kept")
        for number in 1...UInt64(Limits.commandsBeforeSweep / 2) {
            #expect(world.broker.command("x", number: number, to: "DEV1") == 2)
        }
        #expect(world.broker.commandsUnderWay == Limits.commandsBeforeSweep)
        gone.drop()
        #expect(world.broker.command("x", number: 10_000, to: "DEV1") == 1)
        #expect(world.broker.commandsUnderWay == Limits.commandsBeforeSweep / 2 + 1)
        kept.acknowledge(kept.takeDeliveries().last?.packetIdentifier ?? 0)
        #expect(world.delivered == [10_000])
    }

    // MARK: The disk

    @Test(arguments: [0, 1]) func `is never on the disk, though all else of its session is`(_ home: Int) {
        let world = FleetWorld(disk: SimulatedDisk())
        let broker = world.broker
        let device = world.listener(client: "device", cleanSession: false, home: home)
        let backend = world.listener(.service, client: "backend", cleanSession: false, home: 1)
        world.connect(.owner).publish("devices/DEV1/command", "message", .atLeastOnce)
        broker.commitAll()
        #expect(broker.command("LED_ON", number: 7, to: "DEV1") == 1)
        broker.commitAll()
        #expect(device.takePayloads() == ["message", "LED_ON"])
        #expect(broker.queue(of: "device") == ["message"])
        #expect(broker.queue(of: "backend") == backend.takePayloads(), "others have a message like any other")
        #expect(broker.disk.problem == nil)

        let next = FleetWorld(disk: broker.crash(), now: broker.now + 5)
        let back = next.connect(.device, client: "device", cleanSession: false)
        back.acknowledgesAtOnce = true
        #expect(back.takePayloads() == ["message"])
        #expect(next.delivered == [])
    }

    @Test func `is acknowledged without the disk`() {
        let world = FleetWorld(disk: SimulatedDisk())
        let device = world.listener(cleanSession: false)
        let before = world.broker.disk.rowsWritten
        #expect(world.broker.command("LED_ON", number: 7, to: "DEV1") == 1)
        #expect(device.takeDeliveries() == [command("LED_ON")])
        device.acknowledge(1)
        #expect(world.delivered == [7])
        world.broker.commitAll()
        #expect(world.broker.disk.rowsWritten == before)
    }

    // MARK: All of it

    /// One of the device's sessions as it should be.
    private struct Model {
        struct Item {
            let payload: String
            /// Nil: a message like any other.
            var number: UInt64?
            var expires = Instant(milliseconds: 0)
            var packetIdentifier: PacketIdentifier = 0
        }

        var connection: TestConnection?
        var inFlight: [Item] = []
        var waiting: [Item] = []

        /// What is sent at a reconnect, after what has expired meanwhile is forgotten: first what was sent before.
        mutating func reconnect(_ now: Instant) -> [(payload: String, isDuplicate: Bool)] {
            inFlight.removeAll { $0.number != nil && $0.expires <= now }
            defer { (inFlight, waiting) = (inFlight + waiting, []) }
            return inFlight.map { ($0.payload, true) } + waiting.map { ($0.payload, false) }
        }
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `is sent and told as it should be, whatever its device and the network do`(_ seed: UInt64) throws {
        var limits = Limits.withoutDamping
        limits.inFlightMessages = 0
        let world = FleetWorld(limits: limits)
        let (broker, owner) = (world.broker, world.connect(.owner))
        var random = SeededGenerator(seed: seed)
        var models = Array(repeating: Model(), count: 3)
        var latest: UInt64 = 0
        var (delivered, expired, repeated): ([UInt64], Int, Int) = ([], 0, 0)
        for index in models.indices {
            world.listener(client: "\(index)", cleanSession: false, home: index % 2).drop()
        }
        for step in 1...1_000 {
            let here = Comment(rawValue: "seed \(seed), step \(step)")
            let chosen = random.below(models.count)
            var expected = models.map { _ in [(payload: String, isDuplicate: Bool)]() }
            switch random.below(10) {
            case 0...2:
                // Now and then one that was given before, as to a device that has come back without an answer.
                let isNew = latest == 0 || random.below(3) > 0
                let number = isNew ? latest + 1 : UInt64(1 + random.below(Int(latest)))
                latest = max(latest, number)
                let item = Model.Item(
                    payload: "command \(number)", number: number, expires: broker.now + Int64(random.below(20_000)))
                for index in models.indices where models[index].connection != nil {
                    guard !models[index].inFlight.contains(where: { $0.number == number }) else { continue }
                    models[index].inFlight.append(item)
                    expected[index] = [(item.payload, false)]
                }
                let sent = broker.command(
                    item.payload, number: number, to: "DEV1",
                    within: item.expires.milliseconds - broker.now.milliseconds)
                try #require(sent == models.count { $0.connection != nil }, here)
            case 3:
                let item = Model.Item(payload: "message \(step)")
                owner.publish("devices/DEV1/command", item.payload, .atLeastOnce)
                for index in models.indices {
                    guard models[index].connection != nil else {
                        models[index].waiting.append(item)
                        continue
                    }
                    models[index].inFlight.append(item)
                    expected[index] = [(item.payload, false)]
                }
            case 4...5:
                guard let connection = models[chosen].connection, !models[chosen].inFlight.isEmpty else { continue }
                let item = models[chosen].inFlight.remove(at: random.below(models[chosen].inFlight.count))
                connection.acknowledge(item.packetIdentifier)
                if let number = item.number { delivered.append(number) }
            case 6: broker.advance(Int64(random.below(8_000)))
            case 7:
                models[chosen].connection?.drop()
                models[chosen].connection = nil
            default:
                let before = models[chosen].inFlight.count
                expected[chosen] = models[chosen].reconnect(broker.now)
                repeated += expected[chosen].count { $0.isDuplicate && $0.payload.hasPrefix("command") }
                expired += before - expected[chosen].count { $0.isDuplicate }
                models[chosen].connection = world.connect(
                    .device, client: "\(chosen)", cleanSession: false, home: random.below(2))
            }
            for index in models.indices {
                let sent = models[index].connection?.takeDeliveries() ?? []
                try #require(sent.map(\.payload) == expected[index].map(\.payload), here)
                try #require(sent.map(\.isDuplicate) == expected[index].map(\.isDuplicate), here)
                for delivery in sent {
                    let place = models[index].inFlight.lastIndex { $0.payload == delivery.payload }
                    if let place { models[index].inFlight[place].packetIdentifier = delivery.packetIdentifier }
                }
            }
            try #require(world.delivered == delivered, here)
        }
        #expect(delivered.count > 10 && expired > 100 && repeated > 100, "seed \(seed) does too little")
        for model in models { model.connection?.drop() }
    }
}
