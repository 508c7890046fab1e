import Broker
import Synchronization
import Transport

/// Mail to and from other shards, and publishers who wait for a mailbox.
extension ShardCore {
    /// Mail from another shard.
    mutating func receive(_ mail: borrowing Mail, from sender: Int) {
        updateTime()
        updateMailboxes()
        state.deliver(mail, from: sender, into: &outbox)
        apply()
        let backlog = backlogs[state.shard]
        let left = backlog.bytes.subtract(mail.byteCount, ordering: .sequentiallyConsistent).newValue
        guard left <= backlog.bound / 2, backlog.isAwaited.exchange(false, ordering: .sequentiallyConsistent)
        else { return }
        for shard in peers.indices where shard != state.shard { peers[shard].post { $0.releaseHeld() } }
    }

    /// Posts what has come together for other shards: one hop a batch.
    mutating func postMail(above bytes: Int) {
        for shard in 0..<state.shards where shard != state.shard && !outbox.mail[shard].isEmpty {
            let weight = outbox.mail[shard].byteCount
            guard weight > bytes else { continue }
            backlogs[shard].bytes.add(weight, ordering: .relaxed)
            let mail = outbox.takeMail(for: shard)
            let sender = state.shard
            peers[shard].post { $0.receive(mail, from: sender) }
            state.mailboxIsFull[shard] = backlogs[shard].isFull
        }
    }

    /// A publisher waits until the mailboxes have room.
    mutating func awaitMailboxes(_ number: ConnectionNumber) {
        guard awaitsMailbox() else { return }  // It has been emptied meanwhile.
        table[number].waits.insert(.mailbox)
        state.countHeldPublisher()
        held.append(table.token(of: number))
    }

    /// Whether a mailbox is full; then its shard will call `releaseHeld`.
    func awaitsMailbox() -> Bool {
        var isFull = false
        for shard in backlogs.indices where shard != state.shard && backlogs[shard].isFull {
            backlogs[shard].isAwaited.store(true, ordering: .sequentiallyConsistent)
            if backlogs[shard].isFull { isFull = true }
        }
        return isFull
    }

    /// A mailbox has room again. While another has none, everybody goes on waiting, for that one.
    mutating func releaseHeld() {
        updateTime()
        updateMailboxes()
        guard !awaitsMailbox() else { return }
        var tokens: [UInt64] = []
        swap(&tokens, &held)
        for token in tokens {
            guard let number = table.number(of: token) else { continue }
            table[number].waits.remove(.mailbox)
            resume(number)
        }
    }
}
