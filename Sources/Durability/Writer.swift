internal import Broker
internal import MQTT

/// The one connection that writes, with its statements. Its owner uses it, and nobody else.
final class Writer {
    /// Rows of a session that is no more that are deleted in one transaction.
    private static let rowsDeletedAtOnce = 4_000
    /// As many of them a run counts for.
    private static let rowsOfRun = 32

    private let database: Database
    private let begin: Statement
    private let commit: Statement
    private let retained: RetainedTable
    private let sessions: SessionTables
    private let queue: QueueTable

    init(_ path: String) throws(BrokerStoreError) {
        let database = try Database(path)
        try database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        let level = try database.number("PRAGMA synchronous")
        guard level == 2 else { throw BrokerStoreError(0, path, "SQLite does not take synchronous = FULL") }
        let begin = try database.prepare("BEGIN IMMEDIATE")
        let commit = try database.prepare("COMMIT")
        let retained = try RetainedTable(database)
        let sessions = try SessionTables(database)
        let queue = try QueueTable(database)
        self.database = database
        self.begin = begin
        self.commit = commit
        self.retained = retained
        self.sessions = sessions
        self.queue = queue
    }

    /// Throws what a look at every page finds wrong, as damage.
    func examine() throws(BrokerStoreError) {
        let statement = try database.prepare("PRAGMA quick_check(1)")
        let finding = try statement.step() ? String(decoding: statement.bytes(0) ?? [], as: UTF8.self) : ""
        guard finding == "ok" else { throw BrokerStoreError.damaged(database.path, finding) }
    }

    /// Pages in the log since it last began anew.
    var loggedFrames: CInt { database.loggedFrames }

    /// See `Database.emptyLog`.
    func emptyLog() -> Bool { database.emptyLog() }

    // MARK: Writing

    /// All of it or, when it throws, nothing; on the disk when it returns.
    func write(_ parts: [Changes], _ messages: [RetainedMessage], _ clock: Clock) throws(BrokerStoreError) {
        guard !messages.isEmpty || !parts.allSatisfy(\.isEmpty) else { return }
        try transaction { () throws(BrokerStoreError) in
            try write(parts, clock)
            for message in messages { try retained.write(message) }
        }
    }

    private func transaction(_ body: () throws(BrokerStoreError) -> Void) throws(BrokerStoreError) {
        try begin.run()
        do throws(BrokerStoreError) {
            try body()
            try commit.run()
        } catch {
            if database.isInTransaction { try? database.execute("ROLLBACK") }
            throw error
        }
    }

    /// Each part is ordered in itself, and they are about different sessions.
    private func write(_ parts: [Changes], _ clock: Clock) throws(BrokerStoreError) {
        let removed = Set(parts.flatMap(\.removedSessions))
        // First, for its client may have another already.
        for session in removed { try sessions.remove(session) }
        var unshared: Set<SharedMessage> = []
        for part in parts {
            for row in part.sessions where !removed.contains(row.session) { try sessions.write(row, clock) }
            for row in part.subscriptions where !removed.contains(row.session) { try sessions.write(row) }
            for row in part.wills where !removed.contains(row.session) { try sessions.write(row) }
            for (inbound, isThere) in part.inbound where !removed.contains(inbound.session) {
                try sessions.write(inbound, isThere: isThere)
            }
            try queue.write(part.queue, except: removed, unshared: &unshared)
        }
        try queue.forget(unshared)
    }

    // MARK: Sessions that are no more

    /// Those whose rows are still to be deleted.
    func endedSessions() throws(BrokerStoreError) -> [StoredSession] {
        var found: [StoredSession] = []
        let statement = try database.prepare("SELECT session FROM ended")
        while try statement.step() { found.append(statement.number(0)) }
        return found
    }

    /// Deletes some of what such a session has left. False when there is more.
    func deleteRows(of session: StoredSession) throws(BrokerStoreError) -> Bool {
        var isOver = false
        try transaction { () throws(BrokerStoreError) in
            var left = Self.rowsDeletedAtOnce
            let messages = try sharedMessages(of: session, atMost: left)
            left -= try delete(from: "queue", "sequence", session, atMost: left)
            try queue.forget(messages)
            if left > 0 {
                left -= try delete(from: "run", "sequence", session, atMost: left / Self.rowsOfRun + 1) * Self.rowsOfRun
            }
            for (table, column) in [("subscription", "filter"), ("inbound", "packet")] where left > 0 {
                left -= try delete(from: table, column, session, atMost: left)
            }
            isOver = left > 0
            guard isOver else { return }
            try database.execute("DELETE FROM will WHERE session = \(session)")
            try database.execute("DELETE FROM ended WHERE session = \(session)")
        }
        return isOver
    }

    private func sharedMessages(of session: StoredSession, atMost limit: Int) throws(BrokerStoreError) -> Set<Int64> {
        let statement = try database.prepare(
            "SELECT message FROM queue WHERE session = \(session) ORDER BY sequence LIMIT \(limit)")
        var messages: Set<Int64> = []
        while try statement.step() { if !statement.isNull(0) { messages.insert(statement.number(0)) } }
        return messages
    }

