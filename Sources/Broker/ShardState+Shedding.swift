import Locks
import MQTT

/// What is given up for `memory_limit`, in this order; each stage includes those before it.
package enum Shedding: UInt8, Comparable, CaseIterable, Sendable {
    case none
    /// New connections are refused; who has a session may come back to it, for that frees what waits there.
    case connections
    /// QoS 0 messages neither wait for a session nor in an output that the network does not take.
    case queues
    /// The slowest readers are disconnected.
    case readers
    /// Nothing new is queued for absent sessions, or retained.
    case storage

    package static func < (left: Shedding, right: Shedding) -> Bool { left.rawValue < right.rawValue }
}

/// Decides from the memory in use what is given up. A stage ends well below where it began, so that it doesn't flap.
package struct MemoryGauge: Sendable {
    package let limit: Int
    package private(set) var stage = Shedding.none

    package init(limit: Int) { self.limit = limit }

    /// Bytes at which a stage begins, and below which it ends.
    package func begin(of stage: Shedding) -> Int { limit / 100 * Self.percent(stage) }
    package func end(of stage: Shedding) -> Int { limit / 100 * (Self.percent(stage) - Self.hysteresis) }

    private static func percent(_ stage: Shedding) -> Int {
        switch stage {
        case .none: 0
        case .connections: 80
        case .queues: 90
        case .readers: 95
        case .storage: 100
        }
    }

    private static let hysteresis = 5

    /// The memory in use now. Returns the stage from now on.
    package mutating func observe(_ bytes: Int) -> Shedding {
        for next in Shedding.allCases where next > stage && bytes >= begin(of: next) { stage = next }
        while stage > .none, bytes < end(of: stage) { stage = Shedding(rawValue: stage.rawValue - 1) ?? .none }
        return stage
    }
}

/// What a stage means for the sessions of a shard.
extension ShardState {
    /// Sessions whose queues are looked through in one step.
    private static let sessionsPerStep = 64

    package mutating func shed(_ stage: Shedding) {
        if stage >= .queues, shedding < .queues { sheddingFrom = 0 }
        if stage < .queues { sheddingFrom = nil }
        shedding = stage
    }

    /// Whether a CONNECT was refused because there is no memory for another session.
    mutating func isRefusedForMemory(
        _ number: ConnectionNumber, _ client: ClientIdentifier, _ now: Instant, _ outbox: inout Outbox
    ) -> Bool {
        guard shedding >= .connections, !directory.withLock({ $0.hasSession(of: client) }) else { return false }
        counters.memoryConnectionsRefused += 1
        refuse(number, .serverUnavailable, now, &outbox)
        return true
    }

    /// Drops what waits at QoS 0 for some sessions.
    mutating func shedQueues(from first: Int) {
        let end = min(first + Self.sessionsPerStep, sessions.count)
        for slot in first..<end {
            let count = UInt64(sessions[slot].outgoing.removeWaitingAtMostOnce(held: &held, ledger: &ledger))
            counters.publishesDropped += count
            counters.memoryMessagesDropped += count
        }
        sheddingFrom = end < sessions.count ? end : nil
    }

    /// Whether a message that would wait for a session is dropped instead.
    mutating func sheds(_ qos: QoS, for slot: Int) -> Bool {
        if qos == .atMostOnce {
            counters.publishesDropped += 1
            counters.memoryMessagesDropped += 1
            return true
        }
        guard shedding >= .storage, sessions[slot].connection == Session.noConnection else { return false }
        countNotStored()
        counters.publishesDropped += 1
        return true
    }

    mutating func countNotStored() { counters.memoryMessagesNotStored += 1 }

    /// Bytes of a connection's session that go with the connection: a persistent session keeps what waits for it.
    package func waitingBytes(for number: ConnectionNumber) -> Int {
        guard connections[Int(number)].phase == .connected else { return 0 }
        let session = sessions[connections[Int(number)].slot]
        return session.cleanSession ? session.outgoing.byteCount : 0
    }

    /// Ends a connection that takes too slowly what is sent to it.
    package mutating func endSlowReader(_ number: ConnectionNumber, now: Instant, into outbox: inout Outbox) {
        counters.memoryConnectionsClosed += 1
        end(number, .memoryShortage, now: now, into: &outbox)
    }

    /// What has been counted, and what is held now.
    package var figures: Counters {
        var figures = counters
        figures.heldMessages = held.count
        figures.heldBytes = held.bytes
        figures.spilledMessages = ledger?.spilledMessages ?? 0
        return figures
    }

    package mutating func countRefusedConnection() { counters.connectionsRefused += 1 }
}
