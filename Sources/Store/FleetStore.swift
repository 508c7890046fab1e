internal import GRDB
internal import Locks
internal import Synchronization

/// `fleet.db`: people, devices, services, what they sign in with, and who did what. One method per question; each that
/// changes something is one transaction with its entry in the activity log, on the disk when it returns. Blocks its
/// thread, from any.
package final class FleetStore: Sendable {
    /// Entries of the activity log; past it the oldest go.
    package static let activityEntries = 100_000
    /// Copies from before a migration that are kept.
    package static let copies = 3
    package static let fileName = "fleet.db"
    /// "mrtl": marks the file as Martlet's.
    private static let applicationID = 0x6D72_746C

    let pool: DatabasePool
    private let versions = Atomic<UInt64>(0)
    /// Entries of the log in the transaction that is under way; only one writes at a time.
    let appended = Lock<[Activity]>([])
    private let listener = Lock<(@Sendable ([Activity]) -> Void)?>(nil)

    /// Opens it, makes it, or brings it up to what this Martlet (`version`) needs; before that a copy is made. `now` in
    /// milliseconds since 1970.
    package convenience init(in directory: DataDirectory, version: String, now: Int64) throws {
        try self.init(in: directory, version: version, now: now, migrations: Migration.all)
    }

    /// With other steps than this Martlet's own.
    package init(in directory: DataDirectory, version: String, now: Int64, migrations: [Migration]) throws {
        let path = directory.path(of: Self.fileName)
        let plan = Plan(migrations: migrations, martlet: version, now: now)
        if !directory.has(Self.fileName) { try Self.make(in: directory, plan) }
        try directory.prepare(Self.fileName, isNew: false)
        try Self.examineHeader(directory, path)
        do {
            let version = try Self.examine(path, plan)
            pool = try DatabasePool(path: path, configuration: Self.configuration)
            // A pool's own set-up leaves NORMAL, which may lose the last commits at a power cut.
            try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
            let level = try synchronousLevel()
            precondition(level == 2, "SQLite does not take synchronous = FULL")
            if version < plan.newest {
                try Self.copy(pool, before: plan.newest, in: directory)
                try pool.writeWithoutTransaction { try Self.apply(plan, from: version, to: $0) }
            }
        } catch let error as DatabaseError {
            throw Self.explained(error, path)
        }
    }

    /// Another after each write: what was read while it was this one is so as long as it stays this one. From any thread.
    package var version: UInt64 { versions.load(ordering: .acquiring) }

    /// What gets into the activity log is told from now on, once it is on the disk, in order, on the thread that wrote it.
    package func tellOfActivity(_ listener: @escaping @Sendable ([Activity]) -> Void) {
        self.listener.withLock { $0 = listener }
    }

    /// What changes is nothing that `version` is about.
    func writeQuietly<Value>(_ body: (Database) throws -> Value) throws -> Value {
        try pool.writeWithoutTransaction { database in
            appended.withLock { $0.removeAll() }
            var value: Value?
            try database.inTransaction(.immediate) {
                value = try body(database)
                return .commit
            }
            // Before the next one writes.
            let entries = appended.withLock { $0 }
            if !entries.isEmpty { listener.withLock { $0 }?(entries) }
            guard let value else { preconditionFailure("the transaction was committed") }
            return value
        }
    }

    func write<Value>(_ body: (Database) throws -> Value) throws -> Value {
        defer { versions.wrappingAdd(1, ordering: .releasing) }
        return try writeQuietly(body)
    }

    /// What the connection that writes has as `PRAGMA synchronous`: 2 is FULL.
    package func synchronousLevel() throws -> Int? {
        try pool.writeWithoutTransaction { try Int.fetchOne($0, sql: "PRAGMA synchronous") }
    }

    /// Writes everything back into the one file, and lets go of it. Nothing may be asked afterwards.
    package func close() throws {
        try pool.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
        try pool.close()
    }

    private static var configuration: Configuration {
        var configuration = Configuration()
        configuration.label = "fleet"
        configuration.busyMode = .timeout(5)
        configuration.maximumReaderCount = 2
        return configuration
    }

    private static func explained(_ error: DatabaseError, _ path: String) -> any Error {
        switch error.resultCode {
        case .SQLITE_NOTADB, .SQLITE_CORRUPT: FleetStoreError.damaged(path, error.message ?? "\(error.resultCode)")
        default: error
        }
    }

    // MARK: - Schema

    private struct Plan {
        let migrations: [Migration]
        let martlet: String
        let now: Int64

        var newest: Int { migrations.last?.version ?? 0 }
    }

    /// Under another name until it is whole, so that an empty file is never a beginning.
    private static func make(in directory: DataDirectory, _ plan: Plan) throws {
        let draft = "\(fileName).new"
        for leftover in ["", "-journal", "-wal", "-shm"] { try directory.remove(draft + leftover) }
        // Of a database that somebody has taken away; they would be played back into the new one.
        for leftover in ["-journal", "-wal", "-shm"] { try directory.remove(fileName + leftover) }
        try directory.prepare(draft, isNew: true)
        let queue = try DatabaseQueue(path: directory.path(of: draft), configuration: configuration)
        try queue.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
            try apply(plan, from: 0, to: database)
            // As the pool will want it: changed under its own name, a crash would leave a journal to be played back.
            try database.execute(sql: "PRAGMA journal_mode = WAL")
        }
        try queue.close()
        try directory.settle(draft, as: fileName)
    }

    /// All steps or none.
    private static func apply(_ plan: Plan, from version: Int, to database: Database) throws {
        try database.inTransaction(.immediate) {
            for step in plan.migrations where step.version > version {
                try database.execute(sql: step.sql)
                try database.execute(
                    sql: "INSERT INTO migration (version, name, applied, martlet) VALUES (?, ?, ?, ?)",
                    arguments: [step.version, step.name, plan.now, plan.martlet])
            }
            try database.execute(sql: "PRAGMA application_id = \(applicationID)")
            try database.execute(sql: "PRAGMA user_version = \(plan.newest)")
            try database.checkForeignKeys()
            return .commit
        }
    }

    /// `fleet.db.before-2` is the data as it was before the second version of the schema.
    private static func copy(_ pool: DatabasePool, before version: Int, in directory: DataDirectory) throws {
        let draft = "\(fileName).copy"
        try directory.remove(draft)
        try directory.prepare(draft, isNew: true)
        let target = directory.path(of: draft)
        try pool.writeWithoutTransaction { try $0.execute(sql: "VACUUM INTO ?", arguments: [target]) }
        try directory.settle(draft, as: "\(fileName).before-\(version)")
        let prefix = "\(fileName).before-"
        let versions = directory.names(beginning: prefix).compactMap { Int($0.dropFirst(prefix.count)) }.sorted()
        for old in versions.dropLast(copies) { try directory.remove("\(prefix)\(old)") }
    }

    /// Whether it is ours, before SQLite changes anything in it: an empty file it would begin anew. See
    /// sqlite.org/fileformat.html, 1.3.
    private static func examineHeader(_ directory: DataDirectory, _ path: String) throws {
        let header = try directory.read(fileName, atMost: 100) ?? []
        guard header.count == 100, header.starts(with: "SQLite format 3\0".utf8) else {
            throw FleetStoreError.damaged(path, header.isEmpty ? "the file is empty" : "it is no database")
        }
        guard header[68..<72].reduce(0, { $0 << 8 | Int($1) }) == applicationID else {
            throw FleetStoreError.damaged(path, "it is another program's database")
        }
    }

    /// Whether it is whole, and not too new; plays back what a crash has left to be. Returns the version of its schema.
    private static func examine(_ path: String, _ plan: Plan) throws -> Int {
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        let version = try queue.read { database in
            let finding = try String.fetchOne(database, sql: "PRAGMA quick_check(1)")
            guard finding == "ok" else { throw FleetStoreError.damaged(path, finding ?? "quick_check says nothing") }
            let version = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
            if version > plan.newest {
                let maker = try? String.fetchOne(
                    database, sql: "SELECT martlet FROM migration ORDER BY version DESC LIMIT 1")
                throw FleetStoreError.newer(path, madeBy: maker, than: plan.martlet)
            }
            return version
        }
        try queue.close()
        return version
    }
}

/// Why the data can't be used; one line.
package enum FleetStoreError: Error, Equatable, CustomStringConvertible {
    /// A later Martlet has written it.
    case newer(_ path: String, madeBy: String?, than: String)
    /// It stays as it is.
    case damaged(_ path: String, _ reason: String)

    package var description: String {
        switch self {
        case .newer(let path, let maker, let ours):
            "\(path): made by Martlet \(maker ?? "of a later version"); this is \(ours), which can't read it"
        case .damaged(let path, let reason):
            "\(path): damaged (\(reason)); nothing was changed. Put a copy in its place, or move it away to begin anew"
        }
    }
}
