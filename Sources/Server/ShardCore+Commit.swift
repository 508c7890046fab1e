import Broker
import Durability
import MQTT
import Transport

/// What has to be on the disk before its acknowledgement leaves: one commit at a time, for all that came in meanwhile.
extension ShardCore {
    /// Milliseconds that what nobody waits for may take to the disk, half of them until its commit begins (`durability
    /// relaxed`).
    private static let relaxedDelay: Int64 = 500

    mutating func begin(storing store: BrokerStore, waits: Bool) {
        self.store = store
        state.keepOnDisk(waits: waits)
    }

    mutating func beginCommit() {
        guard let store, state.hasUncommitted else { return }
        if !state.waitsForCommits {
            let due = commitsAt ?? now + Self.relaxedDelay
            commitsAt = due
            guard now >= due else { return }
        }
        guard let ticket = state.beginCommit() else { return }
        commitsAt = nil
        let shard = peers[state.shard]
        store.commit { shard.post { $0.commitEnded(ticket) } }
    }

    mutating func commitEnded(_ ticket: CommitTicket) {
        updateTime()
        let numbers = state.commitEnded(ticket, into: &outbox)
        apply()
        // Too many waited, and nothing more was read.
        for number in numbers where state.isOpen(number) && state.isUnread(number) { resume(number) }
    }
}
