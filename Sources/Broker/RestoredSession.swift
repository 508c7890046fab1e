package import MQTT

/// A session as the disk had it when the broker began.
package struct RestoredSession: Sendable {
    package let session: StoredSession
    package let client: ClientIdentifier
    package let participant: Participant?
    /// Nil: its client was connected.
    package var absentSince: Instant?
    package var subscriptions: [(filter: [UInt8], maximumQoS: QoS)] = []
    /// Packet Identifiers of QoS 2 messages that have come and are not released.
    package var inbound: [PacketIdentifier] = []
    package var will: StoredWill?
    /// Messages in its queue, and their bytes.
    package var queued = 0
    package var queuedBytes = 0
    /// Those of them that have a Packet Identifier: they don't count for the limits of a queue.
    package var inFlight = 0
    package var inFlightBytes = 0
    /// The place of the next.
    package var nextSequence: UInt64 = 1

    package init(
        session: StoredSession, client: ClientIdentifier, participant: Participant?, absentSince: Instant?
    ) {
        self.session = session
        self.client = client
        self.participant = participant
        self.absentSince = absentSince
    }

    var hasSharedSubscriptions: Bool {
        subscriptions.contains { (try? $0.filter.span.sharedSubscription()) ?? nil != nil }
    }
}
