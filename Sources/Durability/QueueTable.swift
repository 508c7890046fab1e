internal import Broker
internal import MQTT

/// The queues of sessions, on the disk: the statements of the writer's connection.
struct QueueTable: ~Copyable {
    private let insert: Statement
    private let share: Statement
    private let update: Statement
    private let release: Statement
    private let delete: Statement
    private let find: Statement
    private let forget: Statement
    private let read: Statement

    init(_ database: borrowing Database) throws(BrokerStoreError) {
        let insert = try database.prepare(
            """
            INSERT OR REPLACE INTO queue (session, sequence, flags, packet, bytes, message, body)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            """)
        let share = try database.prepare("INSERT OR IGNORE INTO message (id, body) VALUES (?, ?)")
        let update = try database.prepare("UPDATE queue SET packet = ? WHERE session = ? AND sequence = ?")
        let release = try database.prepare(
            """
            UPDATE queue SET packet = ?, flags = flags | \(Flags.released), message = NULL, body = NULL
            WHERE session = ? AND sequence = ?
            """)
        let delete = try database.prepare("DELETE FROM queue WHERE session = ? AND sequence BETWEEN ? AND ?")
        let find = try database.prepare("SELECT message FROM queue WHERE session = ? AND sequence = ?")
        let forget = try database.prepare(
            "DELETE FROM message WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM queue WHERE message = ?1)")
        let read = try database.prepare(
            """
            SELECT sequence, flags, packet, message, coalesce(body, (SELECT body FROM message WHERE id = message))
            FROM queue WHERE session = ? AND sequence > ? AND sequence < ? ORDER BY sequence
            """)
        self.insert = insert
        self.share = share
        self.update = update
        self.release = release
        self.delete = delete
        self.find = find
        self.forget = forget
        self.read = read
    }

    private enum Flags {
        static let qos: Int64 = 3
        static let retained: Int64 = 4
        static let released: Int64 = 8
    }

    /// `unshared` gets the messages that a queue has let go of. What leaves a queue leaves it from its front, so deletions come
    /// in runs, and each run is one statement.
    borrowing func write(
        _ rows: [Changes.QueueRow], except removed: Set<StoredSession>, unshared: inout Set<SharedMessage>
    ) throws(BrokerStoreError) {
        var run: (session: StoredSession, first: UInt64, last: UInt64)?
        for row in rows where row.kind != .nothing && (removed.isEmpty || !removed.contains(row.session)) {
            guard row.kind == .delete else {
                try write(row, unshared: &unshared)
                continue
            }
            if row.isShared { try noteMessage(of: row, &unshared) }
            if let begun = run, begun.session == row.session, begun.last + 1 == row.sequence {
                run?.last = row.sequence
            } else {
                if let run { try delete(run) }
                run = (row.session, row.sequence, row.sequence)
            }
        }
        if let run { try delete(run) }
    }

    private borrowing func delete(
        _ run: (session: StoredSession, first: UInt64, last: UInt64)
    ) throws(BrokerStoreError) {
        delete.bind(run.session, at: 1)
        delete.bind(Int64(run.first), at: 2)
        delete.bind(Int64(run.last), at: 3)
        try delete.run()
    }

    private borrowing func write(
        _ row: Changes.QueueRow, unshared: inout Set<SharedMessage>
    ) throws(BrokerStoreError) {
        guard row.kind == .update else { return try insert(row) }
        if row.isReleased, row.isShared { try noteMessage(of: row, &unshared) }
        if row.isReleased {
            try change(row, by: release)
        } else {
            try change(row, by: update)
        }
    }

    private borrowing func change(
        _ row: Changes.QueueRow, by statement: borrowing Statement
    ) throws(BrokerStoreError) {
        statement.bind(Int64(row.packetIdentifier), at: 1)
        statement.bind(row.session, at: 2)
        statement.bind(Int64(row.sequence), at: 3)
        try statement.run()
    }

    private borrowing func insert(_ row: Changes.QueueRow) throws(BrokerStoreError) {
        let message = row.message
        let flags =
            Int64(row.qos.rawValue) | (row.isRetained ? Flags.retained : 0) | (row.isReleased ? Flags.released : 0)
        if row.shared != 0, let message {
            share.bind(row.shared, at: 1)
            share.bind(message.bytes.span, at: 2)
            try share.run()
        }
        insert.bind(row.session, at: 1)
        insert.bind(Int64(row.sequence), at: 2)
        insert.bind(flags, at: 3)
        insert.bind(Int64(row.packetIdentifier), at: 4)
        insert.bind(Int64(message?.payloadCount ?? 0), at: 5)
        if row.shared != 0, message != nil {
            insert.bind(row.shared, at: 6)
            insert.bind(Span<UInt8>?.none, at: 7)
        } else {
            insert.bind(Span<UInt8>?.none, at: 6)
            insert.bind(message?.bytes.span, at: 7)
        }
        try insert.run()
    }

    private borrowing func noteMessage(
        of row: Changes.QueueRow, _ unshared: inout Set<SharedMessage>
    ) throws(BrokerStoreError) {
        find.bind(row.session, at: 1)
        find.bind(Int64(row.sequence), at: 2)
        defer { find.reset() }
        if try find.step(), !find.isNull(0) { unshared.insert(find.number(0)) }
    }

    /// Deletes those of the messages that no queue has any more.
    borrowing func forget(_ messages: Set<SharedMessage>) throws(BrokerStoreError) {
        for message in messages {
            forget.bind(message, at: 1)
            try forget.run()
        }
    }

    /// The next messages of a queue; all that are in flight, and of the others at most as many as `Limits` says. `isAll`:
    /// there are no more.
    borrowing func read(
        _ request: QueueRequest
    ) throws(BrokerStoreError) -> (rows: [QueuedMessage], isAll: Bool) {
        var (rows, bytes): ([QueuedMessage], Int) = ([], 0)
        read.bind(request.session, at: 1)
        read.bind(Int64(request.after), at: 2)
        read.bind(Int64(clamping: request.before), at: 3)
        defer { read.reset() }
        while try read.step() {
            let packet = UInt16(clamping: read.number(2))
            guard let sequence = UInt64(exactly: read.number(0)) else { continue }
            if packet == 0, rows.count >= Limits.rowsRead || bytes >= Limits.rowBytesRead { return (rows, false) }
            let flags = read.number(1)
            let isReleased = flags & (Flags.released | Flags.qos) == Flags.released | 2
            let message = isReleased ? nil : read.bytes(4).flatMap(ApplicationMessage.init(stored:))
            guard isReleased || message != nil, let qos = QoS(rawValue: UInt8(flags & Flags.qos)) else { continue }
            bytes += message?.payloadCount ?? 0
            rows.append(
                QueuedMessage(
                    sequence: sequence, qos: qos, isRetained: flags & Flags.retained != 0,
                    isReleased: isReleased, isShared: !read.isNull(3), packetIdentifier: packet, message: message))
        }
        return (rows, true)
    }
}

extension ApplicationMessage {
    /// As a row has it; nil where a damaged page says what never was a message.
    init?(stored bytes: [UInt8]) {
        guard bytes.count >= 2 else { return nil }
        let end = 2 + (Int(bytes[0]) << 8 | Int(bytes[1]))
        guard end <= bytes.count, (try? bytes.span.extracting(2..<end).validateTopicName()) != nil else { return nil }
        self.init(body: bytes.span)
    }
}
