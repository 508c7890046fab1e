import MQTT

/// What of a shard has to get to the disk, and which commit it is in. Commits come in **rounds**, one for all shards: a shard
/// closes its part of a round, tells the others, and goes on with the next; what they had sent before they closed theirs is
/// still in this one. So a message and all that comes of it, on whatever shard, are on the disk at once or not at all.
struct Ledger: Sendable {
    let durability: DurabilityRules
    /// Bytes of changes in memory past which nobody is read who waits for a commit.
    private static let mostBytes = 64 << 20
    /// So many are worth a commit, though nobody waits for it.
    private static let manyBytes = 4 << 20

    private let shards: Int
    private var open = Changes()
    private var closing: Changes?
    /// Of `open`.
    private(set) var round: CommitTicket = 1
    private var isMarked: [Bool]
    private var unmarked = 0
    /// What is being handled is mail that was sent before its shard closed its part: it belongs to `closing`.
    private var isLate = false
    /// The last round that is on the disk.
    private(set) var committed: CommitTicket = 0
    /// Something is in `open`, or what has been done is in others' part of that round.
    private(set) var hasChanges = false
    /// Somebody waits for it.
    private var isAwaited = false
    /// Of all queues of the shard, for whoever wants to know.
    var spilledMessages = 0
    /// Messages of this shard's clients.
    var handovers: Handovers
    private var settled: [HandoverNumber] = []
    private var nextSession: StoredSession
    private var nextShared: SharedMessage

    /// `sessions`, `shared`: the numbers that this shard begins with; it uses every n-th of n shards.
    init(
        _ durability: DurabilityRules, shard: Int, of shards: Int, sessions: StoredSession, shared: SharedMessage
    ) {
        handovers = Handovers(shard: shard, of: shards)
        self.durability = durability
        self.shards = shards
        isMarked = Array(repeating: false, count: shards)
        nextSession = sessions
        nextShared = shared
    }

    /// Whether sessions and subscriptions are acknowledged only when they are on the disk.
    var waits: Bool { durability.standard == .acknowledged }
    /// Past this even those wait for the disk who have not asked for it.
    var isFull: Bool { open.byteCount + handovers.byteCount + bytesElsewhere > Self.mostBytes }
    /// Of other shards, as it was lately.
    var bytesElsewhere = 0
    var byteCount: Int { open.byteCount }
    var isUrgent: Bool { isAwaited || open.byteCount > Self.manyBytes }

    mutating func numberSession() -> StoredSession {
        defer { nextSession += StoredSession(shards) }
        return nextSession
    }

    mutating func numberShared() -> SharedMessage {
        defer { nextShared += SharedMessage(shards) }
        return nextShared
    }

    // MARK: Rounds

    /// Something has changed. Returns the round that it is in if it `waits` for that.
    @discardableResult
    mutating func note(waits: Bool) -> CommitTicket? {
        hasChanges = true
        guard waits || isFull else { return nil }
        isAwaited = true
        return round
    }

    /// The last round that anything waits for; nil when all of it is on the disk.
    mutating func latest() -> CommitTicket? {
        guard durability.promisesAnything else { return nil }
        if hasChanges { return note(waits: true) }
        return committed < round - 1 ? round - 1 : nil
    }

    /// Somebody waits for that round from now on.
    mutating func urge(_ ticket: CommitTicket) { if ticket == round { isAwaited = true } }

    /// Whether this shard has its part of that round open still.
    func isOpen(_ ticket: CommitTicket) -> Bool { round == ticket }

    /// What changes from now on is in the next round. The caller tells the others, behind all mail that it has for them.
    mutating func close() {
        precondition(closing == nil, "the last round is not over yet")
        closing = open
        open = Changes()
        round += 1
        (hasChanges, isAwaited) = (false, false)
        handovers.noteRound()
        for shard in isMarked.indices { isMarked[shard] = false }
        unmarked = shards - 1
    }

    /// That shard has closed its part of the round that this one has closed: its mail belongs to the next from now on.
    mutating func mark(_ shard: Int) {
        isMarked[shard] = true
        unmarked -= 1
    }

    /// Mail of that shard is handled until `endMail`.
    mutating func beginMail(from shard: Int) { isLate = closing != nil && !isMarked[shard] }
    mutating func endMail() { isLate = false }

    /// What this shard has for the round, once it has all of it.
    mutating func takeClosed() -> Changes? {
        guard closing != nil, unmarked == 0 else { return nil }
        defer { closing = nil }
        return closing
    }

    /// The round is on the disk. Returns its ticket.
    mutating func end() -> CommitTicket {
        committed += 1
        handovers.end(committed)
        return committed
    }

    /// The round that a change is in while it is not on the disk; nil when it is.
    func pending(_ place: ChangePlace) -> CommitTicket? { place.round > committed ? place.round : nil }

    // MARK: Queues

