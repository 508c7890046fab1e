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
    }

    private(set) var retained: [RetainedMessage] = []
    private(set) var sessions: [StoredSession: Session] = [:]
    /// Of a session that is not there itself the rows are lost in a crash.
    private(set) var queues: [StoredSession: [UInt64: Row]] = [:]
    /// Sessions that were removed by this process.
    private var ended: Set<StoredSession> = []
    private(set) var nextSession: StoredSession = 1
    private(set) var rowsWritten = 0
    /// What a row said that could not be.
    private(set) var problem: String?

    mutating func write(_ parts: [Changes], _ messages: [RetainedMessage]) {
        retained = (retained + messages).latestOfEachTopic().filter { $0.message.payloadCount > 0 }
        let removed = Set(parts.flatMap(\.removedSessions))
        for session in removed {
            sessions[session] = nil
            queues[session] = nil
        }
        ended.formUnion(removed)
        for part in parts {
            for row in part.sessions where !removed.contains(row.session) {
                if ended.contains(row.session) { problem = "\(row.client) has a session that has ended" }
                nextSession = max(nextSession, row.session + 1)
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
            for row in part.queue where row.kind != .nothing && !removed.contains(row.session) { write(row) }
        }
    }

    private mutating func write(_ row: Changes.QueueRow) {
        rowsWritten += 1
        if ended.contains(row.session) { problem = "session \(row.session), which has ended, has a row" }
        nextSession = max(nextSession, row.session + 1)
        let old = queues[row.session]?[row.sequence]
        switch row.kind {
        case .nothing: break
        case .insert:
            if old != nil { problem = "row \(row.sequence) of session \(row.session) comes twice" }
            if (row.message == nil) != row.isReleased { problem = "row \(row.sequence) without its message" }
            queues[row.session, default: [:]][row.sequence] = Row(
                qos: row.qos, isRetained: row.isRetained, isShared: row.isShared,
                packetIdentifier: row.packetIdentifier, isReleased: row.isReleased, message: row.message)
        case .update, .delete:
            if old == nil { problem = "row \(row.sequence) of session \(row.session) is not there to be changed" }
            if row.kind == .delete {
                queues[row.session]?[row.sequence] = nil
            } else {
                queues[row.session]?[row.sequence]?.packetIdentifier = row.packetIdentifier
                queues[row.session]?[row.sequence]?.isReleased = row.isReleased
                if row.isReleased { queues[row.session]?[row.sequence]?.message = nil }
            }
        }
    }

    func read(_ request: QueueRequest, atMost limit: Int) -> (rows: [QueuedMessage], isAll: Bool) {
        let queue = queues[request.session] ?? [:]
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

    /// The next begins with what belongs to a session.
    mutating func endProcess() {
        queues = queues.filter { sessions[$0.key] != nil }
        ended = []
    }

    /// The messages of a client's queue, in their order; nil where it has no session.
    func queue(of client: String) -> [Row]? {
        guard let session = sessions.first(where: { $0.value.row.client == ClientIdentifier(client) })
        else { return nil }
        let queue = queues[session.key] ?? [:]
        return queue.keys.sorted().compactMap { queue[$0] }
    }

    func session(of client: String) -> Session? {
        sessions.values.first { $0.row.client == ClientIdentifier(client) }
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
            let queue = queues[number] ?? [:]
            restored.queued = queue.count
            restored.queuedBytes = queue.values.map { $0.message?.payloadCount ?? 0 }.reduce(0, +)
            let inFlight = queue.values.filter { $0.packetIdentifier != 0 }
            restored.inFlight = inFlight.count
            restored.inFlightBytes = inFlight.map { $0.message?.payloadCount ?? 0 }.reduce(0, +)
            restored.nextSequence = (queue.keys.max() ?? 0) + 1
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
