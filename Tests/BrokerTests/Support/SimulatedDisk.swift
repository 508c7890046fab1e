import MQTT

@testable import Broker

/// What a store does, as a plain value: whole rounds, in their order.
struct SimulatedDisk {
    struct Row {
        let qos: QoS
        let isRetained: Bool
        let isShared: Bool
        var packetIdentifier: PacketIdentifier
        var isReleased: Bool
        var message: ApplicationMessage?
    }

    struct Session {
        var row: Changes.SessionRow
        var subscriptions: [[UInt8]: QoS] = [:]
        var inbound: Set<PacketIdentifier> = []
        var will: StoredWill?
        var queue: [UInt64: Row] = [:]
    }

    private(set) var retained: [RetainedMessage] = []
    private(set) var sessions: [StoredSession: Session] = [:]
    private(set) var rowsWritten = 0
    /// What a row said that could not be.
    private(set) var problem: String?

    mutating func write(_ parts: [Changes], _ messages: [RetainedMessage]) {
        retained = (retained + messages).latestOfEachTopic().filter { $0.message.payloadCount > 0 }
        let removed = Set(parts.flatMap(\.removedSessions))
        for session in removed { sessions[session] = nil }
        for part in parts {
            for row in part.sessions where !removed.contains(row.session) {
                if sessions[row.session] == nil {
                    if sessions.values.contains(where: { $0.row.client == row.client }) {
                        problem = "\(row.client) has two sessions"
                    }
                    sessions[row.session] = Session(row: row)
                }
                sessions[row.session]?.row = row
            }
            for row in part.subscriptions { sessions[row.session]?.subscriptions[row.filter] = row.maximumQoS }
            for row in part.wills { sessions[row.session]?.will = row.will }
            for (inbound, isThere) in part.inbound {
                if isThere {
                    sessions[inbound.session]?.inbound.insert(inbound.packetIdentifier)
                } else {
                    sessions[inbound.session]?.inbound.remove(inbound.packetIdentifier)
                }
            }
            for row in part.queue where row.kind != .nothing { write(row) }
        }
    }

    private mutating func write(_ row: Changes.QueueRow) {
        rowsWritten += 1
        guard sessions[row.session] != nil else { return }
        let old = sessions[row.session]?.queue[row.sequence]
        switch row.kind {
        case .nothing: break
        case .insert:
            if old != nil { problem = "row \(row.sequence) of session \(row.session) comes twice" }
            if (row.message == nil) != row.isReleased { problem = "row \(row.sequence) without its message" }
            sessions[row.session]?.queue[row.sequence] = Row(
                qos: row.qos, isRetained: row.isRetained, isShared: row.isShared,
                packetIdentifier: row.packetIdentifier, isReleased: row.isReleased, message: row.message)
        case .update, .delete:
            if old == nil { problem = "row \(row.sequence) of session \(row.session) is not there to be changed" }
            if row.kind == .delete {
                sessions[row.session]?.queue[row.sequence] = nil
            } else {
                sessions[row.session]?.queue[row.sequence]?.packetIdentifier = row.packetIdentifier
                sessions[row.session]?.queue[row.sequence]?.isReleased = row.isReleased
                if row.isReleased { sessions[row.session]?.queue[row.sequence]?.message = nil }
            }
        }
    }

    func read(_ request: QueueRequest, atMost limit: Int) -> (rows: [QueuedMessage], isAll: Bool) {
        let queue = sessions[request.session]?.queue ?? [:]
        var rows: [QueuedMessage] = []
        for sequence in queue.keys.sorted() where sequence > request.after && sequence < request.before {
            guard let row = queue[sequence] else { continue }
            if row.packetIdentifier == 0, rows.count >= limit { return (rows, false) }
            rows.append(
                QueuedMessage(
                    sequence: sequence, qos: row.qos, isRetained: row.isRetained, isReleased: row.isReleased,
                    isShared: row.isShared, packetIdentifier: row.packetIdentifier, message: row.message))
        }
        return (rows, true)
    }

    /// What a broker that begins finds.
    var restored: [RestoredSession] {
        sessions.keys.sorted().compactMap { number in
            guard let session = sessions[number] else { return nil }
            var restored = RestoredSession(
                session: number, client: session.row.client, participant: session.row.participant,
                absentSince: session.row.absentSince)
            restored.subscriptions = session.subscriptions.map { ($0.key, $0.value) }
                .sorted { $0.filter.lexicographicallyPrecedes($1.filter) }
            restored.inbound = session.inbound.sorted()
            restored.will = session.will
            restored.queued = session.queue.count
            restored.queuedBytes = session.queue.values.map { $0.message?.payloadCount ?? 0 }.reduce(0, +)
            restored.nextSequence = (session.queue.keys.max() ?? 0) + 1
            return restored
        }
    }

    var payloads: [String: String] {
        Dictionary(
            uniqueKeysWithValues: retained.map {
                (
                    String(decoding: $0.message.topic, as: UTF8.self),
                    String(decoding: $0.message.payload, as: UTF8.self)
                )
            })
    }
}
