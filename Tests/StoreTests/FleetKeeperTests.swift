import Access
import Fleet
import JSON
import Locks
import Management
import Store
import Testing

/// A broker whose devices take what they are sent, if anybody is there.
private final class FakeBroker: DeviceBroker {
    struct Sent: Equatable {
        let device: String
        let text: String
        let number: UInt64
    }

    let sent = Lock<[Sent]>([])
    let connections = Lock(1)
    let listensAtQoS0 = Lock(false)
    let withdrawn = Lock<Set<UInt64>>([])
    let published = Lock<[String: String]>([:])

    func send(
        _ payload: [UInt8], on topic: DeviceBox, number: UInt64, to device: String, within milliseconds: Int64,
        andOthers: Bool
    ) async -> (sent: Int, awaited: Int) {
        let count = connections.withLock { $0 }
        guard count > 0 else { return (0, 0) }
        sent.withLock {
            $0.append(Sent(device: device, text: String(decoding: payload, as: UTF8.self), number: number))
        }
        return (count, listensAtQoS0.withLock { $0 } ? 0 : count)
    }

    func withdraw(_ numbers: Set<UInt64>) { withdrawn.withLock { $0.formUnion(numbers) } }
    func answer(_ response: [UInt8], to person: String) async {}
    func devicesHeard(since milliseconds: Int64) async -> [(device: String, link: Link)] { [] }

    func publishOwn(_ messages: [(topic: String, payload: [UInt8], isRetained: Bool)]) async {
        published.withLock { published in
            for message in messages { published[message.topic] = String(decoding: message.payload, as: UTF8.self) }
        }
    }

    var texts: [String] { sent.withLock { $0.map(\.text) } }
}

@Suite struct `The keeper of the fleet` {
    private let place = TemporaryDirectory()
    private let broker = FakeBroker()
    private let local = Requester.local("test")
    private let link = Link(shard: 0, number: 1)
    private let time: Lock<Moment>
    private let feed: FleetFeed
    private let management: Management
    private let store: FleetStore
    private let keeper: FleetKeeper

    private static let day: Int64 = 86_400_000

    init() async throws {
        // At midnight.
        let time = Lock(Moment(monotonic: 1_000, wall: 20_000 * Self.day))
        self.time = time
        feed = FleetFeed { time.withLock { $0 } }
        let directory = try place.open()
        store = try directory.store()
        management = try Management(
            store, in: directory, milliseconds: { time.withLock { $0.wall } }, isServing: true,
            now: { time.withLock { $0 } })
        keeper = try FleetKeeper(
            management, feed: feed, broker: broker, now: { time.withLock { $0 } }, report: { Issue.record("\($0)") })
        try await register("A")
    }

    private func register(_ device: String, owner: String? = nil) async throws {
        _ = try await management.perform(
            .registerDevice(
                try DeviceId(device), name: "", model: nil, macAddress: nil, owner: try owner.map { try Email($0) },
                tags: [], claimCode: nil), for: local)
    }

    private func pass(_ milliseconds: Int64) {
        time.withLock { $0 = Moment(monotonic: $0.monotonic + milliseconds, wall: $0.wall + milliseconds) }
    }

    private func send(_ text: String, queue: Int64?, _ requester: Requester? = nil) async throws -> JSONValue? {
        try await management.perform(
            .sendCommand(try DeviceId("A"), payload: .string(text), queueSeconds: queue), for: requester ?? local)
    }

    private func kinds() throws -> [String] {
        try store.activity(.init(device: "A"), page: 1, limit: 500).elements.reversed().map(\.kind.rawValue)
    }

    @Test func `sends what waited once the device is there, and again if it came back without an answer`() async throws
    {
        #expect(try await send("one", queue: 60)?["state"] == "QUEUED")
        await keeper.tick()
        #expect(broker.texts.isEmpty)
        broker.connections.withLock { $0 = 0 }
        feed.append(.connected("A", link, address: nil, host: nil))
        await keeper.tick()
        #expect(broker.texts.isEmpty, "it listens to nothing yet")
        broker.connections.withLock { $0 = 1 }
        await keeper.tick()
        await keeper.tick()
        #expect(broker.texts == [#""one""#])
        feed.append(.ended("A", link, .connectionLost))
        feed.append(.connected("A", link, address: nil, host: nil))
        await keeper.tick()
        #expect(broker.texts.count == 2)
        let number = try #require(broker.sent.withLock { $0.last?.number })
        feed.append(.delivered("A", command: number))
        await keeper.tick()
        feed.append(.connected("A", Link(shard: 0, number: 2), address: nil, host: nil))
        await keeper.tick()
        pass(60_001)
        await keeper.tick()
        let kinds = try kinds()
        #expect(broker.texts.count == 2 && kinds.contains("COMMAND_DELIVERED") && !kinds.contains("COMMAND_EXPIRED"))
        #expect(try store.commands().isEmpty)
    }

    @Test func `sends once what nobody will acknowledge, and says so`() async throws {
        broker.listensAtQoS0.withLock { $0 = true }
        _ = try await send("waits", queue: 600)
        feed.append(.connected("A", link, address: nil, host: nil))
        await keeper.tick()
        _ = try await send("now", queue: nil)
        _ = try await send("now or later", queue: 600)
        feed.append(.connected("A", Link(shard: 0, number: 2), address: nil, host: nil))
        await keeper.tick()
        pass(600_001)
        await keeper.tick()
        #expect(broker.texts == [#""waits""#, #""now""#, #""now or later""#])
        let ends = try kinds().filter { $0.hasPrefix("COMMAND_") && $0 != "COMMAND_SENT" }
        #expect(ends == Array(repeating: "COMMAND_UNCONFIRMED", count: 3))
        #expect(try store.commands().isEmpty)
    }

