import Broker
import Durability
import MQTT
import Synchronization
import Transport

/// What a shard waits for before a round begins: the next steps of its clients' handshakes of QoS 2. One that misses the round
/// waits for one more.
struct Preparation {
    /// Milliseconds. Whoever is far away is not waited for.
    static let patience: Int64 = 2
    /// After that time was not enough.
    static let roundsWithout = 15

    let round: CommitTicket
    let end: Instant
}

/// What has to be on the disk before its acknowledgement leaves: in rounds, with the other shards.
extension ShardCore {
    /// Milliseconds until what nobody waits for begins its way to the disk; there it is within a second.
    private static let relaxedDelay: Int64 = 500

    mutating func begin(
        _ rounds: CommitRounds, _ durability: DurabilityRules, _ beginning: CommitRounds.Beginning
    ) {
        updateTime()
        self.rounds = rounds
        state.keepOnDisk(durability, sessions: beginning.nextSession, shared: beginning.nextShared)
        for (reference, session) in beginning.sessions { state.restore(session, as: reference, now: now) }
        state.endRestoring()
    }

    /// At the end of a turn: asks for a round if somebody waits for one, or something has waited for long enough.
    mutating func askForCommit() {
        guard let rounds else { return }
        finishPreparation()
        backlogs[state.shard].uncommitted.store(state.uncommittedBytes, ordering: .relaxed)
        readQueues()
        guard state.hasUncommitted else { return }
        if !state.awaitsCommit {
            let due = commitsAt ?? now + Self.relaxedDelay
            commitsAt = due
            guard now >= due else { return }
        }
        commitsAt = nil
        guard !hasAsked else { return }
        hasAsked = true
        rounds.want(on: state.shard)
    }

    /// A round is about to begin; all mail that was sent before is here.
    mutating func prepare(_ round: CommitTicket) {
        updateTime()
        preparation = Preparation(round: round, end: now + Preparation.patience)
        if unpreparedRounds > 0 {
            unpreparedRounds -= 1
            preparation = nil
            rounds?.ready(for: round)
        }
    }

    /// At the end of a turn: waiting for the clients costs them less than a round.
    private mutating func finishPreparation() {
        let isAwaited = state.handshakesDue > 0
        if isAwaited { rounds?.noteHandshakes() }
        guard let preparation else { return }
        guard isAwaited else {
            self.preparation = nil
            rounds?.ready(for: preparation.round)
            return
        }
        guard now >= preparation.end else { return }
        self.preparation = nil
        unpreparedRounds = Preparation.roundsWithout
        rounds?.ready(for: preparation.round)
    }

    /// A round begins, here or at another shard first: what changes from now on is in the next.
    mutating func closeRound(_ round: CommitTicket) {
        guard state.hasOpen(round) else { return }
        updateTime()
        postMail(above: 0)
        state.closeRound()
        (hasAsked, commitsAt, preparation) = (false, nil, nil)
        let number = state.shard
        for shard in peers.indices where shard != number { peers[shard].post { $0.noteClosed(round, by: number) } }
        submitIfClosed()
    }

    /// That shard has closed its part of a round; all that it had sent before is here.
    mutating func noteClosed(_ round: CommitTicket, by shard: Int) {
        closeRound(round)
        state.noteClosed(by: shard)
        submitIfClosed()
    }

    private mutating func submitIfClosed() {
        if let part = state.takeClosed() { rounds?.submit(part) }
    }

    mutating func commitEnded() {
        updateTime()
        let numbers = state.commitEnded(now: now, into: &outbox)
        apply()
        // Too many waited, and nothing more was read.
        for number in numbers where state.isOpen(number) && state.isUnread(number) { resume(number) }
        resumeWoken()
    }

    // MARK: Queues that lie on the disk

    private mutating func readQueues() {
        guard let rounds else { return }
        let shard = peers[state.shard]
        for request in state.takeQueueRequests() {
            Task {
                guard let (rows, isAll) = await rounds.store.read(request) else { return }
                shard.post { $0.take(rows, of: request, isAll: isAll) }
            }
        }
    }

    mutating func take(_ rows: [QueuedMessage], of request: QueueRequest, isAll: Bool) {
        updateTime()
        state.take(rows, of: request, isAll: isAll, now: now, into: &outbox)
        apply()
        resumeWoken()
    }
}