    /// A message has come into a queue.
    mutating func insert(
        _ message: ApplicationMessage, session: StoredSession, sequence: UInt64, qos: QoS, isRetained: Bool,
        shared: SharedMessage, handover: HandoverNumber, isSpilled: Bool
    ) -> ChangePlace {
        let row = Changes.QueueRow(
            kind: .insert, qos: qos, isRetained: isRetained, isReleased: false, packetIdentifier: 0, session: session,
            sequence: sequence, isShared: shared != 0, shared: shared, isSpilled: isSpilled, message: message,
            handover: handover)
        return append(row, isLate: isLate)
    }

    private mutating func append(_ row: Changes.QueueRow, isLate: Bool) -> ChangePlace {
        if !isLate { hasChanges = true }
        let index = isLate ? closing?.nextRow ?? 0 : open.nextRow
        if isLate { closing?.append(row) } else { open.append(row) }
        // Without a place it still has its round, for whoever waits for that.
        return ChangePlace(round: isLate ? round - 1 : round, index: min(index, ChangePlace.lastIndex))
    }

    private func isFound(_ place: ChangePlace) -> Bool { place.index < ChangePlace.lastIndex }

    /// A message has its Packet Identifier. Always in the open round, so that on the disk too the first of a queue have one
    /// and the others have none, whatever round their rows came in.
    mutating func setIdentifier(
        _ identifier: PacketIdentifier, of item: inout OutgoingMessages.Item, _ session: StoredSession
    ) {
        if item.change.round == round, isFound(item.change) {
            return open.setIdentifier(identifier, ofRow: item.change.index)
        }
        item.change = append(item.row(.update, session), isLate: false)
    }

    /// PUBREC has come.
    mutating func release(_ item: inout OutgoingMessages.Item, _ session: StoredSession) {
        if item.change.round == round, isFound(item.change) {
            open.release(row: item.change.index)
        } else {
            item.change = append(item.row(.update, session), isLate: false)
        }
    }

    /// It has left its queue.
    mutating func delete(_ item: inout OutgoingMessages.Item, _ session: StoredSession) {
        if item.change.round == round, isFound(item.change) {
            settle(open.delete(row: item.change.index))
        } else if closing != nil, item.change.round == round - 1, isFound(item.change) {
            settle(closing?.delete(row: item.change.index) ?? 0)
        } else {
            item.change = append(item.row(.delete, session), isLate: false)
        }
    }

    /// One session less has the message.
    mutating func settle(_ number: HandoverNumber) { if number != 0 { settled.append(number) } }

    // MARK: Handovers

    /// A message of QoS 1 goes to so many persistent sessions. It is acknowledged when the open round is on the disk, or when
    /// their clients have acknowledged it. 0: only the former, for what is known of rounds that come to no end would grow.
    mutating func handOver(from publisher: ConnectionNumber, to sessions: Int, now: Instant) -> HandoverNumber {
        hasChanges = true
        if isFull || !handovers.arePromising { isAwaited = true }
        guard !isFull else { return 0 }
        return handovers.begin(publisher, sessions: sessions, in: round, now: now)
    }

    /// A message has come to the queue of a session whose client is away.
    mutating func noteWaiting(_ handover: HandoverNumber) { if handover != 0, !isLate { isAwaited = true } }

    /// Clients had their time to acknowledge what they got.
    mutating func judgeHandovers(_ now: Instant) { if !isAwaited, handovers.isLate(now) { isAwaited = true } }

    /// When `judgeHandovers` has something to say.
    mutating func nextJudgement() -> Instant? { isAwaited ? nil : handovers.due() }

    /// Handovers of all shards that have been settled by one client more since this was asked last.
    mutating func takeSettled() -> [HandoverNumber] {
        guard !settled.isEmpty else { return [] }
        defer { settled.removeAll(keepingCapacity: true) }
        return settled
    }

    // MARK: Sessions

    mutating func keep(_ row: Changes.SessionRow, at place: inout ChangePlace) {
        hasChanges = true
        place = ChangePlace(round: round, index: open.keep(row, at: place.round == round ? place.index : nil))
    }

    mutating func remove(_ session: StoredSession) {
        hasChanges = true
        open.remove(session)
    }

    mutating func subscribe(_ session: StoredSession, to filter: [UInt8], at maximumQoS: QoS?) {
        hasChanges = true
        open.append(Changes.SubscriptionRow(session: session, filter: filter, maximumQoS: maximumQoS))
    }

    mutating func setWill(_ will: StoredWill?, of session: StoredSession) {
        hasChanges = true
        open.append(Changes.WillRow(session: session, will: will))
    }

    mutating func insertInbound(_ identifier: PacketIdentifier, of session: StoredSession) {
        hasChanges = true
        open.insert(Changes.Inbound(session: session, packetIdentifier: identifier))
    }

    mutating func removeInbound(_ identifier: PacketIdentifier, of session: StoredSession) {
        hasChanges = true
        open.remove(Changes.Inbound(session: session, packetIdentifier: identifier))
    }
}
