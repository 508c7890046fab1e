import Locks
package import MQTT

/// A connection with a session, as people want to know it.
package struct ClientFigures: Sendable {
    package let number: ConnectionNumber
    package let client: ClientIdentifier
    package let participant: Participant?
    package let listener: ListenerNumber
    package let version: ProtocolVersion
    package let cleanSession: Bool
    /// Seconds.
    package let keepAlive: Int
    package let connectedSince: Instant
    package let subscriptions: Int
    /// Messages of QoS 1 and 2 that wait for it, or are on their way to it.
    package let queued: Int
}

/// For those who manage the broker.
extension ShardState {
    /// Those who are connected here, in the order of their places, which they keep as long as they are: `limit` at most,
    /// without the first `skipped` of them, and how many there are in all. Copies only those; the others cost a glance each.
    package func clients(skipping skipped: Int, atMost limit: Int) -> (clients: [ClientFigures], total: Int) {
        var clients: [ClientFigures] = []
        var total = 0
        for index in connections.indices where connections[index].phase == .connected {
            defer { total += 1 }
            if total >= skipped, clients.count < limit { clients.append(figures(of: index)) }
        }
        return (clients, total)
    }

    private func figures(of index: Int) -> ClientFigures {
        let session = sessions[connections[index].slot]
        return ClientFigures(
            number: ConnectionNumber(index), client: session.client, participant: session.participant,
            listener: connections[index].listener, version: connections[index].version,
            cleanSession: session.cleanSession, keepAlive: Int(connections[index].silence / 1500),
            connectedSince: connections[index].connectedSince,
            subscriptions: directory.withLock { $0.subscriptionCount(of: session.reference) },
            queued: session.outgoing.items.count + session.outgoing.spill.count)
    }

    /// Ends the connection of a client that lives here; its session goes on if it may, its will is published. False: it
    /// is not connected.
    package mutating func disconnect(
        _ client: ClientIdentifier, now: Instant, into outbox: inout Outbox
    ) -> Bool {
        guard let reference = directory.withLock({ $0.session(of: client) }), reference.number % UInt32(shards) == shard
        else { return false }
        let slot = slot(of: reference.number)
        guard slot < sessions.count, sessions[slot].reference == reference,
            sessions[slot].connection != Session.noConnection
        else { return false }
        end(sessions[slot].connection, .endedByAdministrator, now: now, into: &outbox)
        return true
    }
}
