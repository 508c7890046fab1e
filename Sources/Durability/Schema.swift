internal import Store

/// The tables of `broker.db`, by version.
enum Schema {
    /// "mrtb": marks the file as Martlet's.
    private static let applicationID = 0x6D72_7462
    static let version: Int64 = 3

    /// A table, as much as is needed to read what is left of it.
    struct Table {
        let name: String
        let columns: [String]
        /// How many of its columns, the first ones, it is ordered by; 0: by the order in which they were stored.
        let keyColumns: Int
    }

    static let tables = [
        Table(
            name: "retained",
            columns: ["topic", "payload", "qos", "kind", "name", "user_name", "listener", "client"], keyColumns: 0),
        Table(
            name: "session",
            columns: ["id", "client", "kind", "name", "user_name", "listener", "absent_since"], keyColumns: 1),
        Table(name: "subscription", columns: ["session", "filter", "qos"], keyColumns: 2),
        Table(name: "message", columns: ["id", "body"], keyColumns: 1),
        Table(
            name: "queue", columns: ["session", "sequence", "flags", "packet", "bytes", "message", "body"],
            keyColumns: 2),
        Table(name: "run", columns: ["session", "sequence", "last", "bytes", "body"], keyColumns: 2),
        Table(name: "inbound", columns: ["session", "packet"], keyColumns: 2),
        Table(name: "will", columns: ["session", "body", "qos", "retained", "silence"], keyColumns: 1),
        Table(name: "ended", columns: ["session"], keyColumns: 1),
    ]

    /// What each version has added to the one before.
    private static let steps = [
        """
        CREATE TABLE retained (
            topic BLOB NOT NULL UNIQUE, payload BLOB NOT NULL, qos INTEGER NOT NULL,
            -- Who published it, for check_retain_source: Identity's case; 0: the server itself.
            kind INTEGER NOT NULL, name BLOB, user_name BLOB, listener INTEGER NOT NULL, client BLOB
        ) STRICT;
        """,
        """
        CREATE TABLE session (
            -- Never used again while anything of it is in another table.
            id INTEGER PRIMARY KEY, client BLOB NOT NULL UNIQUE,
            -- Whose it is, as in retained.
            kind INTEGER NOT NULL, name BLOB, user_name BLOB, listener INTEGER NOT NULL,
            -- Milliseconds since 1970; NULL: its client is connected.
            absent_since INTEGER
        ) STRICT;
        CREATE TABLE subscription (
            session INTEGER NOT NULL, filter BLOB NOT NULL, qos INTEGER NOT NULL, PRIMARY KEY (session, filter)
        ) STRICT, WITHOUT ROWID;
        -- Messages that lie in several queues.
        CREATE TABLE message (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
        CREATE TABLE queue (
            session INTEGER NOT NULL, sequence INTEGER NOT NULL,
            -- QoS, and 4: retained, 8: released.
            flags INTEGER NOT NULL, packet INTEGER NOT NULL,
            -- Of the payload.
            bytes INTEGER NOT NULL,
            -- One of them is NULL, or both where it is released.
            message INTEGER, body BLOB,
            PRIMARY KEY (session, sequence)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX queue_message ON queue (message) WHERE message IS NOT NULL;
        CREATE TABLE inbound (
            session INTEGER NOT NULL, packet INTEGER NOT NULL, PRIMARY KEY (session, packet)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE will (
            session INTEGER PRIMARY KEY, body BLOB NOT NULL, qos INTEGER NOT NULL, retained INTEGER NOT NULL,
            -- Milliseconds after which the client would have been missed.
            silence INTEGER NOT NULL
        ) STRICT;
        -- Sessions that are no more, whose rows are still to be deleted.
        CREATE TABLE ended (session INTEGER PRIMARY KEY) STRICT;
        """,
        """
        -- Messages of a queue behind one another: MessageRun.
        CREATE TABLE run (
            session INTEGER NOT NULL,
            -- Of the first and of the last.
            sequence INTEGER NOT NULL, last INTEGER NOT NULL,
            -- Of all payloads.
            bytes INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (session, sequence), CHECK (last BETWEEN sequence AND sequence + 1000)
        ) STRICT, WITHOUT ROWID;
        """,
    ]

    /// Makes the file where there is none, under another name until it is whole, and brings an earlier version's up to this
    /// one's. Throws where it is neither.
    static func prepare(in directory: DataDirectory) throws {
        let (name, path) = (BrokerStore.fileName, directory.path(of: BrokerStore.fileName))
        if !directory.has(name) {
            // What somebody has taken away left them; they would be played back into the new one.
            for leftover in ["-journal", "-wal", "-shm"] { try directory.remove(name + leftover) }
            // What could be read of a damaged one may have come so far, and no farther.
            if (try? check(directory.path(of: draftName), [version])) == nil {
                try makeDraft(in: directory) { _ throws(BrokerStoreError) in }
            }
            try directory.settle(draftName, as: name)
        }
        try directory.prepare(name, isNew: false)
        let found = try check(path, Array(1...version))
        if found < version { try migrate(path, from: Int(found)) }
    }

