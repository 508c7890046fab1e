import Broker
import Durability
import Locks
import Synchronization
import Transport

/// Brings what all shards have changed to the disk, one round after the other: when all are ready each shard closes its part
/// of the round (`Ledger`), what they have goes to the store together, and when it is on the disk they are told. Meanwhile the
/// next round collects, so that one commit serves all that came in. From any thread.
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
        /// The shard that asked last.
        var wanting = 0
        /// Shards that the round waits for before it begins.
        var unready = 0
        var parts: [Changes] = []
        /// Those who wait until a round is over.
        var waiting: [(round: CommitTicket, continuation: CheckedContinuation<Void, Never>)] = []

        mutating func takeWaiting() -> [CheckedContinuation<Void, Never>] {
            let over = waiting.filter { $0.round < round }.map(\.continuation)
            waiting.removeAll { $0.round < round }
            return over
        }
    }

    /// How long a stop waits for the disk.
    private static let patience = Duration.seconds(3)

    private let shards: [Shard]
    let store: BrokerStore
    private let hasRetained: @Sendable () -> Bool
    private let state = Lock(State())
    /// Since the last round began, clients were about to take steps that belong into the next.
    private let hasHandshakes = Atomic(false)

    /// `hasRetained`: whether the store would be given anything that is retained.
    init(shards: [Shard], store: BrokerStore, hasRetained: @escaping @Sendable () -> Bool) {
        self.shards = shards
        self.store = store
        self.hasRetained = hasRetained
    }

    /// Somebody on that shard waits for what has changed until now.
    func want(on shard: Int) {
        let round = state.withLock { state -> CommitTicket? in
            state.wanting = shard
            guard !state.isUnderWay else {
                state.isWanted = true
                return nil
            }
            return begin(&state)
        }
        if let round { prepare(round) }
    }

    private func begin(_ state: inout State) -> CommitTicket {
        (state.isUnderWay, state.isWanted) = (true, false)
        state.unready = shards.count
        return state.round
    }

    /// At the end of a shard's turn.
    func noteHandshakes() {
        if !hasHandshakes.load(ordering: .relaxed) { hasHandshakes.store(true, ordering: .relaxed) }
    }

    private func prepare(_ round: CommitTicket) {
        guard hasHandshakes.exchange(false, ordering: .relaxed) else { return close(round) }
        for shard in shards { shard.post { $0.prepare(round) } }
    }

    /// A shard, each once for a round.
    func ready(for round: CommitTicket) {
        let isReady = state.withLock { state in
            state.unready -= 1
            return state.unready == 0
        }
        if isReady { close(round) }
    }

    /// One shard is enough: it tells the others.
    private func close(_ round: CommitTicket) {
        shards[state.withLock { $0.wanting }].post { $0.closeRound(round) }
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
        guard !parts.allSatisfy(\.isEmpty) || hasRetained() else { return end() }
        store.commit(parts) { self.end() }
    }

    private func end() {
        for shard in shards { shard.post { $0.commitEnded() } }
        let (next, waiting) = state.withLock { state in
            state.round += 1
            state.isUnderWay = false
            return (state.isWanted ? begin(&state) : nil, state.takeWaiting())
        }
        for continuation in waiting { continuation.resume() }
        if let next { prepare(next) }
    }

    /// Returns when all that has changed until now is on the disk, or the disk has had its time.
    func finish() async {
        await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                await self.wait()
                return true
            }
            group.addTask {
                try? await Task.sleep(for: Self.patience)
                return false
            }
            // Who else waits goes on waiting, unless the disk takes too long.
            if await group.next() != true { self.giveUp() }
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
            if let round { prepare(round) }
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
