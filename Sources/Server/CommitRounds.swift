import Broker
import Durability
import Locks
import Synchronization
import Transport

/// Brings what all shards have changed to the disk, one round after the other: each shard closes its part of a round
/// (`Ledger`), what they have goes to the store together, and when it is on the disk they are told. Meanwhile the next round
/// collects, so that one commit serves all that came in. From any thread.
final class CommitRounds: Sendable {
    /// What a shard begins with.
    struct Beginning {
        var sessions: [(reference: SessionReference, session: RestoredSession)] = []
        let nextSession: StoredSession
        let nextShared: SharedMessage
    }

    private struct State {
        /// The one that is under way, or comes next.
        var round: CommitTicket = 1
        var isUnderWay = false
        var isWanted = false
        var parts: [Changes] = []
        /// Those who wait until a round is over.
        var waiting: [(round: CommitTicket, continuation: CheckedContinuation<Void, Never>)] = []

        mutating func takeWaiting() -> [CheckedContinuation<Void, Never>] {
            let over = waiting.filter { $0.round < round }.map(\.continuation)
            waiting.removeAll { $0.round < round }
            return over
        }
    }

    /// A round is closed when nothing has come to any shard for one look, or after that many.
    private static let look = Duration.microseconds(100)
    private static let looks = 20
    /// How long a stop waits for the disk.
    private static let patience = Duration.seconds(3)

    private let shards: [Shard]
    let store: BrokerStore
    private let state = Lock(State())
    private let activity = Atomic<Int>(0)

    init(shards: [Shard], store: BrokerStore) {
        self.shards = shards
        self.store = store
    }

    /// Somebody waits for what has changed until now.
    func want() {
        let round = state.withLock { state -> CommitTicket? in
            guard !state.isUnderWay else {
                state.isWanted = true
                return nil
            }
            return begin(&state)
        }
        if let round { close(round) }
    }

    private func begin(_ state: inout State) -> CommitTicket {
        (state.isUnderWay, state.isWanted) = (true, false)
        return state.round
    }

    /// Events have come to a shard.
    func noteActivity() { activity.add(1, ordering: .relaxed) }

    /// Not in the midst of what comes: those who were answered together answer together, which makes one commit of many; and
    /// what subscribers acknowledge meanwhile need not be written at all.
    private func close(_ round: CommitTicket) {
        Task {
            var seen = activity.load(ordering: .relaxed)
            for _ in 0..<Self.looks {
                try? await Task.sleep(for: Self.look)
                let now = activity.load(ordering: .relaxed)
                if now == seen { break }
                seen = now
            }
            for shard in shards { shard.post { $0.closeRound(round) } }
        }
    }

    /// A shard's part of the round.
    func submit(_ part: Changes) {
        let parts = state.withLock { state -> [Changes]? in
            state.parts.append(part)
            guard state.parts.count == shards.count else { return nil }
            defer { state.parts = [] }
            return state.parts
        }
        guard let parts else { return }
        Task {
            guard await store.commit(parts) else { return }
            end()
        }
    }

    private func end() {
        for shard in shards { shard.post { $0.commitEnded() } }
        let (next, waiting) = state.withLock { state in
            state.round += 1
            state.isUnderWay = false
            return (state.isWanted ? begin(&state) : nil, state.takeWaiting())
        }
        for continuation in waiting { continuation.resume() }
        if let next { close(next) }
    }

    /// Returns when all that has changed until now is on the disk, or the disk has had its time.
    func finish() async {
        await withTaskGroup { group in
            group.addTask { await self.wait() }
            group.addTask { try? await Task.sleep(for: Self.patience) }
            await group.next()
            self.giveUp()
            group.cancelAll()
        }
    }

    private func wait() async {
        await withCheckedContinuation { continuation in
            let round = state.withLock { state -> CommitTicket? in
                state.waiting.append((state.isUnderWay ? state.round + 1 : state.round, continuation))
                guard state.isUnderWay else { return begin(&state) }
                state.isWanted = true
                return nil
            }
            if let round { close(round) }
        }
    }

    private func giveUp() {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting.map(\.continuation)
        }
        for continuation in waiting { continuation.resume() }
    }
}
