import MQTT

/// What one client has published, held against `publish_rate` and `publish_bandwidth`: for each the point of time,
/// in nanoseconds, at which what was taken is earned. A burst of one second is free.
struct Throttle: Sendable {
    private static let burst: Int64 = 1_000_000_000

    private var packets: Int64 = 0
    private var bytes: Int64 = 0

    /// Takes a PUBLISH into account.
    mutating func charge(bytes count: Int, now: Instant, _ limits: Limits) {
        let now = Self.nanoseconds(now)
        Self.charge(1, at: limits.publishRate, to: &packets, now: now)
        Self.charge(count, at: limits.publishBandwidth, to: &bytes, now: now)
    }

    /// When all that was taken is earned, if it is not yet.
    func debtEnds(after now: Instant) -> Instant? {
        let earned = max(packets, bytes)
        return earned > Self.nanoseconds(now) ? Instant(milliseconds: (earned + 999_999) / 1_000_000) : nil
    }

    /// Whether it is as good as a new one.
    func isFull(_ now: Instant) -> Bool { max(packets, bytes) <= Self.nanoseconds(now) - Self.burst }

    private static func nanoseconds(_ instant: Instant) -> Int64 { instant.milliseconds * 1_000_000 }

    /// Post-paid, so that a packet larger than the burst passes too; the next one then waits until it is paid.
    private static func charge(_ amount: Int, at rate: Int, to account: inout Int64, now: Int64) {
        guard rate > 0 else { return }
        let (nanoseconds, overflows) = Int64(amount).multipliedReportingOverflow(by: 1_000_000_000)
        let cost = overflows ? .max : nanoseconds / Int64(rate)
        account = max(account, now - burst) + min(cost, longestDebt)
    }

    /// Nanoseconds: a day for one packet.
    private static let longestDebt: Int64 = 86_400_000_000_000
}

extension Limits {
    /// The longest that `publish_rate` and `publish_bandwidth` leave a connection unread at a time, milliseconds: no
    /// PINGREQ waits longer, unless the client's own PUBLISH packets lie before it.
    package static let longestPause: Int64 = 5_000
    /// Clients of a shard whose accounts are kept while they are away.
    package static let debtsRemembered = 1_024

    @inline(__always)
    var throttlesPublishers: Bool { publishRate | publishBandwidth != 0 }
}

/// Connections that are left unread for a time.
extension ShardState {
    /// Whether a PUBLISH has to wait, or is dropped, because its client is in debt. Then it has not been handled.
    mutating func mustEarn(_ number: ConnectionNumber, _ outbox: inout Outbox) -> Bool {
        guard Int(number) < throttles.count else { return false }
        let now = connections[Int(number)].latestPacket
        guard let end = throttles[Int(number)].debtEnds(after: now) else { return false }
        guard !connections[Int(number)].isAtItsEnd else {
            counters.publishesDropped += 1  // Who is gone awaits no acknowledgement.
            return true
        }
        rest(number, until: end, now: now)
        counters.packetsReceived -= 1  // It will be counted when it comes again, and nobody looks in between.
        outbox.hold.insert(.packet)
        return true
    }

    /// A PUBLISH has been taken.
    mutating func charge(_ number: ConnectionNumber, bytes: Int, _ outbox: inout Outbox) {
        while throttles.count <= Int(number) { throttles.append(Throttle()) }
        let now = connections[Int(number)].latestPacket
        throttles[Int(number)].charge(bytes: bytes, now: now, limits)
        guard !connections[Int(number)].isAtItsEnd, let end = throttles[Int(number)].debtEnds(after: now) else {
            return
        }
        rest(number, until: end, now: now)
        outbox.hold.insert(.rest)
    }

    private mutating func rest(_ number: ConnectionNumber, until end: Instant, now: Instant) {
        if connections[Int(number)].pausedUntil == nil { counters.publishersThrottled += 1 }
        pause(number, until: min(end, now + Limits.longestPause))
    }

    /// What a client owes stays when its connection goes, or it would only have to come again.
    mutating func keepDebt(of client: ClientIdentifier, _ number: ConnectionNumber, now: Instant) {
        guard Int(number) < throttles.count, !throttles[Int(number)].isFull(now) else { return }
        if debts.updateValue(throttles[Int(number)], forKey: client) == nil { debtors.append(client) }
        while let first = debtors.first, debtors.count > Limits.debtsRemembered || debts[first]?.isFull(now) ?? true {
            debts[first] = nil
            debtors.removeFirst()
        }
    }

    mutating func takeUpDebt(of client: ClientIdentifier, _ number: ConnectionNumber) {
        guard let debt = debts[client] else { return }
        while throttles.count <= Int(number) { throttles.append(Throttle()) }
        throttles[Int(number)] = debt
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
