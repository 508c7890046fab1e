import MQTT

/// The handshakes of QoS 1 and 2 (4.3), in both directions.
extension ShardState {
    /// Answers a packet in its turn. `ticket` names the commit that must be on disk before; nil needs none.
    @inline(__always)
    mutating func acknowledge(
        _ number: ConnectionNumber, _ type: ControlPacketType, _ identifier: PacketIdentifier, _ outbox: inout Outbox,
        after ticket: CommitTicket? = nil
    ) {
        let acknowledgement = Acknowledgement(type, identifier)
        if connections[Int(number)].acknowledgements.mayLeave(acknowledgement, after: ticket) {
            outbox.acknowledge(number, acknowledgement)
        } else if connections[Int(number)].acknowledgements.count == 1 {
            awaitingCommit.append(number)
        }
    }

    // MARK: Commits

    /// From now on the caller makes commits of what has to be on the disk. `waits`: it is acknowledged when it is there.
    package mutating func keepOnDisk(waits: Bool = true) { ledger = Ledger(waits: waits) }

    package var waitsForCommits: Bool { ledger?.waits ?? false }

    /// Whether `beginCommit` would begin one.
    package var hasUncommitted: Bool { ledger?.isDue ?? false }

    /// The next commit, if there is something to commit and none is under way; then the caller says when it has `ended`.
    package mutating func beginCommit() -> CommitTicket? { ledger?.begin() }

    /// A commit is on the disk: what waited for it leaves. Returns the connections that it was for, or that have their place.
    package mutating func commitEnded(_ ticket: CommitTicket, into outbox: inout Outbox) -> [ConnectionNumber] {
        ledger?.end()
        var numbers: [ConnectionNumber] = []
        swap(&numbers, &awaitingCommit)
        for number in numbers {
            while let next = connections[Int(number)].acknowledgements.next(committed: ticket) {
                outbox.acknowledge(number, next)
            }
            if connections[Int(number)].acknowledgements.count > 0 { awaitingCommit.append(number) }
        }
        return numbers
    }

    mutating func acknowledged(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        // An identifier that nothing awaits is ignored: after a reconnect it may answer what was sent before.
        guard sessions[connections[Int(number)].slot].outgoing.acknowledge(identifier, held: &held) else { return }
        catchUp(number, into: &outbox)
    }

    mutating func received(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        // Also for one that nothing awaits: the client then finishes the handshake and frees the identifier.
        _ = sessions[connections[Int(number)].slot].outgoing.received(identifier, held: &held)
        outbox.acknowledge(number, Acknowledgement(.publishRelease, identifier))  // [MQTT-4.6.0-4]
        if limits.inFlightBytes > 0 { catchUp(number, into: &outbox) }  // Its bytes are on their way no more.
    }

    mutating func released(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        sessions[connections[Int(number)].slot].incoming.remove(identifier)
        acknowledge(number, .publishComplete, identifier, &outbox)
    }

    mutating func completed(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        guard sessions[connections[Int(number)].slot].outgoing.complete(identifier) else { return }
        catchUp(number, into: &outbox)
    }
}
