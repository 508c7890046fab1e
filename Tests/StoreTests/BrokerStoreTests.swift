import Access
import Foundation
import Glibc
import Locks
import MQTT
import Seeded
import Store
import Testing

@testable import Broker
@testable import Durability

@Suite struct `The broker's store` {
    private let place = TemporaryDirectory()
    private let unsaved = Lock<[RetainedMessage]>([])
    private let events = Lock<[BrokerStore.Event]>([])

    private func store(in directory: DataDirectory) throws -> BrokerStore {
        let (unsaved, events) = (unsaved, events)
        return try BrokerStore(
            in: directory,
            takeRetained: {
                unsaved.withLock { unsaved in
                    defer { unsaved = [] }
                    return unsaved
                }
            }, clock: { Clock(time: 1_800_000_000_000, instant: Instant(milliseconds: 5_000)) },
            tell: { event in events.withLock { $0.append(event) } })
    }

    private func message(
        _ topic: String, _ payload: [UInt8], _ qos: QoS = .atMostOnce, by publisher: Participant? = nil
    )
        -> RetainedMessage
    {
        RetainedMessage(
            message: ApplicationMessage(topic: topic, payload: payload), qos: qos, publisher: publisher)
    }

    /// Returns when they are on the disk.
    private func commit(_ messages: [RetainedMessage], to store: BrokerStore) async {
        unsaved.withLock { $0 += messages }
        #expect(await store.commit([]))
    }

    private func load(listeners: Int = 2) async throws -> [RetainedMessage] {
        let directory = try place.open()
        let store = try store(in: directory)
        let messages = try await store.load(listeners: listeners).retained
        try await store.close()
        directory.release()
        return messages
    }

    private func isSame(_ one: [RetainedMessage], _ other: [RetainedMessage]) -> Bool {
        one.count == other.count
            && zip(one, other).allSatisfy {
                $0.message.bytes == $1.message.bytes && $0.qos == $1.qos
                    && $0.publisher?.principal == $1.publisher?.principal
                    && $0.publisher?.client == $1.publisher?.client
            }
    }