    @Test func `sends nothing that is over, for another device of the name, or from who may no more`() async throws {
        _ = try await send("late", queue: 10)
        pass(10_000)
        await keeper.tick()
        #expect(try kinds().last == "COMMAND_EXPIRED")

        _ = try await send("for the old one", queue: 600)
        _ = try await management.perform(.deleteDevice(try DeviceId("A")), for: local)
        _ = try await management.perform(
            .registerUser(try Email("ann@example.org"), name: "", password: "secret", role: .user), for: local)
        try await register("A", owner: "ann@example.org")
        let accounts = await management.accounts
        let person = try #require(accounts.people["ann@example.org"])
        let ann = Requester(person, with: nil, from: "192.0.2.1")
        _ = try await send("of ann", queue: 600, ann)
        _ = try await management.perform(.blockUser(try Email("ann@example.org"), isBlocked: true), for: local)
        _ = try await send("of the machine", queue: 600)
        feed.append(.connected("A", link, address: nil, host: nil))
        await keeper.tick()
        #expect(broker.texts == [#""of the machine""#])
    }

    @Test func `keeps commands over a restart, and tells states`() async throws {
        _ = try await send("one", queue: 600)
        let again = try FleetKeeper(
            management, feed: feed, broker: broker, now: { [time] in time.withLock { $0 } },
            report: { Issue.record("\($0)") })
        feed.append(.connected("A", link, address: "192.0.2.7", host: nil))
        await again.tick()
        #expect(broker.texts == [#""one""#])
        #expect(broker.published.withLock { $0["$SYS/devices/A"] }?.contains(#""online":true"#) == true)
        _ = try await management.perform(.deleteDevice(try DeviceId("A")), for: local)
        await again.tick()
        #expect(broker.published.withLock { $0["$SYS/devices/A"] } == "", "cleared")
    }

    @Test(arguments: [0, -1, 1] as [Int64])
    func `lets a command wait no longer than it was given for, wherever the clock is after a restart`(_ days: Int64)
        async throws
    {
        _ = try await send("late", queue: 10)
        time.withLock { $0 = Moment(monotonic: 50, wall: $0.wall + days * Self.day) }
        let again = try FleetKeeper(
            management, feed: feed, broker: broker, now: { [time] in time.withLock { $0 } },
            report: { Issue.record("\($0)") })
        // Whether a day has passed or the clock was set on, nobody can tell.
        if days == 1 { await again.tick() }
        #expect(try kinds().last == (days == 1 ? "COMMAND_EXPIRED" : "COMMAND_SENT"))
        pass(9_999)
        await again.tick()
        #expect(try kinds().last == (days == 1 ? "COMMAND_EXPIRED" : "COMMAND_SENT"))
        pass(1)
        await again.tick()
        #expect(try kinds().last == "COMMAND_EXPIRED")
        #expect(try store.commands().isEmpty)
    }

    @Test func `makes hours of old minutes, and lets go of what is older than it shall be`() async throws {
        let now = time.withLock { $0.wall }
        var rows: [HealthRow] = []
        // A report a minute for 40 days, in rows of a quarter of an hour.
        for start in stride(from: now - 40 * Self.day, to: now, by: Int(HealthRow.fineSpan)) {
            let points = (0..<15 as Range<Int64>).map { minute in
                var point = HealthPoint(time: start + minute * 60_000)
                point.add(.object(["heap": .integer(minute)]))
                return point
            }
            rows.append(HealthRow(deviceId: "A", start: start, step: HealthRow.fineStep, points: points))
        }
        try store.save([], rows, [], [])
        while try await management.condenseHealth() {}
        let kept = try store.health(of: "A", from: 0, to: now)
        let fine = kept.filter { $0.step == HealthRow.fineStep }
        #expect(fine.count == 2 * 96 && fine.allSatisfy { $0.start >= now - 2 * Self.day })
        let coarse = kept.filter { $0.step == HealthRow.coarseStep }
        #expect(coarse.count == 38 && coarse.allSatisfy { $0.points.count == 24 })
        #expect(kept.flatMap(\.points).reduce(0) { $0 + $1.count } == 40 * 1440, "no report is lost")
        #expect(coarse[0].points[0].values["heap"] == .numbers(least: 0, sum: 420, most: 14, count: 60))

        while try await management.deleteOldRecords() {}
        let left = try store.health(of: "A", from: 0, to: now)
        #expect(try #require(left.first).start >= now - 31 * Self.day - HealthRow.longest && left.count < kept.count)

        let answer = try await management.perform(
            .getDeviceHealth(try DeviceId("A"), from: now - 30 * Self.day, to: now), for: local)
        let count = try #require(answer?["health"]?.array).count
        #expect(count > 500 && count <= 1_000 && answer?["step"] == 900)
        let day = try await management.perform(
            .getDeviceHealth(try DeviceId("A"), from: now - Self.day / 2, to: now), for: local)
        #expect(day?["health"]?.array?.count == 720 && day?["step"] == 60)
    }
}
