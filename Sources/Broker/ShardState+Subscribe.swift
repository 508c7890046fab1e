import Access
import Locks
import MQTT

/// SUBSCRIBE and UNSUBSCRIBE (3.8, 3.10).
extension ShardState {
    mutating func subscribe(
        _ subscribe: Subscribe, _ body: Span<UInt8>, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        let slot = connections[Int(number)].slot
        let reference = sessions[slot].reference
        var codes: [SubscribeReturnCode] = []
        codes.reserveCapacity(subscribe.requests.count)
        let stored = sessions[slot].stored
        let ceiling = rules[Int(connections[Int(number)].listener)].maximumQoS
        for request in subscribe.requests {  // [MQTT-3.8.4-4]
            let qos = min(request.maximumQoS, ceiling)
            let isTaken = withMounted(body.extracting(request.filter), number) { state, filter in
                guard state.maySubscribe(slot, filter) else {
                    state.counters.subscriptionsDenied += 1
                    return false
                }
                let cursor = state.directory.withLock { $0.subscribe(reference, to: filter, at: qos) }
                if stored != 0 { state.ledger?.subscribe(stored, to: filter.copied(), at: qos) }
                if let cursor { state.startReading(cursor, slot) }
                return true
            }
            // MQTT 3.1 knows no failure.
            let isSaid = isTaken || connections[Int(number)].version == .mqtt31
            codes.append(isSaid ? .granted(qos) : .failure)
            if outbox.notesSubscriptions, isTaken {
                let filter = body.extracting(request.filter).copied()
                outbox.note(.subscribed(client: sessions[slot].client, filter: filter, qos: qos))
            }
        }
        let acknowledgement = SubscribeAcknowledgement(
            packetIdentifier: subscribe.packetIdentifier, returnCodes: codes
        )
        let ticket = commit(of: slot)
        sessions[slot].subscribedIn = ticket ?? 0
        acknowledge(number, acknowledgement, after: ticket, &outbox)
        catchUp(number, into: &outbox)
    }

    mutating func unsubscribe(
        _ unsubscribe: Unsubscribe, _ body: Span<UInt8>, _ number: ConnectionNumber, _ outbox: inout Outbox
    ) {
        let slot = connections[Int(number)].slot
        let reference = sessions[slot].reference
        let stored = sessions[slot].stored
        sessions[slot].hasUnsubscribed = true
        for range in unsubscribe.filters {
            withMounted(body.extracting(range), number) { state, filter in
                state.directory.withLock { $0.unsubscribe(reference, from: filter) }
                if stored != 0 { state.ledger?.subscribe(stored, to: filter.copied(), at: nil) }
                state.stopReading(filter.copied(), slot)
                return true
            }
            if outbox.notesSubscriptions {
                outbox.note(.unsubscribed(client: sessions[slot].client, filter: body.extracting(range).copied()))
            }
        }
        acknowledge(  // [MQTT-3.10.4-5]
            number, .unsubscribeAcknowledgement, unsubscribe.packetIdentifier, &outbox, after: commit(of: slot))
    }

    /// Whether a filter is taken; what it matches and may not be read, nobody sends.
    private mutating func maySubscribe(_ slot: Int, _ filter: Span<UInt8>) -> Bool {
        if sessions[slot].accessGeneration != accessGeneration { setRights(slot) }
        let shared = try? filter.sharedSubscription()  // The filter was validated when it was decoded.
        sessions[slot].isMember = sessions[slot].isMember || shared != nil
        guard !sessions[slot].rights.isUnrestricted else { return true }
        let coverage = sessions[slot].rights.coverage(of: filter.extracting((shared?.filter ?? 0)..<filter.count))
        if coverage == .none, limits.refusesDeniedSubscriptions { return false }
        if coverage != .all { sessions[slot].asksToRead = true }
        if sessions[slot].isMember { tellGroups(slot) }
        return true
    }

    /// Calls `body` with the filter as the others see it; false where that is longer than a filter may be.
    @discardableResult
    private mutating func withMounted(
        _ filter: Span<UInt8>, _ number: ConnectionNumber, _ body: (inout ShardState, Span<UInt8>) -> Bool
    ) -> Bool {
        guard isMounted(number) else { return body(&self, filter) }
        guard let mounted = mounted(filter: filter, number) else { return false }
        return body(&self, mounted.span)
    }

    /// A repeated SUBSCRIBE brings what is retained again [MQTT-3.8.4-3].
    private mutating func startReading(_ cursor: RetainedCursor, _ slot: Int) {
        guard var displaced = sessions[slot].cursors.append(cursor) else { return }
        directory.withLock { $0.close(&displaced) }
    }

    private mutating func stopReading(_ filter: [UInt8], _ slot: Int) {
        guard !sessions[slot].cursors.isEmpty else { return }
        for var cursor in sessions[slot].cursors.removeAll(filter) { directory.withLock { $0.close(&cursor) } }
    }

    mutating func closeCursors(_ slot: Int) {
        while var cursor = sessions[slot].cursors.removeFirst() { directory.withLock { $0.close(&cursor) } }
    }
}
