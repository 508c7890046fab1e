internal import Access
internal import Broker
internal import MQTT

/// What is retained, on the disk: the statements of the writer's connection.
struct RetainedTable: ~Copyable {
    private let retain: Statement
    private let clear: Statement
    private let read: Statement

    init(_ database: borrowing Database) throws(BrokerStoreError) {
        let retain = try database.prepare(
            """
            INSERT OR REPLACE INTO retained (topic, payload, qos, kind, name, user_name, listener, client)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """)
        let clear = try database.prepare("DELETE FROM retained WHERE topic = ?")
        let read = try database.prepare(
            "SELECT topic, payload, qos, kind, name, user_name, listener, client FROM retained ORDER BY rowid")
        self.retain = retain
        self.clear = clear
        self.read = read
    }

    borrowing func write(_ retained: RetainedMessage) throws(BrokerStoreError) {
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
        StoredPublisher(retained.publisher).bind(to: retain, from: 4)
        let client = retained.publisher?.client.bytes
        retain.bind(client?.span, at: 8)
        try retain.run()
    }

    /// In the order in which they were stored. `listeners`: how many there are now.
    borrowing func all(listeners: Int) throws(BrokerStoreError) -> [RetainedMessage] {
        var messages: [RetainedMessage] = []
        defer { read.reset() }
        while try read.step() {
            let (topic, payload) = (read.bytes(0) ?? [], read.bytes(1) ?? [])
            // Nothing else was ever written; a damaged page may say anything.
            guard !payload.isEmpty, (try? topic.span.validateTopicName()) != nil else { continue }
            let publisher = StoredPublisher(read, from: 3).participant(read.bytes(7), listeners: listeners)
            messages.append(
                RetainedMessage(
                    message: ApplicationMessage(topic: topic.span, payload: payload.span),
                    qos: QoS(rawValue: UInt8(clamping: read.number(2))) ?? .atMostOnce, publisher: publisher))
        }
        return messages
    }
}