    /// Throws where it is no store of one of these versions.
    @discardableResult
    private static func check(_ path: String, _ versions: [Int64]) throws(BrokerStoreError) -> Int64 {
        let database = try Database(path)
        let application = try database.number("PRAGMA application_id")
        let version = try database.number("PRAGMA user_version") ?? 0
        if application == 0, version == 0 { throw BrokerStoreError.damaged(path, "it is empty") }
        let found = try texts(of: database)
        let isOurs = application == Int64(applicationID)
        if isOurs, versions.contains(version) {
            guard try texts(ofVersion: version).isSubset(of: found) else {
                throw BrokerStoreError.damaged(path, "its tables are not those that were made")
            }
            if version < Self.version, try texts(ofVersion: version + 1).isSubset(of: found) {
                throw BrokerStoreError.damaged(path, "its header is not the one that was written")
            }
            return version
        }
        // Our tables, and no others, under another mark: it is the mark that has changed.
        if try texts(ofVersion: Self.version) == found {
            throw BrokerStoreError.damaged(path, "its header is not the one that was written")
        }
        guard isOurs else { throw BrokerStoreError(0, path, "it is another program's database") }
        throw BrokerStoreError(0, path, "version \(version) of the store, and this Martlet knows \(Self.version)")
    }

    /// What its tables and indexes were made by.
    private static func texts(of database: borrowing Database) throws(BrokerStoreError) -> Set<[UInt8]> {
        var texts: Set<[UInt8]> = []
        let rows = try database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        while try rows.step() { texts.insert(rows.bytes(0) ?? []) }
        return texts
    }

    private static func texts(ofVersion version: Int64) throws(BrokerStoreError) -> Set<[UInt8]> {
        let database = try Database(":memory:")
        try database.execute(steps[..<Int(version)].joined())
        return try texts(of: database)
    }

    private static func migrate(_ path: String, from version: Int) throws(BrokerStoreError) {
        let database = try Database(path)
        try database.execute("PRAGMA synchronous = FULL")
        try database.execute(
            "BEGIN IMMEDIATE; \(steps[version...].joined()) PRAGMA user_version = \(Self.version); COMMIT")
    }

    // MARK: Anew

    private static let draftName = "\(BrokerStore.fileName).new"

    /// Makes an empty store beside the one that there is; `fill` puts into it what it shall have. Whole or not at all.
    static func makeDraft(
        in directory: DataDirectory, fill: (borrowing Database) throws(BrokerStoreError) -> Void
    ) throws {
        for leftover in ["", "-journal", "-wal", "-shm"] { try directory.remove(draftName + leftover) }
        try directory.prepare(draftName, isNew: true)
        let database = try Database(directory.path(of: draftName))
        try database.execute("PRAGMA synchronous = FULL")
        try database.execute("BEGIN; \(steps.joined())")
        try fill(database)
        try database.execute(
            "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(version); COMMIT")
    }

    /// Before SQLite reads the log. Where it would leave out what was committed, keeps a copy. Returns its name, and how much
    /// that was.
    static func prepareLog(in directory: DataDirectory) throws(DataDirectoryError) -> (file: String, frames: Int)? {
        let name = "\(BrokerStore.fileName)-wal"
        // SQLite takes for committed what it finds whole in the log, and an earlier process may have failed to write that.
        guard let log = try directory.writeAgain(name) else { return nil }
        let frames = LogCheck.framesLost(in: log.span)
        guard frames > 0 else { return nil }
        let aside = "\(asideName(in: directory))-wal"
        try directory.write(log, to: aside)
        return (aside, frames)
    }

    /// Gives a damaged store another name, with its log, and the draft the store's. Returns the name.
    static func replaceByDraft(in directory: DataDirectory) throws(DataDirectoryError) -> String {
        let name = BrokerStore.fileName
        let aside = asideName(in: directory)
        // First the file: who is interrupted finds none then, and takes the draft, which has all that could be read.
        try directory.rename(name, to: aside)
        if directory.has("\(name)-wal") { try directory.rename("\(name)-wal", to: "\(aside)-wal") }
        try directory.remove("\(name)-shm")
        try directory.settle(draftName, as: name)
        return aside
    }

    private static func asideName(in directory: DataDirectory) -> String {
        func name(_ number: Int) -> String { "\(BrokerStore.fileName).damaged-\(number)" }
        var number = 1
        while directory.has(name(number)) || directory.has("\(name(number))-wal") { number += 1 }
        return name(number)
    }
}
