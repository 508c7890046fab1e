/// What a shard has counted since it began, and what it holds. Totals only grow.
package struct Counters: Sendable, Equatable {
    package var packetsReceived: UInt64 = 0
    package var packetsSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var publishesReceived: UInt64 = 0
    package var publishesSent: UInt64 = 0
    package var publishBytesReceived: UInt64 = 0
    package var publishBytesSent: UInt64 = 0
    /// Messages that a limit kept from a session.
    package var publishesDropped: UInt64 = 0
    /// Messages that their publisher had no right to publish.
    package var publishesDenied: UInt64 = 0
    /// Messages that a session held or was owed and that its client had no right to any more.
    package var publishesWithheld: UInt64 = 0
    /// Filters of SUBSCRIBE packets that gave no right to anything.
    package var subscriptionsDenied: UInt64 = 0
    /// CONNECT packets refused for who sent them, or what they showed.
    package var signInsRefused: UInt64 = 0
    /// Of those, for want of room in the queue of passwords that are being checked.
    package var signInsCrowdedOut: UInt64 = 0
    /// Connections that listeners have taken.
    package var connectionsOpened: UInt64 = 0
    /// CONNECT packets.
    package var connectsReceived: UInt64 = 0
    /// Sessions that `persistent_client_expiration` has ended.
    package var clientsExpired: UInt64 = 0

    /// TLS handshakes that came to their end, those of them that resumed an earlier session, and those that failed, were
    /// given up or took too long.
    package var handshakes: UInt64 = 0
    package var handshakesResumed: UInt64 = 0
    package var handshakesFailed: UInt64 = 0

    // What limits have done.

    /// Times that a publisher had to wait for another shard's mailbox.
    package var publishersHeld: UInt64 = 0
    /// Times that a publisher had to wait for its `publish_rate` or `publish_bandwidth`.
    package var publishersThrottled: UInt64 = 0
    /// Connections that `max_connections` and its like have turned away.
    package var connectionsRefused: UInt64 = 0
    /// CONNECT packets refused because of `global_max_clients`.
    package var sessionsRefused: UInt64 = 0
    /// CONNECT packets refused because of `max_keepalive`.
    package var keepAlivesRefused: UInt64 = 0
    /// Fights over a Client Identifier, and CONNECT packets that had to wait, or were refused, because of one.
    package var takeoverFights: UInt64 = 0
    package var takeoversDelayed: UInt64 = 0
    package var takeoversRefused: UInt64 = 0
    /// What `memory_limit` has cost, in the order of its stages: connections refused, QoS 0 messages dropped,
    /// connections closed, messages neither queued nor retained.
    package var memoryConnectionsRefused: UInt64 = 0
    package var memoryMessagesDropped: UInt64 = 0
    package var memoryConnectionsClosed: UInt64 = 0
    package var memoryMessagesNotStored: UInt64 = 0

    // What there is at the moment.

    package var connections = 0
    /// Messages held for sessions, queued or in flight: each counts once on a shard, however many sessions wait for it.
    package var heldMessages = 0
    /// Bytes of their payloads.
    package var heldBytes = 0
    /// Messages of queues that lie on the disk only.
    package var spilledMessages = 0

    package init() {}

    package static func + (left: Counters, right: Counters) -> Counters {
        var sum = left
        for total in totals { sum[keyPath: total] += right[keyPath: total] }
        sum.connections += right.connections
        sum.heldMessages += right.heldMessages
        sum.heldBytes += right.heldBytes
        sum.spilledMessages += right.spilledMessages
        return sum
    }

    private static var totals: [WritableKeyPath<Counters, UInt64>] {
        [
            \.packetsReceived, \.packetsSent, \.bytesReceived, \.bytesSent, \.publishesReceived, \.publishesSent,
            \.publishBytesReceived, \.publishBytesSent, \.publishesDropped, \.publishesDenied, \.publishesWithheld,
            \.subscriptionsDenied, \.signInsRefused, \.signInsCrowdedOut, \.connectionsOpened,
            \.connectsReceived, \.clientsExpired, \.handshakes, \.handshakesResumed, \.handshakesFailed,
            \.publishersHeld, \.publishersThrottled, \.connectionsRefused,
            \.sessionsRefused, \.keepAlivesRefused, \.takeoverFights, \.takeoversDelayed, \.takeoversRefused,
            \.memoryConnectionsRefused,
            \.memoryMessagesDropped, \.memoryConnectionsClosed, \.memoryMessagesNotStored,
        ]
    }
}
