internal import Access
internal import Broker
internal import MQTT

/// Sessions, on the disk: the statements of the writer's connection.
struct SessionTables: ~Copyable {
    private let keep: Statement
    private let remove: Statement
    private let end: Statement
    private let subscribe: Statement
    private let unsubscribe: Statement
    private let insertInbound: Statement
    private let removeInbound: Statement
    private let setWill: Statement
    private let removeWill: Statement

    init(_ database: borrowing Database) throws(BrokerStoreError) {
        let keep = try database.prepare(
            """
            INSERT INTO session (id, client, kind, name, user_name, listener, absent_since) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, name = excluded.name, user_name = excluded.user_name,
                listener = excluded.listener, absent_since = excluded.absent_since
            -- Its earlier session has gone on another shard, whose part of the next round will say so.
            ON CONFLICT (client) DO UPDATE SET id = excluded.id, kind = excluded.kind, name = excluded.name,
                user_name = excluded.user_name, listener = excluded.listener, absent_since = excluded.absent_since
            """)
        let remove = try database.prepare("DELETE FROM session WHERE id = ?")
        let end = try database.prepare("INSERT OR IGNORE INTO ended (session) VALUES (?)")
        let subscribe = try database.prepare(
            "INSERT OR REPLACE INTO subscription (session, filter, qos) VALUES (?, ?, ?)")
        let unsubscribe = try database.prepare("DELETE FROM subscription WHERE session = ? AND filter = ?")
        let insertInbound = try database.prepare("INSERT OR IGNORE INTO inbound (session, packet) VALUES (?, ?)")
        let removeInbound = try database.prepare("DELETE FROM inbound WHERE session = ? AND packet = ?")
        let setWill = try database.prepare(
            "INSERT OR REPLACE INTO will (session, body, qos, retained, silence) VALUES (?, ?, ?, ?, ?)")
        let removeWill = try database.prepare("DELETE FROM will WHERE session = ?")
        self.keep = keep
        self.remove = remove
        self.end = end
        self.subscribe = subscribe
        self.unsubscribe = unsubscribe
        self.insertInbound = insertInbound
        self.removeInbound = removeInbound
        self.setWill = setWill
        self.removeWill = removeWill
    }

    /// What was the session's otherwise goes later, and a little at a time.
    borrowing func remove(_ session: StoredSession) throws(BrokerStoreError) {
        remove.bind(session, at: 1)
        try remove.run()
        end.bind(session, at: 1)
        try end.run()
    }

    /// `clock`: what time it was when.
    borrowing func write(_ row: Changes.SessionRow, _ clock: Clock) throws(BrokerStoreError) {
        keep.bind(row.session, at: 1)
        keep.bind(row.client.bytes.span, at: 2)
        StoredPublisher(row.participant).bind(to: keep, from: 3)
        if let absentSince = row.absentSince {
            keep.bind(clock.time(of: absentSince), at: 7)
        } else {
            keep.bind(Span<UInt8>?.none, at: 7)
        }
        try keep.run()
    }

    borrowing func write(_ row: Changes.SubscriptionRow) throws(BrokerStoreError) {
        guard let maximumQoS = row.maximumQoS else {
            unsubscribe.bind(row.session, at: 1)
            unsubscribe.bind(row.filter.span, at: 2)
            return try unsubscribe.run()
        }
        subscribe.bind(row.session, at: 1)
        subscribe.bind(row.filter.span, at: 2)
        subscribe.bind(Int64(maximumQoS.rawValue), at: 3)
        try subscribe.run()
    }

    borrowing func write(_ inbound: Changes.Inbound, isThere: Bool) throws(BrokerStoreError) {
        if isThere {
            insertInbound.bind(inbound.session, at: 1)
            insertInbound.bind(Int64(inbound.packetIdentifier), at: 2)
            try insertInbound.run()
        } else {
            removeInbound.bind(inbound.session, at: 1)
            removeInbound.bind(Int64(inbound.packetIdentifier), at: 2)
            try removeInbound.run()
        }
    }

    borrowing func write(_ row: Changes.WillRow) throws(BrokerStoreError) {
        guard let stored = row.will else {
            removeWill.bind(row.session, at: 1)
            return try removeWill.run()
        }
        setWill.bind(row.session, at: 1)
        setWill.bind(stored.will.message.bytes.span, at: 2)
        setWill.bind(Int64(stored.will.qos.rawValue), at: 3)
        setWill.bind(stored.will.isRetained ? 1 : 0, at: 4)
        setWill.bind(stored.silence, at: 5)
        try setWill.run()
    }
}
