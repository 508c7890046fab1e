import Synchronization

/// How many connections are open of those that count together: of one listener, or of all. Shared by all shards, since a
/// connection takes part from the moment it is accepted until its descriptor is closed, wherever that happens.
package final class ConnectionCount: Sendable {
    private let connections = Atomic<Int>(0)

    package init() {}

    /// Connections that are open now.
    package var open: Int { connections.load(ordering: .relaxed) }

    /// One more, unless there are `most` (0: no limit) or more.
    func enter(atMost most: Int) -> Bool {
        var current = connections.load(ordering: .relaxed)
        while most == 0 || current < most {
            let (isDone, found) = connections.weakCompareExchange(
                expected: current, desired: current + 1, ordering: .relaxed)
            if isDone { return true }
            current = found
        }
        return false
    }

    func leave() { connections.subtract(1, ordering: .relaxed) }

    /// A place in two counts, given back when this value goes away.
    package struct Seat: ~Copyable, Sendable {
        private let first: ConnectionCount
        private let second: ConnectionCount

        /// Where both have room. Else throws the one that has none.
        init(in first: ConnectionCount, atMost firstMost: Int, and second: ConnectionCount, atMost secondMost: Int)
            throws(Taken)
        {
            guard first.enter(atMost: firstMost) else { throw .first }
            guard second.enter(atMost: secondMost) else {
                first.leave()
                throw .second
            }
            self.first = first
            self.second = second
        }

        deinit {
            first.leave()
            second.leave()
        }

        enum Taken: Error { case first, second }
    }
}
