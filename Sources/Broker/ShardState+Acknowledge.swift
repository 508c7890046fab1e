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
        }
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
