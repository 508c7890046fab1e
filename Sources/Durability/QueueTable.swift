internal import Broker
internal import MQTT

/// The queues of sessions, on the disk: the statements of the writer's connection. A message has a row, or is in a run.
struct QueueTable: ~Copyable {
    private let runs: RunTable
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
            UPDATE queue SET packet = ?, flags = flags | \(Flags.released), bytes = 0, message = NULL, body = NULL
            WHERE session = ? AND sequence = ?
            """)
        let delete = try database.prepare("DELETE FROM queue WHERE session = ? AND sequence BETWEEN ? AND ?")
        let find = try database.prepare("SELECT message FROM queue WHERE session = ? AND sequence = ?")
        let forget = try database.prepare(
            "DELETE FROM message WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM queue WHERE message = ?1)")
        let read = try database.prepare(
            """
            SELECT sequence, flags, packet, message, coalesce(body, (SELECT body FROM message WHERE id = message))
            FROM queue WHERE session = ?1 AND sequence > ?2 AND sequence < ?3
            UNION ALL
            SELECT sequence, NULL, 0, NULL, body FROM run WHERE session = ?1 AND sequence > ?2 AND sequence < ?3
            ORDER BY 1
            """)
        runs = try RunTable(database)
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

    /// `unshared` gets the messages that a queue has let go of. What leaves a queue leaves it from its front, so those that go
    /// stand behind one another, and one statement deletes them.
    borrowing func write(
        _ rows: [Changes.QueueRow], except removed: Set<StoredSession>, unshared: inout Set<SharedMessage>
    ) throws(BrokerStoreError) {
        try insert(rows, except: removed)
        var gone: (session: StoredSession, sequences: ClosedRange<UInt64>)?
        for (index, row) in rows.enumerated() where removed.isEmpty || !removed.contains(row.session) {
            switch row.kind {
            case .nothing, .insert: break
            case .update: try update(row, rows[index...], unshared: &unshared)
            case .delete:
                if row.isShared { try noteMessage(of: row, &unshared) }
                if let before = gone, before.session == row.session, before.sequences.upperBound + 1 == row.sequence {
                    gone?.sequences = before.sequences.lowerBound...row.sequence
                } else {
                    if let gone { try delete(gone.sequences, of: gone.session) }
                    gone = (row.session, row.sequence...row.sequence)
                }
            }
        }
        if let gone { try delete(gone.sequences, of: gone.session) }
    }

    /// Those that stand behind one another in their queue together, where they are short and will lie for a while.
    private borrowing func insert(
        _ rows: [Changes.QueueRow], except removed: Set<StoredSession>
    ) throws(BrokerStoreError) {
        var open: [StoredSession: Run] = [:]
        for (index, row) in rows.enumerated() where row.kind == .insert && !removed.contains(row.session) {
            guard row.isSpilled, !row.isShared, row.packetIdentifier == 0, let bytes = row.message?.bytes.count,
                bytes <= RunTable.mostMessageBytes
            else {
                try insert(row)
                continue
            }
            if open[row.session]?.append(index, row.sequence, bytes) == true { continue }
            if let run = open.updateValue(Run(index, row.sequence, bytes), forKey: row.session) {
                try insert(run, of: rows)
            }
        }
        for run in open.values { try insert(run, of: rows) }
    }

    /// Rows of one session.
    private struct Run {
        private(set) var rows: [Int]
        private(set) var last: UInt64
        private(set) var bytes: Int

        init(_ row: Int, _ sequence: UInt64, _ bytes: Int) {
            (rows, last, self.bytes) = ([row], sequence, MessageRun.headerBytes + bytes)
        }

        /// False: it can't be behind the others.
        mutating func append(_ row: Int, _ sequence: UInt64, _ bytes: Int) -> Bool {
            guard sequence == last + 1, rows.count < RunTable.mostMessages,
                self.bytes + MessageRun.headerBytes + bytes <= RunTable.mostBytes
            else { return false }
            rows.append(row)
            last = sequence
            self.bytes += MessageRun.headerBytes + bytes
            return true
        }
    }

    private borrowing func insert(_ run: Run, of rows: [Changes.QueueRow]) throws(BrokerStoreError) {
        let first = rows[run.rows[0]]
        guard run.rows.count > 1 else { return try insert(first) }
        var body: [UInt8] = []
        body.reserveCapacity(run.bytes)
        var payloadBytes = 0
        for index in run.rows {
            guard let message = rows[index].message else { continue }
            payloadBytes += message.payloadCount
            MessageRun.append(message.bytes.span, flags: UInt8(Self.flags(of: rows[index])), to: &body)
        }
        try runs.write(first.session, first.sequence...run.last, payloadBytes: payloadBytes, body.span)
    }

    private borrowing func delete(
        _ sequences: ClosedRange<UInt64>, of session: StoredSession
    ) throws(BrokerStoreError) {
        delete.bind(session, at: 1)
        delete.bind(Int64(sequences.lowerBound), at: 2)
        delete.bind(Int64(sequences.upperBound), at: 3)
        try delete.run()
        try runs.delete(session, sequences)
    }

    /// `rows`: from this one on; those that are updated with it leave its run with it.
    private borrowing func update(
        _ row: Changes.QueueRow, _ rows: ArraySlice<Changes.QueueRow>, unshared: inout Set<SharedMessage>
    ) throws(BrokerStoreError) {
        if row.isReleased, row.isShared { try noteMessage(of: row, &unshared) }
        if try change(row) { return }
        var last = row.sequence
        for next in rows.dropFirst() {
            guard next.kind == .update, next.session == row.session, next.sequence == last + 1 else { break }
            last += 1
        }
        for member in try runs.take(row.session, row.sequence...last) { try insert(member, of: row.session) }
        _ = try change(row)
    }

    /// False where it has no row.
    private borrowing func change(_ row: Changes.QueueRow) throws(BrokerStoreError) -> Bool {
        if row.isReleased { try change(row, by: release) } else { try change(row, by: update) }
        return update.changes > 0
    }

    private borrowing func change(
        _ row: Changes.QueueRow, by statement: borrowing Statement
    ) throws(BrokerStoreError) {
        statement.bind(Int64(row.packetIdentifier), at: 1)
        statement.bind(row.session, at: 2)
        statement.bind(Int64(row.sequence), at: 3)
        try statement.run()
    }

    private static func flags(of row: Changes.QueueRow) -> Int64 {
        Int64(row.qos.rawValue) | (row.isRetained ? Flags.retained : 0) | (row.isReleased ? Flags.released : 0)
    }

    private borrowing func insert(_ row: Changes.QueueRow) throws(BrokerStoreError) {
        let message = row.message
        if row.shared != 0, let message {
            share.bind(row.shared, at: 1)
            share.bind(message.bytes.span, at: 2)
            try share.run()
        }
        insert.bind(row.session, at: 1)
        insert.bind(Int64(row.sequence), at: 2)
        insert.bind(Self.flags(of: row), at: 3)
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

    private borrowing func insert(
        _ member: RunTable.Member, of session: StoredSession
    ) throws(BrokerStoreError) {
        insert.bind(session, at: 1)
        insert.bind(Int64(member.sequence), at: 2)
        insert.bind(Int64(member.flags), at: 3)
        insert.bind(0, at: 4)
        insert.bind(Int64(MessageRun.payloadBytes(of: member.bytes.span)), at: 5)
        insert.bind(Span<UInt8>?.none, at: 6)
        insert.bind(member.bytes.span, at: 7)
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
        var found = Rows()
        // The run that has the last place that is known, and goes on behind it.
        if let (first, run) = try runs.run(of: request.session, with: request.after + 1), first <= request.after {
            found.append(run, from: first, request)
        }
        read.bind(request.session, at: 1)
        read.bind(Int64(request.after), at: 2)
        read.bind(Int64(clamping: request.before), at: 3)
        defer { read.reset() }
        while !found.areFull, try read.step() {
            guard let sequence = UInt64(exactly: read.number(0)) else { continue }
            if read.isNull(1) {
                found.append(read.bytes(4) ?? [], from: sequence, request)
            } else {
                found.append(
                    sequence, flags: read.number(1), packet: UInt16(clamping: read.number(2)),
                    isShared: !read.isNull(3), read.bytes(4))
            }
        }
        return (found.rows, !found.areFull)
    }

    /// The next messages of a queue, as they are read.
    private struct Rows {
        private(set) var rows: [QueuedMessage] = []
        private var bytes = 0
        /// There was one more.
        private(set) var areFull = false

        mutating func append(_ run: [UInt8], from first: UInt64, _ request: QueueRequest) {
            var sequence = first
            for message in MessageRun.messages(of: run.span) {
                defer { sequence += 1 }
                guard sequence > request.after, sequence < request.before, !areFull else { continue }
                append(
                    sequence, flags: Int64(message.flags), packet: 0, isShared: false, Array(run[message.bytes]))
            }
        }

        mutating func append(_ sequence: UInt64, flags: Int64, packet: UInt16, isShared: Bool, _ body: [UInt8]?) {
            if packet == 0, rows.count >= Limits.rowsRead || bytes >= Limits.rowBytesRead {
                areFull = true
                return
            }
            // Two of one place there are only where pages are damaged.
            guard rows.last.map({ $0.sequence < sequence }) ?? true else { return }
            let isReleased = flags & (Flags.released | Flags.qos) == Flags.released | 2
            let message = isReleased ? nil : body.flatMap(ApplicationMessage.init(stored:))
            guard isReleased || message != nil, let qos = QoS(rawValue: UInt8(flags & Flags.qos)) else { return }
            bytes += message?.payloadCount ?? 0
            rows.append(
                QueuedMessage(
                    sequence: sequence, qos: qos, isRetained: flags & Flags.retained != 0,
                    isReleased: isReleased, isShared: isShared, packetIdentifier: packet, message: message))
        }
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
