import Access
import MQTT

/// What the broker knows of one network connection.
struct Connection: Sendable {
    enum Phase: UInt8 {
        case free, awaitingConnect, connected
    }

    var phase = Phase.free
    var version = ProtocolVersion.mqtt311
    /// Was moved to this shard to live here.
    var isPlaced = false
    var listener: ListenerNumber = 0
    /// Its output is at the bound.
    var isFull = false
    /// Its listener has a mount point.
    var isMounted = false
    /// Its CONNECT has waited for its turn to take over a session.
    var hasWaited = false
    /// Its peer is gone; what it has sent is read without pauses.
    var isAtItsEnd = false
    /// It is not read, because its output or a mailbox is full.
    var isUnread = false
    /// The log has said that it is a slow reader.
    var isNamedSlow = false
    /// Stands in `ShardState.catchingUp`.
    var isCatchingUp = false
    /// Stands in `ShardState.awaitingCommit`.
    var isAwaitingCommit = false
    /// Of its session, once connected.
    var slot = 0
    /// When its last packet came.
    var latestPacket = Instant(milliseconds: 0)
    /// When its CONNECT was accepted.
    var connectedSince = Instant(milliseconds: 0)
    /// It is not read until then: it published too fast, or waits to take over a session.
    var pausedUntil: Instant?
    /// Milliseconds without a packet that end it: one and a half times its keep-alive, 0 for never.
    var silence: Int64 = 0
    var will: WillMessage?
    /// What it shows beside its CONNECT; who it has proved to be, once that is decided, until it is connected.
    var proof: ConnectionProof?
    var participant: Participant?
    var verification = Verification.none
    var acknowledgements = AcknowledgementQueue()
}

/// What outlives a connection (4.1); where there is a store, the process too.
struct Session: Sendable {
    static let noConnection = ConnectionNumber.max

    var client = ClientIdentifier([])
    var reference = SessionReference(number: .max, incarnation: 0)
    var connection = Session.noConnection
    var cleanSession = true
    /// Whose it is.
    var participant: Participant?
    /// What its client may do by the rules of `accessGeneration`.
    var rights = Rights.nothing
    var accessGeneration: UInt32 = 0
    /// The topic that its client was last allowed to write to, by these rights; empty: none, or a long one. Most publish to
    /// one topic again and again, and comparing costs less than asking the rules.
    private var writtenTopic: [UInt8] = []
    /// Each message has to be asked about: some of what its filters match may not be read.
    var asksToRead = false
    /// Has, or had, shared subscriptions.
    var isMember = false
    /// Has given up filters, of which messages may still wait.
    var hasUnsubscribed = false
    /// Its client may not be connected any more: the connection gets nothing until it ends, within the next steps.
    var isBarred = false
    /// When its client went, while it is away.
    var absentSince = Instant(milliseconds: 0)
    /// The log has said that its queue is full.
    var isNamedFull = false
    /// The latest change of its row on the disk.
    var change = ChangePlace.none
    /// Its will is on the disk.
    var hasStoredWill = false
    /// That will was left by an earlier process, and comes when the client doesn't.
    var isWillDue = false
    /// Stands in `ShardState.awaitingDisk`.
    var isAwaitingDisk = false
    /// The commit of its latest subscription: what is retained comes after it, behind the SUBACK.
    var subscribedIn: CommitTicket = 0
    /// QoS 1 and 2 on their way to the client.
    var outgoing = OutgoingMessages()
    /// QoS 2 from the client, received and not released.
    var incoming = PacketIdentifierSet()
    /// What is retained for its new subscriptions and has not been sent.
    var cursors = RetainedCursors()

    /// Its name on the disk; 0: it is in memory only.
    var stored: StoredSession { outgoing.session }

    /// Waits for its client to come back.
    var isAbsent: Bool { connection == Self.noConnection && reference.number != .max }

    init() {}

    init(client: ClientIdentifier, reference: SessionReference) {
        self.client = client
        self.reference = reference
    }

    @inline(__always)
    func remembers(_ topic: Span<UInt8>) -> Bool { writtenTopic.span.isEqual(to: topic) }

    mutating func remember(_ topic: Span<UInt8>) {
        writtenTopic.removeAll(keepingCapacity: true)
        if topic.count <= Limits.rememberedTopicBytes { writtenTopic.append(copying: topic) }
    }

    mutating func forgetTopic() { writtenTopic = [] }
}
