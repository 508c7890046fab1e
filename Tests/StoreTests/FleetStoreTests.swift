import Access
import Foundation
import GRDB
import Glibc
import Store
import Testing

@Suite struct `The fleet's database` {
    let place = TemporaryDirectory()

    private func secret(_ byte: UInt8) -> SecretDigest { SecretDigest(bytes: [UInt8](repeating: byte, count: 48)) }

    private func activity(_ kind: Activity.Kind, device: String? = nil) -> Activity {
        Activity(time: 5, actor: "local:test", device: device, kind: kind)
    }

    private func add(_ deviceId: String, owner: String? = nil, to store: FleetStore) throws {
        let device = DeviceRecord(id: "id-\(deviceId)", deviceId: deviceId, name: "", registered: 1)
        try store.add(device, owner: owner, secret: secret(1), activity(.deviceRegistered, device: deviceId))
    }

    @Test func `is written with synchronous FULL`() throws {
        let store = try place.open().store()
        #expect(try store.synchronousLevel() == 2)
        try add("A", to: store)
        #expect(try store.synchronousLevel() == 2)
        try store.close()
    }

    @Test func `gives back what was put in`() throws {
        let directory = try place.open()
        let store = try directory.store()
        var ann = UserRecord(id: "u1", email: "ann@x", name: "Ann", passwordHash: "$h", role: .admin, created: 3)
        ann.mustChangePassword = true
        try store.add(ann, activity(.userRegistered))
        for deviceId in ["B", "A"] { try add(deviceId, owner: "u1", to: store) }
        try store.add(
            ServiceRecord(name: "s", policy: "backend", created: 4), secret: secret(9), activity(.serviceAdded))
        try store.setBlocked(true, device: "B", activity(.deviceBlocked, device: "B"))
        try store.close()

        var expected = Accounts()
        expected.devices = [
            "A": .init(deviceId: "A", secret: secret(1)), "B": .init(deviceId: "B", secret: secret(1)),
        ]
        expected.devices["B"]?.isBlocked = true
        var person = Accounts.Person(id: "u1", email: "ann@x", passwordHash: "$h")
        (person.role, person.mustChangePassword, person.devices) = (.admin, true, ["A", "B"])
        expected.people = ["ann@x": person]
        expected.services = ["s": .init(name: "s", secret: secret(9))]
        let again = try directory.store()
        #expect(try again.accounts() == expected)
        #expect(try again.user("u1") == ann)
        #expect(try again.device("B")?.owner == "ann@x")
        #expect(
            try again.activity(.init(device: "B"), page: 1, limit: 10).elements.map(\.kind)
                == [.deviceBlocked, .deviceRegistered])
        #expect(try again.activity(.init(), page: 1, limit: 10).total == 5)
        try again.close()
    }

    @Test func `lies whole in its one file when it is closed`() throws {
        let store = try place.open().store()
        try add("A", to: store)
        try store.close()
        let copy = TemporaryDirectory()
        let directory = try copy.open()
        try FileManager.default.copyItem(atPath: "\(place.path)/fleet.db", toPath: "\(copy.path)/fleet.db")
        let other = try directory.store()
        #expect(try other.accounts().devices.count == 1)
        try other.close()
    }

    @Test func `revokes the certificates of a device that is deleted`() throws {
        let store = try place.open().store()
        try add("A", to: store)
        let issued = [("1A", "A"), ("2B", "B")].map { (serial: String, device: String) in
            CertificateRecord(
                serial: serial, deviceId: device, subject: "CN=\(device)", notBefore: 1, notAfter: 2, fingerprint: [1],
                issued: 1)
        }
        try store.note(issued: issued.map { ($0, activity(.certificateIssued)) }, revoked: [], reason: "")
        #expect(try store.delete(device: "A", activity(.deviceDeleted, device: "A")) == ["1A"])
        #expect(try store.accounts().revokedCertificates == ["1A"])
        #expect(try store.accounts().devices.isEmpty)
        let activities = try store.activity(.init(), page: 1, limit: 10).total
        for _ in 1...2 {
            try store.note(issued: [], revoked: [("2B", activity(.certificateRevoked))], reason: "keyCompromise")
        }
        #expect(try store.activity(.init(), page: 1, limit: 10).total == activities + 1, "revoked once")
        #expect(try store.accounts().revokedCertificates == ["1A", "2B"])
        try store.close()
    }

    @Test func `undoes what it can't do whole`() throws {
        let store = try place.open().store()
        try add("A", to: store)
        #expect(throws: (any Error).self) { try add("A", to: store) }
        #expect(throws: (any Error).self) { try add("B", owner: "nobody", to: store) }
        #expect(try store.accounts().devices.keys.sorted() == ["A"])
        #expect(try store.activity(.init(), page: 1, limit: 10).total == 1)
        try store.close()
    }

    @Test func `loads ten thousand devices`() throws {
        let directory = try place.open()
        try directory.store().close()
        let queue = try DatabaseQueue(path: "\(place.path)/fleet.db")
        try queue.write { database in
            for index in 0..<10_000 {
                try database.execute(
                    sql: "INSERT INTO device (id, device_id, name, registered) VALUES (?, ?, '', 1)",
                    arguments: ["i\(index)", "D\(index)"])
                try database.execute(
                    sql: "INSERT INTO credential VALUES (1, 'device', ?, zeroblob(48), 1)", arguments: ["i\(index)"])
            }
        }
        try queue.close()
        let store = try directory.store()
        let start = ContinuousClock.now
        #expect(try store.accounts().devices.count == 10_000)
        print("10,000 devices loaded in \(ContinuousClock.now - start)")
        try store.close()
    }
}

