import Broker
import Transport

/// Connections that are left unread for a time.
extension ShardCore {
    /// The sender of a packet has to wait. Returns for what it does.
    mutating func hold(_ number: ConnectionNumber) -> Hold {
        let hold = outbox.hold
        outbox.hold = []
        if hold.contains(.mailbox) { awaitMailboxes(number) }
        if hold.contains(.rest) { table[number].waits.insert(.rest) }
        if hold.contains(.packet) { table[number].waits.insert(.packet) }
        return hold
    }

    /// Reads those again whose pause is over.
    mutating func resumeWoken() {
        while let number = state.takeWoken() {
            guard table[number].stream != nil, !state.isPaused(number) else { continue }
            table[number].waits.subtract([.rest, .packet])
            resume(number)
        }
    }
}
