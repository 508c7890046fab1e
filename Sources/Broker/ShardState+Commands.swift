import Access
package import MQTT

/// A command on its way to a device, until it is acknowledged.
struct PendingCommand: Sendable {
    /// Its publisher's name for it.
    let number: UInt64
    let device: String
    /// From then on it is not sent again.
    var expires: Instant
}

/// Where a command stands: in which session's queue, by which Packet Identifier.
struct CommandPlace: Hashable, Sendable {
    let session: SessionReference
    let packetIdentifier: PacketIdentifier
}

/// Commands: messages for a device that nobody wants to arrive hours later.
extension ShardState {
    /// Gives a command to those of its topic's `receivers` that live here. To the device itself it goes only now: where it is
    /// away, or has too much on its way, it gets nothing, and what is not acknowledged by then is not sent again. It is
    /// never on the disk. Others get it as any message, if they shall. Returns how many of the device's connections it went to,
    /// and how many of them will acknowledge it: those that don't listen at QoS 0.
    package mutating func deliver(
        _ command: ApplicationMessage, number: UInt64, for device: String, expires: Instant, to receivers: [Receiver],
        andOthers: Bool = true, into outbox: inout Outbox
    ) -> (sent: Int, awaited: Int) {
        let index = outbox.add(command)
        storing = 0
        unmountedCopy = nil
        var (sent, awaited) = (0, 0)
        for receiver in receivers where Int(receiver.session.number) % shards == shard {
            let slot = slot(of: receiver.session.number)
            guard slot < sessions.count, sessions[slot].reference == receiver.session else { continue }
            let qos = granted(.atLeastOnce, receiver.maximumQoS)
            guard sessions[slot].participant?.principal.identity == .device(device) else {
                if andOthers { deliver(index, qos: qos, to: receiver.session, into: &outbox) }
                continue
            }
            if send(command, number, device, expires, qos, slot, into: &outbox) {
                sent += 1
                if qos != .atMostOnce { awaited += 1 }
            }
        }
        return (sent, awaited)
    }

    private mutating func send(
        _ command: ApplicationMessage, _ number: UInt64, _ device: String, _ expires: Instant, _ qos: QoS, _ slot: Int,
        into outbox: inout Outbox
    ) -> Bool {
        let connection = sessions[slot].isBarred ? Session.noConnection : sessions[slot].connection
        guard connection != Session.noConnection, !connections[Int(connection)].isFull,
            sessions[slot].outgoing.hasRoom(limits, bytes: command.payloadCount),
            mayReceive(slot, command.bytes.span), sees(command.bytes.span, number: connection)
        else { return false }
        let reference = sessions[slot].reference
        // It is on its way still, and was sent again when the client came back.
        if commands.contains(where: { $0.key.session == reference && $0.value.number == number }) { return true }
        if qos == .atMostOnce {
            send(outbox.add(command), qos: qos, to: connection, into: &outbox)
            return true
        }
        storing = 0
        let admission = sessions[slot].outgoing.append(
            command, qos: qos, isRetained: false, limits: limits, held: &held, as: &storing, ledger: &ledger)
        guard admission == .waits, let (item, _) = nextMessage(slot) else { return false }
        forgetCommandsOfGoneSessions()
        let place = CommandPlace(session: reference, packetIdentifier: item.packetIdentifier)
        commands[place] = PendingCommand(number: number, device: device, expires: expires)
        send(item, isDuplicate: false, to: connection, into: &outbox)
        return true
    }

    /// Whatever becomes of their connections, these commands are not sent again.
    package mutating func withdraw(_ numbers: Set<UInt64>) {
        for (place, command) in commands where numbers.contains(command.number) {
            commands[place]?.expires = Instant(milliseconds: .min)
        }
    }

    /// PUBACK, or PUBREC, has come.
    mutating func noteAcknowledged(_ identifier: PacketIdentifier, _ slot: Int, _ outbox: inout Outbox) {
        guard !commands.isEmpty else { return }
        let place = CommandPlace(session: sessions[slot].reference, packetIdentifier: identifier)
        guard let command = commands.removeValue(forKey: place) else { return }
        outbox.note(.commandDelivered(command.number, device: command.device))
    }

    /// Whether what is to be sent again is a command whose time is over.
    mutating func isExpired(_ item: OutgoingMessages.Item, _ slot: Int, now: Instant) -> Bool {
        guard !commands.isEmpty, item.state == .published else { return false }
        let place = CommandPlace(session: sessions[slot].reference, packetIdentifier: item.packetIdentifier)
        guard let command = commands[place], command.expires <= now else { return false }
        commands[place] = nil
        return true
    }

    /// Once there are many.
    private mutating func forgetCommandsOfGoneSessions() {
        guard commands.count >= Limits.commandsBeforeSweep, commands.count.nonzeroBitCount == 1 else { return }
        commands = commands.filter { place, _ in
            let slot = slot(of: place.session.number)
            return slot < sessions.count && sessions[slot].reference == place.session
        }
    }
}
