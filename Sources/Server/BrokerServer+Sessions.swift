package import Broker
import Locks

/// A session, as a shard knows it.
package struct SessionFigures: Sendable {
    package let client: ClientIdentifier
    package let participant: Participant?
    /// Nil while it is connected.
    package let absentSince: Instant?
    package let queued: Int
}

extension BrokerServer {
    /// Of all shards. A clean session ends with its connection.
    package func sessions() async -> [SessionFigures] {
        var all: [SessionFigures] = []
        for shard in shards { all += await shard.sessions() }
        return all
    }

    /// Ends a session, and the connection of its client. False: there is none. Returns when it is gone on the disk too.
    package func removeSession(of client: ClientIdentifier) async -> Bool {
        guard let home = directory.withLock({ $0.home(of: client) }), await shards[home].removeSession(of: client)
        else {
            return false
        }
        await rounds.withLock { $0 }?.finish()
        return true
    }
}
