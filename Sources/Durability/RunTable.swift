internal import Broker
internal import MQTT

/// Runs: messages that came to the end of a long queue behind one another, in one commit, and lie in one row. Half of what a
/// message costs that waits for a client is its row. What a row of its own has beside the message it gets when it needs it: it is
/// taken out of its run then.
struct RunTable: ~Copyable {
    /// Of the messages of a run together, and of one alone: longer ones have pages of their own anyway.
    static let mostBytes = 16 << 10
    static let mostMessageBytes = 4 << 10
    static let mostMessages = 128

    /// A message that was in a run.
    typealias Member = (sequence: UInt64, flags: UInt8, bytes: [UInt8])

    private let insert: Statement
    private let cover: Statement
    private let remove: Statement
    private let delete: Statement

    init(_ database: borrowing Database) throws(BrokerStoreError) {
        let insert = try database.prepare(
            "INSERT OR REPLACE INTO run (session, sequence, last, bytes, body) VALUES (?, ?, ?, ?, ?)")
        let cover = try database.prepare(
            """
            SELECT sequence, last, body FROM run WHERE session = ? AND sequence <= ? ORDER BY sequence DESC LIMIT 1
            """)
        let remove = try database.prepare("DELETE FROM run WHERE session = ? AND sequence = ?")
        let delete = try database.prepare("DELETE FROM run WHERE session = ? AND sequence BETWEEN ? AND ?")
        self.insert = insert
        self.cover = cover
        self.remove = remove
        self.delete = delete
    }

    /// `run`: see `MessageRun`.
    borrowing func write(
        _ session: StoredSession, _ sequences: ClosedRange<UInt64>, payloadBytes: Int, _ run: Span<UInt8>
    ) throws(BrokerStoreError) {
        insert.bind(session, at: 1)
        insert.bind(Int64(sequences.lowerBound), at: 2)
        insert.bind(Int64(sequences.upperBound), at: 3)
        insert.bind(Int64(payloadBytes), at: 4)
        insert.bind(run, at: 5)
        try insert.run()
    }

    /// Whatever of a session's runs has one of these places leaves them.
    borrowing func delete(_ session: StoredSession, _ sequences: ClosedRange<UInt64>) throws(BrokerStoreError) {
        // A run at either end perhaps begins before, or goes on behind.
        _ = try cut(sequences, outOfRunWith: sequences.lowerBound, session)
        guard sequences.lowerBound < sequences.upperBound else { return }
        _ = try cut(sequences, outOfRunWith: sequences.upperBound, session)
        delete.bind(session, at: 1)
        delete.bind(Int64(sequences.lowerBound), at: 2)
        delete.bind(Int64(sequences.upperBound), at: 3)
        try delete.run()
    }

    /// Takes these places out of the run that has the first of them. None: no run has it.
    borrowing func take(
        _ session: StoredSession, _ sequences: ClosedRange<UInt64>
    ) throws(BrokerStoreError) -> [Member] {
        guard let cut = try cut(sequences, outOfRunWith: sequences.lowerBound, session) else { return [] }
        var sequence = sequences.lowerBound
        return cut.messages.map { message in
            defer { sequence += 1 }
            return (sequence, message.flags, Array(cut.run[message.bytes]))
        }
    }

    /// What is left of the run has one row on either side.
    private borrowing func cut(
        _ sequences: ClosedRange<UInt64>, outOfRunWith sequence: UInt64, _ session: StoredSession
    ) throws(BrokerStoreError) -> (run: [UInt8], messages: ArraySlice<MessageRun.Message>)? {
        guard let (first, run) = try run(of: session, with: sequence) else { return nil }
        remove.bind(session, at: 1)
        remove.bind(Int64(first), at: 2)
        try remove.run()
        let messages = MessageRun.messages(of: run.span)
        let start = sequences.lowerBound <= first ? 0 : min(Int(sequences.lowerBound - first), messages.count)
        let end = min(Int(clamping: sequences.upperBound - first), messages.count - 1) + 1
        try write(session, first, messages[..<start], of: run)
        try write(session, first + UInt64(end), messages[end...], of: run)
        return (run, messages[start..<end])
    }

    private borrowing func write(
        _ session: StoredSession, _ first: UInt64, _ messages: ArraySlice<MessageRun.Message>, of run: [UInt8]
    ) throws(BrokerStoreError) {
        guard let start = messages.first, let end = messages.last else { return }
        let bytes = messages.reduce(0) { $0 + MessageRun.payloadBytes(of: run.span.extracting($1.bytes)) }
        let range = (start.bytes.lowerBound - MessageRun.headerBytes)..<end.bytes.upperBound
        try write(
            session, first...(first + UInt64(messages.count) - 1), payloadBytes: bytes, run.span.extracting(range))
    }

    /// The run that has this place.
    borrowing func run(
        of session: StoredSession, with sequence: UInt64
    ) throws(BrokerStoreError) -> (first: UInt64, run: [UInt8])? {
        cover.bind(session, at: 1)
        cover.bind(Int64(clamping: sequence), at: 2)
        defer { cover.reset() }
        guard try cover.step(), let first = UInt64(exactly: cover.number(0)),
            let last = UInt64(exactly: cover.number(1)),
            last >= sequence, let run = cover.bytes(2)
        else { return nil }
        return (first, run)
    }
}

/// The messages of a run as they lie in its row, behind one another: of each its flags, its length in three bytes, and itself.
enum MessageRun {
    static let headerBytes = 4

    typealias Message = (flags: UInt8, bytes: Range<Int>)

    static func append(_ message: Span<UInt8>, flags: UInt8, to run: inout [UInt8]) {
        precondition(message.count < 1 << 24, "the length of a message in a run has 24 bits")
        run.append(flags)
        for shift in [16, 8, 0] { run.append(UInt8(truncatingIfNeeded: message.count >> shift)) }
        run.append(copying: message)
    }

    /// Up to where a damaged page says anything else.
    static func messages(of run: Span<UInt8>) -> [Message] {
        var messages: [Message] = []
        var start = 0
        while start + headerBytes <= run.count {
            let length = Int(run[start + 1]) << 16 | Int(run[start + 2]) << 8 | Int(run[start + 3])
            let bytes = (start + headerBytes)..<(start + headerBytes + length)
            guard bytes.upperBound <= run.count else { break }
            messages.append((run[start], bytes))
            start = bytes.upperBound
        }
        return messages
    }

    /// Of a message as a row has it.
    static func payloadBytes(of message: Span<UInt8>) -> Int {
        message.count < 2 ? 0 : max(0, message.count - 2 - (Int(message[0]) << 8 | Int(message[1])))
    }
}
