package import Broker
import Locks
import MQTT
package import Transport

/// Somebody who is connected, and where from.
package struct ConnectedClient: Sendable {
    package let figures: ClientFigures
    package let address: SocketAddress?
    /// That was connected to; 0: a unix socket.
    package let port: UInt16
    package let isSecure: Bool
    package let isWebSocket: Bool
}

/// What those ask for who manage the broker.
extension BrokerServer {
    /// In the order of shards, and of places there. Each shard answers at most what the page needs of it, and looks once
    /// at each of its connections: some nanoseconds each.
    package func clients(skipping skipped: Int, atMost limit: Int) async -> (clients: [ConnectedClient], total: Int) {
        var clients: [ConnectedClient] = []
        var total = 0
        for shard in shards {
            let part = await shard.clients(
                skipping: max(0, skipped - total), atMost: limit - clients.count, ports: ports)
            clients += part.clients
            total += part.total
        }
        return (clients, total)
    }

    /// Ends the connection of a client, whose session goes on if it may. False: it is not connected.
    package func disconnect(_ client: ClientIdentifier) async -> Bool {
        guard let home = directory.withLock({ $0.home(of: client) }) else { return false }
        return await shards[home].disconnect(client)
    }

    /// Slices after which others get their turn.
    private static let slicesAtOnce = 64

    /// What is retained and matches, in the order in which topics came first, and how much that is in all. `filter`: see
    /// `RetainedMessage.isFilter`. Reads the living tree in slices, between which the directory is everybody's; what comes
    /// or goes meanwhile may be in it or not. Keeps only the page.
    package func retained(
        matching filter: [UInt8], skipping skipped: Int, atMost limit: Int
    ) async -> (messages: [RetainedMessage], total: Int) {
        var cursor = directory.withLock { $0.retainedCursor(filter) }
        var (messages, slice): ([RetainedMessage], [RetainedMessage]) = ([], [])
        var (total, slices) = (0, 0)
        // To its end in any case, for a cursor holds the node that it stands on.
        while !cursor.isFinished {
            slice.removeAll(keepingCapacity: true)
            directory.withLock {
                $0.readRetained(&cursor, steps: Limits.nodesPerSlice, limit: Limits.nodesPerSlice, into: &slice)
            }
            for message in slice {
                if total >= skipped, messages.count < limit { messages.append(message) }
                total += 1
            }
            slices += 1
            if slices % Self.slicesAtOnce == 0 { await Task.yield() }
        }
        return (messages, total)
    }

    /// Clears what is retained for a topic, as an empty retained message does: subscribers get that. False: there is nothing.
    /// Returns when it is gone on the disk too.
    package func removeRetained(_ topic: [UInt8]) async -> Bool {
        guard directory.withLock({ $0.hasRetained(topic.span) }) else { return false }
        await shards[0].clearRetained(topic)
        await rounds.withLock { $0 }?.finish()
        return true
    }
}
