/// What could be read of a damaged store.
package struct Salvage: Sendable, Equatable {
    package var retained = 0
    package var sessions = 0
    /// Messages in queues.
    package var queued = 0

    package init(retained: Int = 0, sessions: Int = 0, queued: Int = 0) {
        self.retained = retained
        self.sessions = sessions
        self.queued = queued
    }

    /// Copies what can be read of the store at `path` into another: of each table from both of its ends, up to where it is
    /// damaged. Changes nothing at `path`.
    static func copy(_ path: String, into database: borrowing Database) throws(BrokerStoreError) -> Salvage {
        guard let damaged = try? Database(path, isReadOnly: true) else { return Salvage() }
        for table in Schema.tables {
            if try copy(table, "ASC", from: damaged, into: database) { continue }
            _ = try copy(table, "DESC", from: damaged, into: database)
        }
        // A message that is lost is in no queue any more.
        try database.execute(
            "DELETE FROM queue WHERE message IS NOT NULL AND message NOT IN (SELECT id FROM message)")
        return Salvage(
            retained: try count("retained", database), sessions: try count("session", database),
            queued: try count("queue", database)
                + Int(try database.number("SELECT sum(last - sequence + 1) FROM run") ?? 0))
    }

    private static func count(_ table: String, _ database: borrowing Database) throws(BrokerStoreError) -> Int {
        Int(try database.number("SELECT count(*) FROM \(table)") ?? 0)
    }

    /// True when that were all. Throws what is wrong with the database that it copies into.
    private static func copy(
        _ table: Schema.Table, _ order: String, from damaged: borrowing Database, into database: borrowing Database
    ) throws(BrokerStoreError) -> Bool {
        let columns = table.columns.joined(separator: ", ")
        // By their places, for their names may be what is damaged.
        let places = (1...max(1, table.keyColumns)).map { "\($0) \(order)" }
        let key = table.keyColumns == 0 ? "rowid \(order)" : places.joined(separator: ", ")
        guard let rows = try? damaged.prepare("SELECT * FROM \(table.name) ORDER BY \(key)"),
            rows.columnCount == table.columns.count
        else { return false }
        let values = table.columns.map { _ in "?" }.joined(separator: ", ")
        let insert = try database.prepare("INSERT OR IGNORE INTO \(table.name) (\(columns)) VALUES (\(values))")
        while true {
            guard let isRow = try? rows.step() else { return false }
            guard isRow else { return true }
            for column in table.columns.indices {
                insert.bind(CInt(column), of: rows, at: CInt(column + 1))
            }
            do throws(BrokerStoreError) {
                try insert.run()
            } catch {
                // What no such row can have had; anything else is the new file's own trouble.
                guard error.isAgainstRules else { throw error }
            }
        }
    }
}