    /// The first in the order of the key.
    private func delete(
        from table: String, _ column: String, _ session: StoredSession, atMost limit: Int
    ) throws(BrokerStoreError) -> Int {
        try database.execute(
            """
            DELETE FROM \(table) WHERE session = \(session) AND \(column) IN (
                SELECT \(column) FROM \(table) WHERE session = \(session) ORDER BY \(column) LIMIT \(limit))
            """)
        return database.changes
    }

    // MARK: Reading

    func retained(listeners: Int) throws(BrokerStoreError) -> [RetainedMessage] {
        try retained.all(listeners: listeners)
    }

    func read(_ request: QueueRequest) throws(BrokerStoreError) -> (rows: [QueuedMessage], isAll: Bool) {
        try queue.read(request)
    }

    /// The first numbers that nothing has.
    func nextNumbers() throws(BrokerStoreError) -> (session: StoredSession, shared: SharedMessage) {
        let session = try highest([
            "SELECT max(id) FROM session", "SELECT max(session) FROM ended", "SELECT max(session) FROM queue",
            "SELECT max(session) FROM run",
            "SELECT max(session) FROM subscription", "SELECT max(session) FROM inbound",
            "SELECT max(session) FROM will",
        ])
        let shared = try highest(["SELECT max(id) FROM message", "SELECT max(message) FROM queue"])
        return (session + 1, shared + 1)
    }

    private func highest(_ questions: [String]) throws(BrokerStoreError) -> Int64 {
        var highest: Int64 = 0
        for question in questions { highest = max(highest, Self.sound(try database.number(question) ?? 0)) }
        return highest
    }

    /// A number as it may be where a damaged page says anything: one can go on from it.
    private static func sound(_ number: Int64) -> Int64 { min(max(number, 0), .max / 4) }

    /// All sessions, and which numbers have rows in queues without being one.
    func storedSessions(
        listeners: Int, _ clock: Clock
    ) throws(BrokerStoreError) -> (sessions: [RestoredSession], orphans: [StoredSession]) {
        var found: [RestoredSession] = []
        var places: [StoredSession: Int] = [:]
        let rows = try database.prepare(
            "SELECT id, client, kind, name, user_name, listener, absent_since FROM session ORDER BY id")
        while try rows.step() {
            let client = rows.bytes(1) ?? []
            places[rows.number(0)] = found.count
            found.append(
                RestoredSession(
                    session: rows.number(0), client: ClientIdentifier(client),
                    participant: StoredPublisher(rows, from: 2).participant(client, listeners: listeners),
                    absentSince: rows.isNull(6) ? nil : clock.instant(of: rows.number(6))))
        }
        try each("SELECT session, filter, qos FROM subscription") { row in
            guard let place = places[row.number(0)], let filter = row.bytes(1),
                (try? filter.span.validateTopicFilter()) != nil, let qos = QoS(rawValue: UInt8(clamping: row.number(2)))
            else { return }
            found[place].subscriptions.append((filter, qos))
        }
        try each("SELECT session, packet FROM inbound") { row in
            guard let place = places[row.number(0)], let packet = UInt16(exactly: row.number(1)) else { return }
            found[place].inbound.append(packet)
        }
        try each("SELECT session, body, qos, retained, silence FROM will") { row in
            guard let place = places[row.number(0)], let bytes = row.bytes(1),
                let message = ApplicationMessage(stored: bytes), let qos = QoS(rawValue: UInt8(clamping: row.number(2)))
            else { return }
            found[place].will = StoredWill(
                will: WillMessage(message: message, qos: qos, isRetained: row.number(3) != 0),
                silence: min(Self.sound(row.number(4)), Limits.longestSilence))
        }
        var orphans: Set<StoredSession> = []
        for counts in [
            """
            SELECT session, count(*), total(bytes), max(sequence), total(packet != 0), total(bytes * (packet != 0))
            FROM queue GROUP BY session
            """,
            "SELECT session, sum(last - sequence + 1), total(bytes), max(last), 0, 0 FROM run GROUP BY session",
        ] {
            try each(counts) { row in
                guard let place = places[row.number(0)] else {
                    orphans.insert(row.number(0))
                    return
                }
                found[place].queued += Int(row.number(1))
                found[place].queuedBytes += Int(Self.sound(row.number(2)))
                found[place].inFlight += Int(row.number(4))
                found[place].inFlightBytes += Int(Self.sound(row.number(5)))
                let next = UInt64(Self.sound(row.number(3))) + 1
                found[place].nextSequence = max(found[place].nextSequence, next)
            }
        }
        return (found, Array(orphans))
    }

    private func each(_ question: String, _ body: (borrowing Statement) -> Void) throws(BrokerStoreError) {
        let statement = try database.prepare(question)
        while try statement.step() { body(statement) }
    }

    /// Sessions that are no more, and have rows all the same.
    func end(_ sessions: [StoredSession]) throws(BrokerStoreError) {
        guard !sessions.isEmpty else { return }
        try transaction { () throws(BrokerStoreError) in
            for session in sessions { try self.sessions.remove(session) }
        }
    }
}
