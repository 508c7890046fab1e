import Access
package import MQTT

/// Names a session on the disk. Never given to another one.
package typealias StoredSession = Int64

/// Names a message that lies on the disk once for several queues.
package typealias SharedMessage = Int64

/// What one shard has to bring to the disk: the difference between two points of time, with all that belongs together. What
/// was made and has gone again between them is not in it.
package struct Changes: Sendable {
    /// A message in the queue of a session.
    package struct QueueRow: Sendable {
        package enum Kind: UInt8, Sendable {
            /// It has gone before it got to the disk.
            case nothing
            case insert
            /// Its Packet Identifier is another, or it is released.
            case update
            case delete
        }

        package fileprivate(set) var kind: Kind
        package let qos: QoS
        package let isRetained: Bool
        /// PUBREC has come: the message itself is not needed any more.
        package fileprivate(set) var isReleased: Bool
        /// 0: it has none yet.
        package fileprivate(set) var packetIdentifier: PacketIdentifier
        package let session: StoredSession
        /// Its place in the queue.
        package let sequence: UInt64
        /// The message lies, or lay, beside the queue.
        package let isShared: Bool
        /// Where, if it has come just now.
        package let shared: SharedMessage
        /// Of an `insert`: it is on the disk only, for its client has much to take before it.
        package let isSpilled: Bool
        /// Nil where it is on the disk already, or needed no more.
        package fileprivate(set) var message: ApplicationMessage?
        /// Of an `insert`: what is over for this session when it vanishes. 0: nothing.
        let handover: HandoverNumber
    }

    /// A session, as it is now.
    package struct SessionRow: Sendable {
        package let session: StoredSession
        package let client: ClientIdentifier
        package let participant: Participant?
        /// Since when its client is away; nil while it is connected.
        package let absentSince: Instant?
    }

    package struct SubscriptionRow: Sendable {
        package let session: StoredSession
        /// With the name of a shared subscription's group, if it is one.
        package let filter: [UInt8]
        /// Nil: it is given up.
        package let maximumQoS: QoS?
    }

    /// A Packet Identifier of a QoS 2 message from a client, which has come and is not released.
    package struct Inbound: Hashable, Sendable {
        package let session: StoredSession
        package let packetIdentifier: PacketIdentifier
    }

    package struct WillRow: Sendable {
        package let session: StoredSession
        /// Nil: there is none any more.
        package let will: StoredWill?
    }

    /// In their order.
    package fileprivate(set) var sessions: [SessionRow] = []
    package fileprivate(set) var subscriptions: [SubscriptionRow] = []
    package fileprivate(set) var wills: [WillRow] = []
    /// Each once.
    package fileprivate(set) var queue: [QueueRow] = []
    /// Whether it is there now.
    package fileprivate(set) var inbound: [Inbound: Bool] = [:]
    /// With all that is theirs, in this value too.
    package fileprivate(set) var removedSessions: [StoredSession] = []
    /// Of those of `inbound` that were there before this value began: they can't be left out.
    private var inboundBefore: Set<Inbound> = []
    /// Rows that are something.
    private var queueCount = 0
    /// About what it takes in memory.
    private(set) var byteCount = 0

    package init() {}

    /// Only that a session is no more.
    package init(removing session: StoredSession) { remove(session) }

    package var isEmpty: Bool {
        queueCount == 0 && sessions.isEmpty && subscriptions.isEmpty && wills.isEmpty && inbound.isEmpty
            && removedSessions.isEmpty
    }

    // MARK: Queues

    var nextRow: Int { queue.count }

    mutating func append(_ row: QueueRow) {
        queue.append(row)
        queueCount += 1
        byteCount += MemoryLayout<QueueRow>.stride + (row.message?.bytes.count ?? 0)
    }

    mutating func setIdentifier(_ identifier: PacketIdentifier, ofRow index: Int) {
        queue[index].packetIdentifier = identifier
    }

    mutating func release(row index: Int) {
        queue[index].isReleased = true
        byteCount -= queue[index].message?.bytes.count ?? 0
        queue[index].message = nil
    }

    /// Returns the handover that is over with it for this session; 0: none.
    mutating func delete(row index: Int) -> HandoverNumber {
        byteCount -= queue[index].message?.bytes.count ?? 0
        queue[index].message = nil
        if queue[index].kind == .insert {
            queue[index].kind = .nothing
            queueCount -= 1
        } else {
            queue[index].kind = .delete
        }
        return queue[index].handover
    }

    // MARK: The rest

    /// Returns where it is.
    mutating func keep(_ row: SessionRow, at index: Int?) -> Int {
        if let index {
            sessions[index] = row
            return index
        }
        sessions.append(row)
        byteCount += 128
        return sessions.count - 1
    }

    mutating func remove(_ session: StoredSession) {
        removedSessions.append(session)
        byteCount += 8
    }

    mutating func append(_ row: SubscriptionRow) {
        subscriptions.append(row)
        byteCount += MemoryLayout<SubscriptionRow>.stride + row.filter.count
    }

    mutating func append(_ row: WillRow) {
        wills.append(row)
        byteCount += MemoryLayout<WillRow>.stride + (row.will?.will.message.bytes.count ?? 0)
    }

    mutating func insert(_ inbound: Inbound) {
        if self.inbound[inbound] == false { inboundBefore.insert(inbound) }
        self.inbound[inbound] = true
        byteCount += 32
    }

    mutating func remove(_ inbound: Inbound) {
        let isNew = self.inbound[inbound] == true && !inboundBefore.contains(inbound)
        self.inbound[inbound] = isNew ? nil : false
        byteCount += 32
    }
}

/// The will of a client that has a session on the disk.
package struct StoredWill: Sendable {
    package let will: WillMessage
    /// Milliseconds after which the client would have been missed: one and a half times its keep-alive; 0: never.
    package let silence: Int64

    package init(will: WillMessage, silence: Int64) {
        self.will = will
        self.silence = silence
    }
}

/// Where the latest change of something is: in which round, and where in its `Changes`.
struct ChangePlace: Sendable, Equatable {
    /// 40 bits for the round, of which there are some hundred a second at most.
    private let number: UInt64

    static let none = ChangePlace(round: 0, index: 0)
    /// What stands behind this can't be found again, and its next change is one more.
    static let lastIndex = 1 << 24 - 1

    init(round: CommitTicket, index: Int) { number = round << 24 | UInt64(index) }

    /// 0: it is on the disk, or nowhere.
    var round: CommitTicket { number >> 24 }
    var index: Int { Int(number & 0xFF_FFFF) }
}
