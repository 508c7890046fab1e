import Locks
import MQTT

/// What a session still has to get, step by step, so that nobody else waits for it.
extension ShardState {
    /// The connection's output has reached its bound, or is below it again.
    /// `isNamed`: it is a slow reader, which is worth a line.
    package mutating func setFull(
        _ number: ConnectionNumber, _ isFull: Bool, isNamed: Bool = true, into outbox: inout Outbox
    ) {
        guard connections[Int(number)].phase == .connected else { return }
        connections[Int(number)].isFull = isFull
        if isFull {
            guard isNamed, !connections[Int(number)].isNamedSlow else { return }
            connections[Int(number)].isNamedSlow = true
            outbox.note(.slowReader(number, client: sessions[connections[Int(number)].slot].client))
        } else {
            catchUp(number, into: &outbox)
        }
    }

    /// Whether `work` has something to do.
    package var hasWork: Bool { !catchingUp.isEmpty || sheddingFrom != nil || sweptSessions != nil }

    /// One more step for some of the connections that are catching up.
    package mutating func work(now: Instant, into outbox: inout Outbox) {
        if let first = sheddingFrom { shedQueues(from: first) }
        sweep(now: now, into: &outbox)
        let numbers = catchingUp.prefix(Limits.connectionsPerStep)
        catchingUp.removeFirst(numbers.count)
        for number in numbers {
            connections[Int(number)].isCatchingUp = false
            if connections[Int(number)].phase == .connected { catchUp(number, into: &outbox) }
        }
    }

    /// Sends what waits for a session: what is to be re-sent, its queue, what is retained for its new subscriptions. At
    /// most one step of it; the rest comes with `work`.
    mutating func catchUp(_ number: ConnectionNumber, into outbox: inout Outbox) {
        let slot = connections[Int(number)].slot
        guard !connections[Int(number)].isFull else { return }
        if sessions[slot].accessGeneration != accessGeneration { setRights(slot) }
        guard !sessions[slot].isBarred else { return }
        var budget = limits.messagesPerStep
        while budget > 0, let (item, isDuplicate) = nextMessage(slot) {
            budget -= 1
            let now = connections[Int(number)].latestPacket
            if let message = item.message, !mayReceive(slot, message.bytes.span) || isExpired(item, slot, now: now) {
                counters.publishesWithheld += 1
                sessions[slot].outgoing.withdraw(item, held: &held, ledger: &ledger)
                continue
            }
            send(item, isDuplicate: isDuplicate, to: number, into: &outbox)
        }
        if sessions[slot].outgoing.waiting == 0 { sessions[slot].isNamedFull = false }
        var slices = Limits.slicesPerStep
        if !sessions[slot].cursors.isEmpty, !mayReadRetained(slot) {
            slices = -1
            awaitDisk(slot)
        }
        while budget > 0, slices > 0, !sessions[slot].cursors.isEmpty, sessions[slot].outgoing.hasRoom(limits) {
            let limit = min(budget, sessions[slot].outgoing.room(limits))
            budget -= readRetained(slot, number, limit: limit, into: &outbox)
            slices -= 1
        }
        let hasMore =
            budget == 0 || (slices == 0 && !sessions[slot].cursors.isEmpty && sessions[slot].outgoing.hasRoom(limits))
        if hasMore, !connections[Int(number)].isCatchingUp {
            connections[Int(number)].isCatchingUp = true
            catchingUp.append(number)
        }
    }

    mutating func send(
        _ item: OutgoingMessages.Item, isDuplicate: Bool, to number: ConnectionNumber, into outbox: inout Outbox
    ) {
        guard let message = item.message else {  // After PUBREC never the message again [MQTT-4.3.3-1].
            let ticket = sessions[connections[Int(number)].slot].outgoing.release(item, &ledger)
            return acknowledge(number, .publishRelease, item.packetIdentifier, &outbox, after: ticket)
        }
        unmountedCopy = nil
        if item.qos == .exactlyOnce, sessions[connections[Int(number)].slot].stored != 0 { handshakesDue += 1 }
        send(
            outbox.add(message), qos: item.qos, packetIdentifier: item.packetIdentifier,
            isDuplicate: isDuplicate && item.qos != .atMostOnce, isRetained: item.isRetained, to: number, into: &outbox
        )
    }

    /// One slice of the retained messages for the oldest of the session's new subscriptions [MQTT-3.3.1-6]. Returns how
    /// many there were.
    mutating func readRetained(
        _ slot: Int, _ number: ConnectionNumber, limit: Int, into outbox: inout Outbox
    ) -> Int {
        var found: [RetainedMessage] = []
        guard var cursor = sessions[slot].cursors.removeFirst() else { return 0 }
        directory.withLock { $0.readRetained(&cursor, steps: Limits.nodesPerSlice, limit: limit, into: &found) }
        if !cursor.isFinished { sessions[slot].cursors.prepend(cursor) }
        for retained in found where sees(retained.message.bytes.span, number: number) {
            guard mayReceive(slot, retained.message.bytes.span), isRightful(retained) else { continue }
            unmountedCopy = nil
            let qos = granted(retained.qos, cursor.maximumQoS)
            if qos == .atMostOnce {
                send(outbox.add(retained.message), qos: qos, isRetained: true, to: number, into: &outbox)
                continue
            }
            storing = 0
            queue(retained.message, qos: qos, isRetained: true, for: slot, into: &outbox)
            if let (item, isDuplicate) = nextMessage(slot) {
                send(item, isDuplicate: isDuplicate, to: number, into: &outbox)
            }
        }
        return found.count
    }
}
