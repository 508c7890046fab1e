import Access
import DequeModule
package import MQTT

/// What all shards share: who subscribes to what, what is retained, and where each session lives. A plain value; the
/// shards share one behind a lock and hold it for one question at a time.
package struct Directory: Sendable {
    private var subscriptions: SubscriptionTree
    private var retained: RetainedTree
    private var sessions: SessionTable
    /// What the store has not written yet; nil where nothing is written.
    private var unsavedRetained: UnsavedRetained?
    /// Clients whose session has gone while the disk has it still, with the round that removes it there; and in about the order
    /// of those.
    private var unsavedRemovals: [ClientIdentifier: CommitTicket] = [:]
    private var removalOrder = Deque<(client: ClientIdentifier, round: CommitTicket)>()
    /// How many sessions there may be; 0: no limit.
    var sessionLimit = 0

    /// `seed` keeps clients from choosing topics that hash alike; a simulation passes a number of its own.
    package init(shards: Int, seed: UInt64) {
        subscriptions = SubscriptionTree(seed: seed)
        retained = RetainedTree(seed: seed)
        sessions = SessionTable(shards: shards)
    }

    /// The answer to "where does this client's session live?".
    package enum Home: Equatable, Sendable {
        /// On the shard that asked; the session is known, or has been made just now.
        case here(SessionReference, isNew: Bool)
        case elsewhere(shard: Int)
        /// Nowhere: there are as many sessions as there may be.
        case full
    }

    // MARK: Sessions

    /// The shard where a client's session lives, or will live if it is new.
    package mutating func shard(for client: ClientIdentifier, askedFrom shard: Int) -> Int {
        if let number = sessions.number(of: client) { return sessions.shard(of: number) }
        return isFull ? shard : sessions.place()
    }

    private var isFull: Bool { sessionLimit > 0 && sessions.count >= sessionLimit }

    /// Finds the home of a client's session, or gives it one on the asking shard, which `shard(for:)` has chosen. A
    /// session never moves, so a takeover has one owner.
    package mutating func home(of client: ClientIdentifier, askedFrom shard: Int) -> Home {
        if let number = sessions.number(of: client) {
            let home = sessions.shard(of: number)
            guard home == shard else { return .elsewhere(shard: home) }
            let reference = SessionReference(number: number, incarnation: sessions[number].incarnation)
            return .here(reference, isNew: false)
        }
        guard !isFull else { return .full }
        return .here(sessions.add(client, shard: shard), isNew: true)
    }

    /// The shard where a client's session lives; nil: it has none.
    package func home(of client: ClientIdentifier) -> Int? { sessions.number(of: client).map(sessions.shard) }

    /// Its session, wherever it lives.
    func session(of client: ClientIdentifier) -> SessionReference? {
        sessions.number(of: client).map { SessionReference(number: $0, incarnation: sessions[$0].incarnation) }
    }

    func subscriptionCount(of session: SessionReference) -> Int { Int(sessions[session.number].subscriptionCount) }

    package func hasSession(of client: ClientIdentifier) -> Bool { sessions.number(of: client) != nil }

    package mutating func setConnected(_ session: SessionReference, _ isConnected: Bool) {
        sessions.setConnected(session.number, isConnected)
    }

    /// The session is on the disk: whoever publishes to it may have to wait for that.
    package mutating func setLasting(_ session: SessionReference) { sessions.setLasting(session.number) }

    /// Makes a session that was on the disk, on any shard.
    package mutating func restore(_ session: RestoredSession) -> SessionReference {
        let reference = sessions.add(session.client, shard: sessions.place())
        sessions.setLasting(reference.number)
        for subscription in session.subscriptions {
            _ = subscribe(reference, to: subscription.filter.span, at: subscription.maximumQoS)
        }
        return reference
    }

    /// Drops some of a session's subscriptions; true while there are more.
    package mutating func removeSubscriptions(of session: SessionReference, atMost limit: Int) -> Bool {
        subscriptions.remove(of: session.number, atMost: limit, sessions: &sessions)
    }

    /// Forgets a session, whose subscriptions are gone.
    package mutating func remove(_ session: SessionReference) {
        precondition(sessions[session.number].incarnation == session.incarnation, "a session that is gone already")
        precondition(sessions[session.number].subscriptions == 0, "a session that would leave subscriptions behind")
        sessions.remove(session.number)
    }

    /// What a session's client may do, so that of a shared subscription only those are chosen that may read the message.
    /// Nil: it may read everything that it subscribes to.
    mutating func setRights(_ session: SessionReference, _ rights: Rights?) {
        sessions.setRights(session.number, rights)
    }

    // MARK: Messages

    /// Appends who gets a message published to `topic`.
    package mutating func match(_ topic: Span<UInt8>, into receivers: inout [Receiver]) {
        subscriptions.match(topic, sessions: &sessions, into: &receivers)
    }

    /// Stores or removes the retained message of a topic and appends who gets it, in one step: a subscription is either
    /// before it and gets it live, or after it and finds it retained. False when it is not kept because that would take
    /// more memory, and nothing `mayGrow`. `isLasting`: it goes to the store.
    @discardableResult
    package mutating func retain(
        _ message: ApplicationMessage, qos: QoS, by publisher: Participant? = nil, mayGrow: Bool = true,
        isLasting: Bool = false, into receivers: inout [Receiver]
    ) -> Bool {
        let topic = message.bytes.span.extracting(message.topicRange)
        let isKept = retained.store(message, topic: topic, qos: qos, publisher: publisher, mayGrow: mayGrow)
        if isLasting, isKept {
            unsavedRetained?.append(RetainedMessage(message: message, qos: qos, publisher: publisher))
        }
        match(topic, into: &receivers)
        return isKept
    }

    // MARK: The store

    /// From now on what is retained and `isLasting` is kept for `takeUnsavedRetained`. `stored` is what the store has.
    package mutating func begin(with stored: [RetainedMessage], _ durability: DurabilityRules) {
        var unsaved = UnsavedRetained()
        for one in stored {
            let topic = one.message.bytes.span.extracting(one.message.topicRange)
            if durability.durability(of: topic) > .memory {
                _ = retained.store(one.message, topic: topic, qos: one.qos, publisher: one.publisher)
            } else {  // It was to last before, and is old by now.
                let nothing = ApplicationMessage(topic: topic, payload: Span())
                unsaved.append(RetainedMessage(message: nothing, qos: .atMostOnce, publisher: nil))
            }
        }
        unsavedRetained = unsaved
    }

    /// What has been retained since the last time, each topic once; an empty payload clears it. Whoever takes it writes it,
    /// before anything that is taken later.
    package mutating func takeUnsavedRetained() -> [RetainedMessage] { unsavedRetained?.take() ?? [] }

    /// Whether that has something to give.
    package var hasUnsavedRetained: Bool { !(unsavedRetained?.isEmpty ?? true) }

    /// A session has gone, and that round removes it from the disk.
    mutating func noteRemoval(of client: ClientIdentifier, in round: CommitTicket, committed: CommitTicket) {
        forgetRemovals(committed)
        unsavedRemovals[client] = round
        removalOrder.append((client, round))
    }

    /// The round that takes a session of this client from the disk: before it a crash would bring it back. Nil: none.
    mutating func removal(of client: ClientIdentifier, committed: CommitTicket) -> CommitTicket? {
        forgetRemovals(committed)
        guard let round = unsavedRemovals[client], round > committed else { return nil }
        return round
    }

    private mutating func forgetRemovals(_ committed: CommitTicket) {
        while let first = removalOrder.first, first.round <= committed {
            removalOrder.removeFirst()
            if unsavedRemovals[first.client] == first.round { unsavedRemovals[first.client] = nil }
        }
    }

    // MARK: Subscriptions

    /// Adds or replaces a subscription. Returns the cursor over what is retained for it; shared subscriptions get
    /// nothing that is retained.
    package mutating func subscribe(
        _ session: SessionReference, to filter: Span<UInt8>, at maximumQoS: QoS
    ) -> RetainedCursor? {
        let shared = Self.shared(filter)
        let own = filter.extracting((shared?.filter ?? 0)..<filter.count)
        if let shared {
            subscriptions.insert(
                own, group: filter.extracting(shared.group), maximumQoS: maximumQoS, session: session.number,
                sessions: &sessions
            )
            return nil
        }
        subscriptions.insert(
            own, group: nil, maximumQoS: maximumQoS, session: session.number, sessions: &sessions
        )
        guard retained.count > 0 else { return nil }
        let cursor = retained.cursor(filter, maximumQoS: maximumQoS)
        return retained.hasNothing(for: cursor) ? nil : cursor
    }

    package mutating func unsubscribe(_ session: SessionReference, from filter: Span<UInt8>) {
        if let shared = Self.shared(filter) {
            subscriptions.remove(
                filter.extracting(shared.filter..<filter.count), group: filter.extracting(shared.group),
                session: session.number, sessions: &sessions
            )
        } else {
            subscriptions.remove(
                filter, group: nil, session: session.number, sessions: &sessions
            )
        }
    }

    /// What a session subscribed to, without the names of shared subscriptions; nil when that is more than `limit` filters,
    /// or they have more than `levelLimit` levels.
    package func filters(of session: SessionReference, atMost limit: Int, levels levelLimit: Int) -> [[UInt8]]? {
        subscriptions.filters(of: session.number, atMost: limit, levels: levelLimit, sessions: sessions)
    }

    private static func shared(_ filter: Span<UInt8>) -> (group: Range<Int>, filter: Int)? {
        // The filter was validated when it was decoded.
        guard let shared = try? filter.sharedSubscription() else { return nil }
        return shared
    }

    package mutating func readRetained(
        _ cursor: inout RetainedCursor, steps: Int, limit: Int, into found: inout [RetainedMessage]
    ) {
        retained.read(&cursor, steps: steps, limit: limit, into: &found)
    }

    /// A cursor over all that matches, whenever it is stored, for somebody who looks: to be read to its end, or closed.
    package func retainedCursor(_ filter: [UInt8]) -> RetainedCursor { retained.cursor(ofAll: filter.span) }

    package func hasRetained(_ topic: Span<UInt8>) -> Bool { retained.has(topic) }

    package mutating func close(_ cursor: inout RetainedCursor) { retained.close(&cursor) }

    // MARK: Figures

    package var sessionCount: Int { sessions.count }
    package var connectedSessionCount: Int { sessions.connectedCount }
    package var subscriptionCount: Int { subscriptions.count }
    package var sharedSubscriptionCount: Int { subscriptions.sharedCount }
    package var retainedCount: Int { retained.count }
    /// Bytes of the retained messages' payloads.
    package var retainedBytes: Int { retained.byteCount }
}
