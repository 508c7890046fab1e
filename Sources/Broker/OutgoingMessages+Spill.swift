package import MQTT

/// A message of a queue as the disk has it.
package struct QueuedMessage: Sendable {
    package let sequence: UInt64
    package let qos: QoS
    package let isRetained: Bool
    package let isReleased: Bool
    package let isShared: Bool
    /// 0: it has none yet.
    package let packetIdentifier: PacketIdentifier
    /// Nil for one that is released.
    package let message: ApplicationMessage?

    package init(
        sequence: UInt64, qos: QoS, isRetained: Bool, isReleased: Bool, isShared: Bool,
        packetIdentifier: PacketIdentifier, message: ApplicationMessage?
    ) {
        self.sequence = sequence
        self.qos = qos
        self.isRetained = isRetained
        self.isReleased = isReleased
        self.isShared = isShared
        self.packetIdentifier = packetIdentifier
        self.message = message
    }
}

/// Asks the store for the next messages of a queue.
package struct QueueRequest: Sendable {
    package let reference: SessionReference
    package let session: StoredSession
    /// Those behind this place in the queue.
    package let after: UInt64
    /// Those from this place on are perhaps not all there: a round may bring one before an earlier round's is read.
    package let before: UInt64
    /// The last round that was on the disk: whatever is in it can be read.
    package let committed: CommitTicket
}

extension OutgoingMessages {
    /// The end of a queue that lies on the disk only. What comes while there is such an end gets there too, so that the order
    /// never breaks.
    struct Spill: Sendable {
        fileprivate(set) var count = 0
        fileprivate(set) var bytes = 0
        /// Place of the last message that was in memory.
        var readThrough: UInt64 = 0
        /// Of the rounds that bring it to the disk the first place in the queue that each is about: what has come late from
        /// another shard stands behind what is in the next round.
        private var rounds: [(round: CommitTicket, first: UInt64)] = []
        fileprivate var isBeingRead = false
        /// All that was on the disk then has been read.
        fileprivate var exhausted: CommitTicket?

        /// An earlier process has left it, and nothing of it has been read.
        fileprivate(set) var isRestored = false
        /// How many of it are in flight: those of `isRestored` only, for they are read first.
        fileprivate var (inFlight, inFlightBytes) = (0, 0)

        init() {}

        init(_ restored: RestoredSession) {
            (count, bytes) = (restored.queued, restored.queuedBytes)
            (inFlight, inFlightBytes) = (restored.inFlight, restored.inFlightBytes)
            isRestored = count > 0
        }

        /// What waits.
        var waiting: Int { max(0, count - inFlight) }
        var waitingBytes: Int { max(0, bytes - inFlightBytes) }

        mutating func add(_ sequence: UInt64, bytes: Int, in round: CommitTicket, committed: CommitTicket) {
            count += 1
            self.bytes += bytes
            _ = firstMissing(committed)
            guard !rounds.contains(where: { $0.round == round }) else { return }
            rounds.append((round, sequence))
        }

        /// The place from which on it is not all on the disk; nil when it is.
        fileprivate mutating func firstMissing(_ committed: CommitTicket) -> UInt64? {
            if !rounds.isEmpty { rounds.removeAll { $0.round <= committed } }
            return rounds.map(\.first).min()
        }
    }

    /// Nothing of it was read since the broker began.
    var isUnread: Bool { spill.isRestored }

    /// What should be read next, if there is something and room for it.
    mutating func request(_ reference: SessionReference, committed: CommitTicket) -> QueueRequest? {
        guard spill.count > 0, !spill.isBeingRead, spill.exhausted != committed, hasRoomToRead else { return nil }
        spill.isBeingRead = true
        return QueueRequest(
            reference: reference, session: session, after: spill.readThrough,
            before: spill.firstMissing(committed) ?? nextSequence, committed: committed)
    }

    private var hasRoomToRead: Bool {
        waiting == 0
            || waiting < Limits.waitingInMemory / 2 && waitingBytes < Limits.waitingBytesInMemory / 2
    }

    /// It waits for a commit to have more to read.
    var awaitsRows: Bool { spill.count > 0 && !spill.isBeingRead && spill.exhausted != nil && waiting == 0 }

    /// Puts what was read behind the others. `isAll`: there was no more on the disk. Returns how many should have been there
    /// and were not.
    mutating func take(
        _ rows: [QueuedMessage], of request: QueueRequest, isAll: Bool, rules: DurabilityRules, held: inout HeldMessages
    ) -> Int {
        (spill.isBeingRead, spill.isRestored) = (false, false)
        (spill.inFlight, spill.inFlightBytes) = (0, 0)
        for row in rows { take(row, rules, &held) }
        guard isAll else { return 0 }
        spill.exhausted = request.committed
        guard spill.firstMissing(request.committed) == nil else { return 0 }
        defer { (spill.count, spill.bytes) = (0, 0) }
        return spill.count
    }

    private mutating func take(_ row: QueuedMessage, _ rules: DurabilityRules, _ held: inout HeldMessages) {
        let bytes = row.message?.payloadCount ?? 0
        let waits =
            row.message.map { rules.durability(of: $0.bytes.span.extracting($0.topicRange)) == .acknowledged }
            ?? rules.promisesAnything
        var number: HeldMessages.Number = 0
        if row.message != nil { held.hold(&number, bytes: bytes) }
        let item = Item(
            message: row.message, held: number, qos: row.qos, isRetained: row.isRetained, sequence: row.sequence,
            isShared: row.isShared, waits: waits)
        spill.count -= min(1, spill.count)
        spill.bytes = max(0, spill.bytes - bytes)
        restore(item, row)
    }
}