    @Test func `has again what it was given, byte for byte, and who it was from`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        #expect(try await store.load(listeners: 1).retained.isEmpty)
        let identities: [Identity] = [
            .anonymous, .user([0xC3, 0xA4]), .device("A-1"), .person("0190"), .service("backend"),
        ]
        var messages = identities.enumerated().map { index, identity in
            let principal = Principal(
                identity: identity, userName: index % 2 == 0 ? nil : [UInt8(index)], listener: index % 2)
            let publisher = Participant(principal, client: ClientIdentifier([UInt8](repeating: 0x61, count: index)))
            return message("t/\(index)", [UInt8](0...255), QoS(rawValue: UInt8(index % 3))!, by: publisher)
        }
        messages.append(message("é/😀", [0], by: nil))
        messages.append(message("long", [UInt8](repeating: 7, count: 3_000_000)))
        await commit(messages, to: store)
        try await store.close()
        directory.release()
        #expect(isSame(try await load(), messages))
    }

    @Test func `has the last of each topic, and nothing that was cleared`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        await commit([message("a", [1]), message("b", [1]), message("c", [1])], to: store)
        await commit([message("a", [2]), message("b", []), message("nothing", [])], to: store)
        try await store.close()
        directory.release()
        #expect(isSame(try await load(), [message("c", [1]), message("a", [2])]))
    }

    @Test func `writes what is left when it is closed, and then lies whole in its one file`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        unsaved.withLock { $0 = [message("a", [1])] }
        try await store.close()
        directory.release()
        #expect(place.names.filter { $0.hasPrefix("broker.db") } == ["broker.db"])
        #expect(place.mode("broker.db") == 0o600)
        #expect(isSame(try await load(), [message("a", [1])]))
    }

    @Test func `counts who came through a listener that is no more as the first one's`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        let principal = Principal(identity: .anonymous, userName: nil, listener: 5)
        await commit([message("a", [1], by: Participant(principal, client: ClientIdentifier("c")))], to: store)
        try await store.close()
        directory.release()
        #expect(try await load().first?.publisher?.principal.listener == 0)
    }

    /// The log is copied while it is written, as a process that is killed leaves it; a copy of the pages written last may
    /// be torn.
    @Test func `has all that was committed, wherever the log is cut off after it`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        var sizes: [Int] = []
        for number in 0..<40 {
            await commit([message("t/\(number)", [UInt8](repeating: UInt8(number), count: 500))], to: store)
            sizes.append(try Data(contentsOf: URL(fileURLWithPath: "\(place.path)/broker.db-wal")).count)
        }
        let (file, log) = (
            try Data(contentsOf: URL(fileURLWithPath: "\(place.path)/broker.db")),
            try Data(contentsOf: URL(fileURLWithPath: "\(place.path)/broker.db-wal"))
        )
        try await store.close()
        directory.release()
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<60 {
            let end = generator.below(log.count + 1)
            for leftover in ["-shm", "-wal", ""] { unlink("\(place.path)/broker.db\(leftover)") }
            try file.write(to: URL(fileURLWithPath: "\(place.path)/broker.db"))
            var torn = log[..<end]
            // The last page may hold anything.
            for index in max(0, end - generator.below(600))..<end {
                torn[index] = UInt8(generator.below(256))
            }
            try torn.write(to: URL(fileURLWithPath: "\(place.path)/broker.db-wal"))
            chmod("\(place.path)/broker.db", 0o600)
            let committed = sizes.prefix { $0 <= end - 600 }.count
            let found = try await load()
            #expect(found.count >= committed && found.count <= 40, "cut at \(end): \(found.count) of \(committed)")
            for (number, one) in found.enumerated() {
                #expect(one.message.bytes.suffix(500) == [UInt8](repeating: UInt8(number), count: 500)[...])
            }
        }
    }

    @Test func `sets aside what is no store, and begins anew`() async throws {
        let garbage = String(repeating: "no database, but longer than a header ", count: 200)
        for (index, text) in ["", "short", garbage].enumerated() {
            let directory = try place.open()
            try place.write(text, to: "broker.db")
            chmod("\(place.path)/broker.db", 0o600)
            let store = try store(in: directory)
            #expect(try await store.load(listeners: 1).retained.isEmpty)
            let aside = "broker.db.damaged-\(index + 1)"
            #expect(events.withLock { $0.last } == .wasDamaged(file: aside, kept: Salvage()))
            #expect(try String(contentsOfFile: "\(place.path)/\(aside)", encoding: .utf8) == text)
            await commit([message("a", [1])], to: store)
            try await store.close()
            directory.release()
            #expect(isSame(try await load(), [message("a", [1])]))
            unlink("\(place.path)/broker.db")
        }
    }

    @Test func `refuses another program's database, and one of a later version`() async throws {
        let changes = [
            "PRAGMA application_id = 7; DROP TABLE retained",
            "PRAGMA user_version = \(BrokerStore.newestVersion + 1); CREATE TABLE later (x)",
        ]
        for change in changes {
            let directory = try place.open()
            try await store(in: directory).close()
            do {
                let database = try Database("\(place.path)/broker.db")
                try database.execute(change)
            }
            #expect(throws: BrokerStoreError.self) { try store(in: directory) }
            directory.release()
            #expect(place.names.filter { $0.contains("damaged") } == [])
            unlink("\(place.path)/broker.db")
        }
    }

    @Test func `is damaged where only its mark is another one`() async throws {
        for (index, change) in [
            "PRAGMA application_id = 7", "PRAGMA user_version = 77", "PRAGMA user_version = 1",
            "PRAGMA user_version = \(BrokerStore.newestVersion - 1)",
        ].enumerated() {
            let directory = try place.open()
            let first = try store(in: directory)
            await commit([message("a", [1])], to: first)
            try await first.close()
            do {
                let database = try Database("\(place.path)/broker.db")
                try database.execute(change)
            }
            let second = try store(in: directory)
            #expect(isSame(try await second.load(listeners: 1).retained, [message("a", [1])]))
            let file = "broker.db.damaged-\(index + 1)"
            #expect(events.withLock { $0.last } == .wasDamaged(file: file, kept: Salvage(retained: 1)))
            try await second.close()
            directory.release()
        }
    }

    /// A shard may make a session of a client in a round before the one in which another shard ends its earlier one.
    @Test func `takes another session of a client for the one that it has`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        _ = try await store.load(listeners: 1)
        for session in [1, 2] as [StoredSession] {
            var ledger = Ledger(DurabilityRules(.acknowledged), shard: 0, of: 1, sessions: session, shared: 1)
            var place = ChangePlace.none
            let row = Changes.SessionRow(
                session: session, client: ClientIdentifier("c"), participant: nil, absentSince: nil)
            ledger.keep(row, at: &place)
            ledger.close()
            #expect(await store.commit([try #require(ledger.takeClosed())]))
        }
        #expect(await store.commit([Changes(removing: 1)]))
        try await store.close()
        let third = try self.store(in: directory)
        #expect(try await third.load(listeners: 1).sessions.map(\.session) == [2])
        try await third.close()
        directory.release()
    }

    /// Bytes turn, pages are lost: whatever comes back is right, and there is a store to go on with.
    @Test func `keeps what can be read where the disk has lost some of it`() async throws {
        let payloads = (0..<400).map { number in [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 300) }
        do {
            let directory = try place.open()
            let store = try store(in: directory)
            await commit(payloads.enumerated().map { message("fleet/\($0)/state", $1) }, to: store)
            try await store.close()
            directory.release()
        }
        let file = URL(fileURLWithPath: "\(place.path)/broker.db")
        let whole = try Data(contentsOf: file)
        var generator = SeededGenerator(seed: 3)
        var (losses, most) = (0, 0)
        for round in 0..<40 {
            var damaged = whole
            let page = 1 + generator.below(whole.count / 4096 - 1)
            switch round % 3 {
            case 0: for index in 0..<4096 { damaged[page * 4096 + index] = 0 }
            case 1: for _ in 0..<50 { damaged[page * 4096 + generator.below(4096)] = UInt8(generator.below(256)) }
            default: damaged = damaged[..<(page * 4096 + generator.below(4096))]
            }
            try damaged.write(to: file)
            chmod(file.path, 0o600)
            let directory = try place.open()
            let store = try store(in: directory)
            let found = try await store.load(listeners: 1).retained
            for one in found {
                let topic = String(decoding: one.message.bytes[one.message.topicRange], as: UTF8.self)
                guard let number = Int(topic.split(separator: "/").dropFirst().first ?? "") else { continue }
                if round % 3 != 1 { #expect(one.message.bytes.suffix(300) == payloads[number][...], "\(topic)") }
            }
            if found.count < 400 { losses += 1 }
            most = max(most, found.count)
            await commit([message("after", [1])], to: store)
            try await store.close()
            directory.release()
            #expect(try await load().contains { $0.message.bytes.suffix(6) == Array("after\u{1}".utf8)[...] })
        }
        #expect(losses > 10 && most >= 380)
    }

    @Test func `changes nothing where what can be read can't be written`() async throws {
        do {
            let directory = try place.open()
            let store = try store(in: directory)
            await commit((0..<200).map { message("t/\($0)", [UInt8](repeating: 1, count: 300)) }, to: store)
            try await store.close()
            directory.release()
        }
        let file = URL(fileURLWithPath: "\(place.path)/broker.db")
        var bytes = try Data(contentsOf: file)
        for index in 0..<4096 { bytes[bytes.count / 8192 * 4096 + index] = 0xFF }
        try bytes.write(to: file)
        chmod(file.path, 0o600)
        mkdir("\(place.path)/broker.db.new", 0o700)  // Where the new file would be made.
        let directory = try place.open()
        let store = try store(in: directory)
        await #expect(throws: DataDirectoryError.self) { try await store.load(listeners: 1) }
        #expect(try Data(contentsOf: file) == bytes && events.withLock { $0.isEmpty })
        rmdir("\(place.path)/broker.db.new")
        let kept = try await store.load(listeners: 1).retained
        #expect(kept.count > 50 && kept.count < 200)
        #expect(
            events.withLock { $0 } == [
                .wasDamaged(file: "broker.db.damaged-1", kept: Salvage(retained: kept.count))
            ])
        await self.commit([message("after", [1])], to: store)
        try await store.close()
        directory.release()
        #expect(isSame(try await load(), kept + [message("after", [1])]))
    }

    @Test(.enabled(if: geteuid() == 0)) func `keeps what the disk does not take, and writes it when there is room`()
        async throws
    {
        mkdir(place.path, 0o700)
        // Not every container lets root do this.
        guard mount("none", place.path, "tmpfs", 0, "size=1m,mode=0700") == 0 else { return }
        defer { umount2(place.path, Int32(MNT_DETACH)) }
        let directory = try place.open()
        let store = try store(in: directory)
        await commit([message("before", [1])], to: store)
        let filler = open("\(place.path)/filler", O_WRONLY | O_CREAT, 0o600)
        let zeroes = [UInt8](repeating: 0, count: 4096)
        while write(filler, zeroes, zeroes.count) > 0 {}
        close(filler)

        let isDone = Lock(false)
        unsaved.withLock { $0 = [message("late", [UInt8](repeating: 1, count: 100_000))] }
        let commit = Task {
            _ = await store.commit([])
            isDone.withLock { $0 = true }
        }
        while events.withLock({ $0.isEmpty }) { await Task.yield() }
        guard case .fails(let reason) = events.withLock({ $0[0] }) else { throw BrokerStoreError(0, "", "no failure") }
        #expect(reason.contains("full"), "\(reason)")
        #expect(!isDone.withLock { $0 })
        unsaved.withLock { $0 = [message("late", [2]), message("later", [3])] }
        unlink("\(place.path)/filler")
        await commit.value
        #expect(isDone.withLock { $0 })
        #expect(events.withLock { $0.count } == 2 && events.withLock { $0.last } == .writes)
        try await store.close()
        directory.release()
        #expect(isSame(try await load(), [message("before", [1]), message("late", [2]), message("later", [3])]))
    }

    @Test func `may lie where others write, with a warning, for there are no secrets in it`() async throws {
        mkdir(place.path, 0o777)
        chmod(place.path, 0o777)
        #expect(throws: DataDirectoryError.self) { try DataDirectory(place.path) }
        let directory = try DataDirectory(place.path, holdsSecrets: false)
        #expect(directory.warnings.count == 1 && directory.warnings[0].contains("written to by other users"))
        try await store(in: directory).close()
    }

    @Test func `loads a hundred thousand`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        let messages = (0..<100_000).map { message("fleet/device-\($0)/state", [UInt8](repeating: 1, count: 100)) }
        await commit(messages, to: store)
        let clock = ContinuousClock()
        var count = 0
        let time = try await clock.measure { count = try await store.load(listeners: 1).retained.count }
        print("100,000 retained messages loaded: \(time)")
        #expect(count == 100_000)
        try await store.close()
    }
}
