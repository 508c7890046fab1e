import DequeModule

/// What is retained for the new subscriptions of one session and has not been read: one cursor a filter, in the order of
/// the subscriptions.
struct RetainedCursors: Sendable {
    private var cursors: [[UInt8]: RetainedCursor] = [:]
    /// May name filters that have been taken out since.
    private var order = Deque<[UInt8]>()

    var isEmpty: Bool { cursors.isEmpty }

    /// Puts a cursor behind the others; there is none for its filter.
    mutating func append(_ cursor: RetainedCursor) {
        cursors[cursor.filter.bytes] = cursor
        order.append(cursor.filter.bytes)
    }

    /// Puts back the cursor that `removeFirst` gave.
    mutating func prepend(_ cursor: RetainedCursor) {
        cursors[cursor.filter.bytes] = cursor
        order.prepend(cursor.filter.bytes)
    }

    mutating func remove(_ filter: [UInt8]) -> RetainedCursor? { cursors.removeValue(forKey: filter) }

    mutating func removeFirst() -> RetainedCursor? {
        while let filter = order.popFirst() {
            if let cursor = cursors.removeValue(forKey: filter) { return cursor }
        }
        return nil
    }
}
