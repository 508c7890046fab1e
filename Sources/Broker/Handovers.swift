import DequeModule

/// Names a message in the `Handovers` of its publisher's shard; other shards use other numbers. 0: it has none.
typealias HandoverNumber = UInt64

/// Messages of QoS 1 for persistent sessions. When all their clients have acknowledged such a message before its round has begun,
/// nothing of it is written, and its publisher gets its PUBACK without a commit: responsibility has passed on [MQTT-4.3.2-2].
/// Clients that are connected have `patience` for that; then the round comes.
struct Handovers: Sendable {
    private struct Handover: Sendable {
        let publisher: ConnectionNumber
        let round: CommitTicket
        let since: Instant
        /// Sessions whose clients have not acknowledged it.
        var missing: Int
    }

    /// Milliseconds.
    private static let patience: Int64 = 25
    /// Rounds that nobody waits for, after it was in vain to wait for one.
    private static let roundsWithout = 15

    private let shard: UInt64
    private let shards: UInt64
    /// In the order in which they came; the oldest is not over.
    private var open = Deque<Handover>()
    /// Of the oldest.
    private var first: UInt64 = 1
    /// The first that may be neither over nor in a round that has begun.
    private var watched: UInt64 = 1
    private var impatientRounds = 0

    init(shard: Int, of shards: Int) {
        self.shard = UInt64(shard)
        self.shards = UInt64(shards)
    }

    /// What it takes in memory.
    var byteCount: Int { open.count * MemoryLayout<Handover>.stride }

    /// Whether the next are worth waiting for.
    var arePromising: Bool { impatientRounds == 0 }

    /// A message goes out to the clients of `count` sessions.
    mutating func begin(_ publisher: ConnectionNumber, sessions count: Int, in round: CommitTicket, now: Instant)
        -> HandoverNumber
    {
        open.append(Handover(publisher: publisher, round: round, since: now, missing: count))
        return (first + UInt64(open.count - 1)) * shards + shard
    }

    private func index(of number: HandoverNumber) -> Int? {
        let place = number / shards
        return place >= first ? Int(place - first) : nil
    }

    /// The client of one session has acknowledged it. Returns whose message that was, if it is over with this.
    mutating func settle(_ number: HandoverNumber) -> ConnectionNumber? {
        guard let index = index(of: number), open[index].missing > 0 else { return nil }
        open[index].missing -= 1
        guard open[index].missing == 0 else { return nil }
        let publisher = open[index].publisher
        if index == 0 { trim { $0.missing == 0 } }
        return publisher
    }

    /// Whether all have acknowledged it, or it is on the disk.
    func isOver(_ number: HandoverNumber) -> Bool { index(of: number).map { open[$0].missing == 0 } ?? true }

    private mutating func trim(_ isOver: (Handover) -> Bool) {
        while let oldest = open.first, isOver(oldest) {
            open.removeFirst()
            first += 1
        }
        watched = max(watched, first)
    }

    /// Whether the clients that the oldest waits for had their time. The next rounds are not put off for anybody's.
    mutating func isLate(_ now: Instant) -> Bool {
        guard let due = due(), due <= now else { return false }
        impatientRounds = Self.roundsWithout
        return true
    }

    /// When the oldest that no round has taken has waited for long enough.
    mutating func due() -> Instant? {
        while watched < first + UInt64(open.count) {
            let oldest = open[Int(watched - first)]
            if oldest.missing > 0 { return oldest.since + Self.patience }
            watched += 1
        }
        return nil
    }

    /// A round takes all that have begun until now.
    mutating func noteRound() {
        watched = first + UInt64(open.count)
        if impatientRounds > 0 { impatientRounds -= 1 }
    }

    /// All up to that round are on the disk.
    mutating func end(_ round: CommitTicket) {
        trim { $0.round <= round || $0.missing == 0 }
    }
}
