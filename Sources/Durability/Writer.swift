internal import Access
internal import Broker
internal import MQTT

/// The one connection that writes, with its statements. Its owner uses it, and nobody else.
final class Writer {
    private let database: Database
    private let begin: Statement
    private let commit: Statement
    private let retain: Statement
    private let clear: Statement

    init(_ path: String) throws(BrokerStoreError) {
        let database = try Database(path)
        try database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        let level = try database.number("PRAGMA synchronous")
        guard level == 2 else { throw BrokerStoreError(0, path, "SQLite does not take synchronous = FULL") }
        let begin = try database.prepare("BEGIN IMMEDIATE")
        let commit = try database.prepare("COMMIT")
        let retain = try database.prepare(
            """
            INSERT OR REPLACE INTO retained (topic, payload, qos, kind, name, user_name, listener, client)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """)
        let clear = try database.prepare("DELETE FROM retained WHERE topic = ?")
        self.database = database
        self.begin = begin
        self.commit = commit
        self.retain = retain
        self.clear = clear
    }

    /// Throws what a look at every page finds wrong, as damage.
    func examine() throws(BrokerStoreError) {
        let statement = try database.prepare("PRAGMA quick_check(1)")
        let finding = try statement.step() ? String(decoding: statement.bytes(0) ?? [], as: UTF8.self) : ""
        guard finding == "ok" else { throw BrokerStoreError.damaged(database.path, finding) }
    }

    /// All of it or, when it throws, nothing; on the disk when it returns.
    func write(_ messages: [RetainedMessage]) throws(BrokerStoreError) {
        guard !messages.isEmpty else { return }
        try begin.run()
        do throws(BrokerStoreError) {
            for message in messages { try write(message) }
            try commit.run()
        } catch {
            if database.isInTransaction { try? database.execute("ROLLBACK") }
            throw error
        }
    }

    private func write(_ retained: RetainedMessage) throws(BrokerStoreError) {
        let message = retained.message
        let bytes = message.bytes.span
        let topic = bytes.extracting(message.topicRange)
        guard message.payloadCount > 0 else {
            clear.bind(topic, at: 1)
            return try clear.run()
        }
        retain.bind(topic, at: 1)
        retain.bind(bytes.extracting(message.topicRange.upperBound..<bytes.count), at: 2)
        retain.bind(Int64(retained.qos.rawValue), at: 3)
        let publisher = StoredPublisher(retained.publisher)
        retain.bind(publisher.kind, at: 4)
        retain.bind(publisher.name?.span, at: 5)
        retain.bind(publisher.userName?.span, at: 6)
        retain.bind(publisher.listener, at: 7)
        retain.bind(publisher.client?.span, at: 8)
        try retain.run()
    }

    /// Pages in the log since it last began anew.
    var loggedFrames: CInt { database.loggedFrames }

    /// Moves all that is in the log into the file, and begins the log anew. Nobody writes meanwhile.
    func emptyLog() throws(BrokerStoreError) { try database.execute("PRAGMA wal_checkpoint(TRUNCATE)") }

    /// In the order in which they were stored.
    func retained(listeners: Int) throws(BrokerStoreError) -> [RetainedMessage] {
        var messages: [RetainedMessage] = []
        if let error = read("ASC", listeners, into: &messages) { throw error }
        return messages
    }

    /// What of a damaged file can be read, from both of its ends.
    func readableRetained(listeners: Int) -> [RetainedMessage] {
        var (first, last): ([RetainedMessage], [RetainedMessage]) = ([], [])
        if read("ASC", listeners, into: &first) == nil { return first }
        _ = read("DESC", listeners, into: &last)
        return (first + last.reversed()).latestOfEachTopic()
    }

    /// Nil: that were all.
    private func read(
        _ order: String, _ listeners: Int, into messages: inout [RetainedMessage]
    ) -> BrokerStoreError? {
        do throws(BrokerStoreError) {
            let statement = try database.prepare(
                """
                SELECT topic, payload, qos, kind, name, user_name, listener, client FROM retained
                ORDER BY rowid \(order)
                """)
            while try statement.step() {
                let (topic, payload) = (statement.bytes(0) ?? [], statement.bytes(1) ?? [])
                // Nothing else was ever written; a damaged page may say anything.
                guard !payload.isEmpty, (try? topic.span.validateTopicName()) != nil else { continue }
                let publisher = StoredPublisher(
                    kind: statement.number(3), name: statement.bytes(4), userName: statement.bytes(5),
                    listener: statement.number(6), client: statement.bytes(7))
                messages.append(
                    RetainedMessage(
                        message: ApplicationMessage(topic: topic.span, payload: payload.span),
                        qos: QoS(rawValue: UInt8(clamping: statement.number(2))) ?? .atMostOnce,
                        publisher: publisher.participant(listeners: listeners)))
            }
            return nil
        } catch {
            return error
        }
    }
}
