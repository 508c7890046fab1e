import MQTT

/// What one connection has published, held against `publish_rate` and `publish_bandwidth`: for each the point of time,
/// in nanoseconds, at which what was taken is earned. A burst of one second is free.
struct Throttle: Sendable {
    private static let burst: Int64 = 1_000_000_000

    private var packets: Int64 = 0
    private var bytes: Int64 = 0

    /// Takes a PUBLISH into account. Returns how long nothing more is read from its connection.
    mutating func charge(bytes count: Int, now: Instant, _ limits: Limits) -> Instant? {
        let now = now.milliseconds * 1_000_000
        Self.charge(1, at: limits.publishRate, to: &packets, now: now)
        Self.charge(count, at: limits.publishBandwidth, to: &bytes, now: now)
        let earned = max(packets, bytes)
        return earned > now ? Instant(milliseconds: (earned + 999_999) / 1_000_000) : nil
    }

    /// Post-paid, so that a packet larger than the burst passes too, at the price of the longest pause.
    private static func charge(_ amount: Int, at rate: Int, to account: inout Int64, now: Int64) {
        guard rate > 0 else { return }
        let (nanoseconds, overflows) = Int64(amount).multipliedReportingOverflow(by: 1_000_000_000)
        let cost = overflows ? .max : nanoseconds / Int64(rate)
        let longest = Limits.longestPause * 1_000_000
        account = min(max(account, now - burst) + min(cost, burst + longest), now + longest)
    }
}

extension Limits {
    /// The longest that `publish_rate` and `publish_bandwidth` leave a connection unread at a time, milliseconds: no
    /// PINGREQ waits longer, unless the client's own PUBLISH packets lie before it.
    package static let longestPause: Int64 = 5_000

    @inline(__always)
    var throttlesPublishers: Bool { publishRate | publishBandwidth != 0 }
}

/// Connections that are left unread for a time.
extension ShardState {
    /// A PUBLISH has come: what the client is beyond its rate it waits for.
    mutating func throttle(_ number: ConnectionNumber, bytes: Int, _ outbox: inout Outbox) {
        guard !connections[Int(number)].isAtItsEnd else { return }
        while throttles.count <= Int(number) { throttles.append(Throttle()) }
        let now = connections[Int(number)].latestPacket
        guard let end = throttles[Int(number)].charge(bytes: bytes, now: now, limits) else { return }
        if connections[Int(number)].pausedUntil == nil { counters.publishersThrottled += 1 }
        pause(number, until: end)
        outbox.hold = .rest
    }

    mutating func pause(_ number: ConnectionNumber, until end: Instant) {
        connections[Int(number)].pausedUntil = end
        timers.schedule(number, at: end)
    }

    package func isPaused(_ number: ConnectionNumber) -> Bool { connections[Int(number)].pausedUntil != nil }

    /// Ends a pause; the caller asks `takeWoken` for whom to read again.
    mutating func wake(_ number: ConnectionNumber, now: Instant) {
        connections[Int(number)].pausedUntil = nil
        connections[Int(number)].latestPacket = now
        let silence = connections[Int(number)].silence
        if connections[Int(number)].phase == .awaitingConnect {
            timers.schedule(number, at: now + limits.connectTimeout)
        } else if silence > 0 {
            timers.schedule(number, at: now + silence)
        } else {
            timers.cancel(number)
        }
        stopWaiting(number)
        woken.append(number)
    }

    /// A connection whose pause is over, if there is one. It may be gone meanwhile, or be another.
    package mutating func takeWoken() -> ConnectionNumber? { woken.popLast() }

    /// The peer is gone, and what it had sent is read to its end: nothing makes it wait any more.
    package mutating func endPauses(_ number: ConnectionNumber, now: Instant) {
        connections[Int(number)].isAtItsEnd = true
        guard isPaused(number) else { return }
        wake(number, now: now)
    }
}
