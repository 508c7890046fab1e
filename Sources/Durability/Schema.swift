internal import Store

/// The tables of `broker.db`, by version.
enum Schema {
    /// "mrtb": marks the file as Martlet's.
    private static let applicationID = 0x6D72_7462
    static let version: Int64 = 1

    private static let tables = """
        CREATE TABLE retained (
            topic BLOB NOT NULL UNIQUE, payload BLOB NOT NULL, qos INTEGER NOT NULL,
            -- Who published it, for check_retain_source: Identity's case; 0: the server itself.
            kind INTEGER NOT NULL, name BLOB, user_name BLOB, listener INTEGER NOT NULL, client BLOB
        ) STRICT;
        """

    /// Makes the file where there is none, under another name until it is whole. Throws where it is not this version's.
    static func prepare(in directory: DataDirectory) throws {
        let (name, path) = (BrokerStore.fileName, directory.path(of: BrokerStore.fileName))
        if !directory.has(name) {
            let draft = "\(name).new"
            for leftover in ["", "-journal", "-wal", "-shm"] { try directory.remove(draft + leftover) }
            // Of a database that somebody has taken away; they would be played back into the new one.
            for leftover in ["-journal", "-wal", "-shm"] { try directory.remove(name + leftover) }
            try directory.prepare(draft, isNew: true)
            try make(directory.path(of: draft))
            try directory.settle(draft, as: name)
        }
        try directory.prepare(name, isNew: false)
        let database = try Database(path)
        let (application, version) = (
            try database.number("PRAGMA application_id"), try database.number("PRAGMA user_version")
        )
        if application == 0, version == 0 { throw BrokerStoreError.damaged(path, "it is empty") }
        guard application == Int64(applicationID) else {
            throw BrokerStoreError(0, path, "it is another program's database")
        }
        guard version == Self.version else {
            throw BrokerStoreError(
                0, path, "version \(version ?? 0) of the store, and this Martlet knows \(Self.version)")
        }
    }

    /// Gives a damaged store another name, with its log, which may hold what the file does not. Returns the name.
    static func setAside(in directory: DataDirectory) throws(DataDirectoryError) -> String {
        let name = BrokerStore.fileName
        var number = 1
        while directory.has("\(name).damaged-\(number)") { number += 1 }
        let aside = "\(name).damaged-\(number)"
        if directory.has("\(name)-wal") { try directory.settle("\(name)-wal", as: "\(aside)-wal") }
        try directory.remove("\(name)-shm")
        try directory.settle(name, as: aside)
        return aside
    }

    private static func make(_ path: String) throws(BrokerStoreError) {
        let database = try Database(path)
        try database.execute("PRAGMA synchronous = FULL")
        try database.execute(
            """
            BEGIN; \(tables) PRAGMA application_id = \(applicationID); PRAGMA user_version = \(version); COMMIT
            """)
    }
}
