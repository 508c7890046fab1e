import DequeModule

/// What is retained for the new subscriptions of one session and has not been read: a cursor for each SUBSCRIBE of a
/// filter, in their order [MQTT-3.8.4-3].
struct RetainedCursors: Sendable {
    private struct Entry: Sendable {
        let cursor: RetainedCursor
        let number: UInt64
    }

    /// Of each filter the oldest first.
    private var entries: [[UInt8]: [Entry]] = [:]
    /// May name cursors that have been taken out since.
    private var order = Deque<(filter: [UInt8], number: UInt64)>()
    private var count = 0
    private var latestNumber: UInt64 = 0

    var isEmpty: Bool { count == 0 }

    /// Puts a cursor behind the others. Returns the one whose place it takes, if its filter has too many.
    mutating func append(_ cursor: RetainedCursor) -> RetainedCursor? {
        let filter = cursor.filter.bytes
        let others = entries[filter]?.count ?? 0
        let displaced = others < Limits.unreadSubscriptions ? nil : take(others - 1, of: filter)
        order.append((filter, keep(cursor, at: min(others, Limits.unreadSubscriptions - 1))))
        // Who repeats a SUBSCRIBE and an UNSUBSCRIBE and reads nothing must not make this long.
        if order.count > 2 * count + 16 {
            order.removeAll { place in !(entries[place.filter]?.contains { $0.number == place.number } ?? false) }
        }
        return displaced
    }

    /// Puts back the cursor that `removeFirst` gave.
    mutating func prepend(_ cursor: RetainedCursor) { order.prepend((cursor.filter.bytes, keep(cursor, at: 0))) }

    /// Takes out all of a filter.
    mutating func removeAll(_ filter: [UInt8]) -> [RetainedCursor] {
        let removed = entries.removeValue(forKey: filter) ?? []
        count -= removed.count
        return removed.map(\.cursor)
    }

    mutating func removeFirst() -> RetainedCursor? {
        while let (filter, number) = order.popFirst() {
            if let index = entries[filter]?.firstIndex(where: { $0.number == number }) {
                return take(index, of: filter)
            }
        }
        return nil
    }

    private mutating func keep(_ cursor: RetainedCursor, at index: Int) -> UInt64 {
        latestNumber += 1
        count += 1
        entries[cursor.filter.bytes, default: []].insert(Entry(cursor: cursor, number: latestNumber), at: index)
        return latestNumber
    }

    private mutating func take(_ index: Int, of filter: [UInt8]) -> RetainedCursor? {
        let entry = entries[filter]?.remove(at: index)
        if entries[filter]?.isEmpty == true { entries[filter] = nil }
        count -= 1
        return entry?.cursor
    }
}
