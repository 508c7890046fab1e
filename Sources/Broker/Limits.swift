/// The bounds of what grows. Each protects a box of 512 MB by its default; 0 means "no limit" where it says so.
package struct Limits: Sendable {
    /// Whole packets from clients, bytes (`max_packet_size`).
    package var packetBytes = 2_000_000
    /// Payloads, bytes (`message_size_limit`); what is longer is acknowledged and dropped. 0: no limit.
    package var payloadBytes = 0
    /// QoS 1 and 2 messages on their way to one client (`max_inflight_messages`); 0: 65,535, as many as identifiers.
    package var inFlightMessages = 20
    /// Their bytes (`max_inflight_bytes`); one message always goes. 0: no limit.
    package var inFlightBytes = 0
    /// QoS 1 and 2 messages that wait for one session (`max_queued_messages`). 0: no limit.
    package var queuedMessages = 1000
    /// Their bytes (`max_queued_bytes`). 0: no limit.
    package var queuedBytes = 0
    /// Whether QoS 0 messages wait for an offline session too (`queue_qos0_messages`).
    package var queuesAtMostOnce = false
    /// Whether messages go out with the QoS of their subscription even if they came with less (`upgrade_outgoing_qos`).
    package var upgradesQoS = false
    /// Whether a retained message goes out only while its publisher has the right to it (`check_retain_source`).
    package var checksRetainSource = true
    /// Whether a filter that gives no right to anything is answered with 0x80 instead of being granted in vain
    /// (`subscribe_denied`).
    package var refusesDeniedSubscriptions = true
    /// Whether messages may be retained (`retain_available`); who tries to, else, is disconnected.
    package var isRetainAvailable = true
    /// Seconds; a CONNECT that asks for a longer keep-alive, or none, is refused (`max_keepalive`). 0: no limit.
    package var keepAlive: UInt16 = 0
    /// What every Client Identifier begins with (`clientid_prefixes`).
    package var clientIdentifierPrefix: [UInt8] = []
    /// Sessions of all shards, whether their client is there or not (`global_max_clients`). 0: no limit.
    package var sessions = 0
    /// Milliseconds for which a session is kept while its client is away (`persistent_client_expiration`). 0: for ever.
    package var sessionExpiry: Int64 = 0
    /// Connections at once over all listeners (`global_max_connections`). 0: no limit.
    package var connections = 0
    /// From the connection to the end of its CONNECT, milliseconds (`connect_timeout`).
    package var connectTimeout: Int64 = 10_000
    /// Bytes posted to one shard that it has not handled yet. Past it QoS 0 is dropped, QoS 1 and 2 stop their publisher.
    package var mailboxBytes = 16 << 20

    /// PUBLISH packets a second from one connection (`publish_rate`). 0: no limit.
    package var publishRate = 0
    /// Their bytes a second (`publish_bandwidth`). 0: no limit.
    package var publishBandwidth = 0
    /// Takeovers of one session in `takeoverWindow` from which on a newcomer waits, unless `takeoverRounds` says so before.
    /// 0: nobody waits.
    package var takeovers = 200

    /// Messages in one step for one session that catches up, so that nobody else waits for it.
    package var messagesPerStep = 256

    package init() {}

    /// Bytes for one connection that the kernel has not taken yet. Past it QoS 0 is dropped, QoS 1 and 2 wait.
    package static let outputBytes = 1 << 20
    /// Bytes of replies past `outputBytes` at which the connection is no longer read.
    package static let replyBytes = 64 << 10
    /// Acknowledgements of one connection that wait for the disk. Past it the connection is not read.
    package static let waitingAcknowledgements = 10_000
    /// Messages that wait for one session in memory, and their bytes, past which the others lie on the disk only, if its queue
    /// is there.
    package static let waitingInMemory = 256
    package static let waitingBytesInMemory = 1 << 20
    /// Messages that are read from there at once, and their bytes.
    package static let rowsRead = 512
    package static let rowBytesRead = 1 << 20
    /// Milliseconds that a PINGRESP waits behind acknowledgements that wait for the disk.
    package static let pingPatience: Int64 = 1000
    /// Members of a shared subscription that are looked at to find one that is connected.
    package static let groupMembersSearched = 256
    /// Milliseconds for which a connection that is not read, because its output is full or a mailbox is, may take
    /// nothing before it counts as gone, if it has a keep-alive at all; more, where that says so.
    package static let unreadPatience: Int64 = 60_000
    /// Milliseconds after which a client with the longest keep-alive is missed [MQTT-3.1.2-24].
    package static let longestSilence: Int64 = 65_535 * 1500
    /// Connections that catch up in one turn, a step each.
    package static let connectionsPerStep = 32
    /// Repetitions of a SUBSCRIBE that a session has not been sent the retained messages for. What comes beyond takes the
    /// place of the latest: who reads nothing gets what is retained this often, not without end.
    package static let unreadSubscriptions = 16
    /// Sessions that end in one tick because their client has been away for too long.
    package static let sessionsExpiredAtOnce = 64
    /// Filters of a session that are looked at again when the rules change; one with more is asked about each message.
    package static let filtersReviewed = 64
    /// Levels of all of them: the directory is locked meanwhile.
    package static let filterLevelsReviewed = 1024
    /// The longest topic that a session remembers as one that its client may write to.
    package static let rememberedTopicBytes = 128
    /// Commands on their way before those of sessions that are gone are looked for; a power of two, as is each next time.
    package static let commandsBeforeSweep = 1024
    /// Sessions that are reviewed in one step when the rules have changed.
    package static let sessionsReviewedAtOnce = 256
    /// Nodes of the retained tree that are looked at in one slice, under the directory's lock; and slices in one step.
    package static let nodesPerSlice = 256
    package static let slicesPerStep = 8
    /// Messages longer than this are shared by their receivers instead of copied for each: up to here a copy costs less
    /// than a system call of its own.
    package static let copiedBytes = 8 << 10

    var inFlightCeiling: Int { inFlightMessages == 0 ? Int(UInt16.max) : inFlightMessages }
}

/// A point of monotonic time in milliseconds. Deciding code gets it as an argument and never asks a clock.
package struct Instant: Comparable, Sendable {
    package let milliseconds: Int64
    package init(milliseconds: Int64) { self.milliseconds = milliseconds }

    package static func < (left: Instant, right: Instant) -> Bool { left.milliseconds < right.milliseconds }
    package static func + (left: Instant, milliseconds: Int64) -> Instant {
        Instant(milliseconds: left.milliseconds + milliseconds)
    }
    package static func - (left: Instant, right: Instant) -> Int64 { left.milliseconds - right.milliseconds }
}
