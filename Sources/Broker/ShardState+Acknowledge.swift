import MQTT

/// The handshakes of QoS 1 and 2 (4.3), in both directions.
extension ShardState {
    /// Answers a packet in its turn. `ticket` names the commit that must be on disk before; nil needs none. `handover`: what does
    /// instead.
    @inline(__always)
    mutating func acknowledge(
        _ number: ConnectionNumber, _ type: ControlPacketType, _ identifier: PacketIdentifier, _ outbox: inout Outbox,
        after ticket: CommitTicket? = nil, or handover: HandoverNumber = 0
    ) {
        let acknowledgement = Acknowledgement(type, identifier)
        if connections[Int(number)].acknowledgements.mayLeave(
            .acknowledgement(acknowledgement), after: ticket, or: handover)
        {
            outbox.acknowledge(number, acknowledgement)
        } else {
            awaitCommit(number)
        }
    }

    mutating func awaitCommit(_ number: ConnectionNumber) {
        guard !connections[Int(number)].isAwaitingCommit else { return }
        connections[Int(number)].isAwaitingCommit = true
        awaitingCommit.append(number)
    }

    mutating func acknowledge(
        _ number: ConnectionNumber, _ acknowledgement: SubscribeAcknowledgement, after ticket: CommitTicket?,
        _ outbox: inout Outbox
    ) {
        if connections[Int(number)].acknowledgements.mayLeave(.subscription(acknowledgement), after: ticket) {
            outbox.acknowledgeSubscribe(number, acknowledgement)
        } else {
            awaitCommit(number)
        }
    }

    mutating func acknowledged(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        // An identifier that nothing awaits is ignored: after a reconnect it may answer what was sent before.
        let slot = connections[Int(number)].slot
        guard sessions[slot].outgoing.acknowledge(identifier, held: &held, ledger: &ledger) else { return }
        noteAcknowledged(identifier, slot, &outbox)
        catchUp(number, into: &outbox)
        if ledger != nil { settleHandovers(&outbox) }
    }

    mutating func received(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        noteStep(number)
        // Also for one that nothing awaits: the client then finishes the handshake and frees the identifier.
        let ticket = sessions[connections[Int(number)].slot].outgoing.received(
            identifier, held: &held, ledger: &ledger)
        noteAcknowledged(identifier, connections[Int(number)].slot, &outbox)
        acknowledge(number, .publishRelease, identifier, &outbox, after: ticket)  // [MQTT-4.6.0-4]
        if limits.inFlightBytes > 0 { catchUp(number, into: &outbox) }  // Its bytes are on their way no more.
    }

    mutating func released(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        noteStep(number)
        let slot = connections[Int(number)].slot
        var ticket: CommitTicket?
        if sessions[slot].incoming.remove(identifier), sessions[slot].stored != 0, let rules = ledger?.durability {
            ledger?.removeInbound(identifier, of: sessions[slot].stored)
            // Of what topic it was nobody knows any more.
            ticket = ledger?.note(waits: rules.promisesAnything)
        } else if sessions[slot].stored != 0 {
            ticket = ledger?.latest()  // It may have been released by a packet before, of which the disk does not know.
        }
        acknowledge(number, .publishComplete, identifier, &outbox, after: ticket)
    }

    mutating func completed(
        _ identifier: PacketIdentifier, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        noteStep(number)
        let slot = connections[Int(number)].slot
        guard sessions[slot].outgoing.complete(identifier, ledger: &ledger) else { return }
        catchUp(number, into: &outbox)
    }

    /// A client has taken its turn in a handshake of QoS 2.
    private mutating func noteStep(_ number: ConnectionNumber) {
        if handshakesDue > 0, sessions[connections[Int(number)].slot].stored != 0 { handshakesDue -= 1 }
    }
}