@Suite struct `A migration` {
    let place = TemporaryDirectory()
    private let next =
        Migration.all + [
            Migration(
                version: Migration.all.count + 1, name: "colours",
                sql: "ALTER TABLE device ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'")
        ]

    private func value(_ sql: String, in file: String = "fleet.db") throws -> Int? {
        let queue = try DatabaseQueue(path: "\(place.path)/\(file)")
        defer { try? queue.close() }
        return try queue.read { try Int.fetchOne($0, sql: sql) }
    }

    @Test func `has a version after the one before it`() {
        #expect(Migration.all.map(\.version) == Array(1...Migration.all.count))
    }

    @Test func `makes a copy first, and takes the data along`() throws {
        let directory = try place.open()
        let store = try directory.store()
        let device = DeviceRecord(id: "i", deviceId: "A", name: "", registered: 1)
        try store.add(
            device, owner: nil, secret: SecretDigest(bytes: [UInt8](repeating: 1, count: 48)),
            Activity(time: 1, actor: "a", kind: .deviceRegistered))
        try store.close()
        let migrated = try directory.store(next)
        #expect(try migrated.accounts().devices.count == 1)
        try migrated.close()
        let copy = "fleet.db.before-\(next.count)"
        #expect(place.mode(copy) == 0o600)
        #expect(try value("SELECT count(*) FROM device WHERE colour = 'grey'") == 1)
        #expect(try value("SELECT count(*) FROM device", in: copy) == 1)
        #expect(try value("PRAGMA user_version", in: copy) == Migration.all.count)
        #expect(try value("PRAGMA user_version") == next.count)
    }

    @Test func `that fails leaves everything as it was`() throws {
        let directory = try place.open()
        try directory.store().close()
        let broken = next + [Migration(version: next.count + 1, name: "broken", sql: "DROP TABLE nothing")]
        #expect(throws: (any Error).self) { try directory.store(broken) }
        #expect(try value("PRAGMA user_version") == Migration.all.count)
        try directory.store().close()
    }

    @Test func `keeps the latest copies only`() throws {
        let directory = try place.open()
        try directory.store().close()
        var steps = Migration.all
        for index in 0..<5 {
            steps.append(Migration(version: steps.count + 1, name: "\(index)", sql: "CREATE TABLE t\(index) (a)"))
            try directory.store(steps).close()
        }
        let copies = place.names.filter { $0.hasPrefix("fleet.db.before-") }
        #expect(copies.count == FleetStore.copies)
        #expect(copies.contains("fleet.db.before-\(steps.count)"))
    }

    @Test func `is never undone: newer data is refused, and left alone`() throws {
        let directory = try place.open()
        try FleetStore(in: directory, version: "2.5", now: 1, migrations: next).close()
        let before = FileManager.default.contents(atPath: "\(place.path)/fleet.db")
        #expect(throws: FleetStoreError.newer("\(place.path)/fleet.db", madeBy: "2.5", than: "9.9")) {
            try directory.store()
        }
        #expect(FileManager.default.contents(atPath: "\(place.path)/fleet.db") == before)
    }

    @Test(arguments: [
        ("", "the file is empty"), (String(repeating: "x", count: 4096), "it is no database"),
        (String(repeating: "\0", count: 8192), "it is no database"),
        ("SQLite format 3\0" + String(repeating: "\0", count: 4096), "it is another program's database"),
    ])
    func `does not begin on what is no database of ours`(_ content: String, _ reason: String) throws {
        let directory = try place.open()
        try place.write(content, to: "fleet.db")
        #expect(throws: FleetStoreError.damaged("\(place.path)/fleet.db", reason)) { try directory.store() }
        #expect(FileManager.default.contents(atPath: "\(place.path)/fleet.db") == Data(content.utf8))
    }

    @Test func `does not begin on a database that is damaged inside`() throws {
        let directory = try place.open()
        try directory.store().close()
        let path = "\(place.path)/fleet.db"
        var bytes = try #require(FileManager.default.contents(atPath: path))
        for index in 4096..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: index &* 31) }
        try bytes.write(to: URL(fileURLWithPath: path))
        #expect {
            try directory.store()
        } throws: { error in
            if case FleetStoreError.damaged = error { true } else { false }
        }
        #expect(FileManager.default.contents(atPath: path) == bytes)
    }
}

@Suite struct `The data of an earlier release` {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Releases").path
    static let releases = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
        .filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/fleet.sql") }.sorted()

    @Test func `has samples`() { #expect(Self.releases.contains("0.1.0")) }

    @Test(arguments: releases) func `is read`(_ release: String) throws {
        let place = TemporaryDirectory()
        let directory = try place.open()
        let sql = try String(contentsOfFile: "\(Self.folder)/\(release)/fleet.sql", encoding: .utf8)
        let queue = try DatabaseQueue(path: "\(place.path)/fleet.db")
        try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
        try queue.close()
        let store = try directory.store()
        let accounts = try store.accounts()
        #expect(accounts.devices.keys.sorted() == ["0C5D32DD2568", "PUMP_2"])
        #expect(accounts.devices["PUMP_2"]?.isBlocked == true)
        #expect(accounts.devices["0C5D32DD2568"]?.secret?.bytes.count == 48)
        #expect(accounts.people.keys.sorted() == ["ann@example.org", "bob@example.org"])
        #expect(accounts.people["ann@example.org"]?.role == .admin)
        #expect(accounts.people["bob@example.org"]?.isBlocked == true)
        #expect(accounts.people["bob@example.org"]?.devices == ["0C5D32DD2568"])
        #expect(accounts.services.keys.sorted() == ["node-red"])
        #expect(try store.activity(.init(), page: 1, limit: 50).total == 7)
        try store.close()
    }
}
