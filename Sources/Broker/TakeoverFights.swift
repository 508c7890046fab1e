import DequeModule

/// Who has been taken over lately. Two clients with one Client Identifier that both reconnect throw each other out for
/// ever, many times a second or every few seconds; from some point on each newcomer waits, longer every time, until there
/// is calm. One burst of takeovers is no fight: it is over before anybody could name it.
struct TakeoverFights: Sendable {
    /// One session that has been taken over.
    private struct Record: Sendable {
        /// When the takeovers that are counted began.
        var since: Instant
        var recent = 0
        /// Seconds with a takeover, since there was calm; and when the latest of them began.
        var rounds = 0
        var round: Instant?
        /// Of a fight, the wait of the latest newcomer, milliseconds; 0 as long as it is none.
        var delay: Int64 = 0
        /// Takeovers of the fight.
        var total = 0
        var latest: Instant
    }

    /// What a newcomer has to do.
    enum Verdict: Equatable {
        case takeOver
        case wait(milliseconds: Int64, isNewFight: Bool)
    }

    private var records: [ClientIdentifier: Record] = [:]
    /// When to look at each record, about in order.
    private var checks = Deque<(client: ClientIdentifier, due: Instant)>()
    /// Fights that are over and have not been taken.
    private var over: [(client: ClientIdentifier, takeovers: Int)] = []
    private var fights = 0

    /// A CONNECT has come for a session that is connected. `limit`: takeovers in the window that nobody waits for.
    mutating func newcomer(_ client: ClientIdentifier, now: Instant, limit: Int) -> Verdict {
        expire(now)
        var record = records[client] ?? add(client, now)
        if record.delay == 0, now - record.since > Limits.takeoverWindow {
            record.since = now
            record.recent = 0
        }
        record.latest = now
        let isNewFight = record.delay == 0 && (record.recent >= limit || record.rounds >= Limits.takeoverRounds)
        var verdict = Verdict.takeOver
        if isNewFight || record.delay > 0 {
            if isNewFight {
                fights += 1
                record.total = record.recent
                record.delay = Limits.firstTakeoverDelay
            } else {
                record.delay = min(record.delay * 2, Limits.longestTakeoverDelay)
            }
            verdict = .wait(milliseconds: record.delay, isNewFight: isNewFight)
        } else {
            record.recent += 1
            if record.round.map({ now - $0 >= 1000 }) ?? true {
                record.rounds += 1
                record.round = now
            }
        }
        records[client] = record
        return verdict
    }

    /// A newcomer that has waited takes over now.
    mutating func tookOver(_ client: ClientIdentifier, now: Instant) {
        records[client]?.latest = now
        records[client]?.total += 1
    }

    /// Forgets who had calm. What fights are over then, `takeOver` tells.
    mutating func expire(_ now: Instant) {
        while let check = checks.first, check.due <= now {
            checks.removeFirst()
            guard let record = records[check.client] else { continue }
            let due = record.latest + Limits.takeoverWindow
            if due <= now { forget(check.client, record) } else { checks.append((check.client, due)) }
        }
    }

    /// A fight that is over, and how many takeovers it had.
    mutating func takeOver() -> (client: ClientIdentifier, takeovers: Int)? { over.popLast() }

    /// When `expire` has something to tell, at the earliest.
    var nextCheck: Instant? { fights > 0 ? checks.first?.due : nil }

    private mutating func add(_ client: ClientIdentifier, _ now: Instant) -> Record {
        if records.count >= Limits.takeoversRemembered, let oldest = checks.popFirst(),
            let record = records[oldest.client]
        {
            forget(oldest.client, record)
        }
        checks.append((client, now + Limits.takeoverWindow))
        return Record(since: now, latest: now)
    }

    private mutating func forget(_ client: ClientIdentifier, _ record: Record) {
        records[client] = nil
        guard record.delay > 0 else { return }
        fights -= 1
        over.append((client, record.total))
    }
}

extension Limits {
    /// Milliseconds in which `takeovers` are counted, and after which without one there is calm again.
    package static let takeoverWindow: Int64 = 10_000
    /// Different seconds with a takeover, without calm between them, from which on a newcomer waits.
    package static let takeoverRounds = 5
    /// How long the first newcomer of a fight waits, milliseconds; each further one twice as long, up to the longest.
    package static let firstTakeoverDelay: Int64 = 250
    package static let longestTakeoverDelay: Int64 = 5_000
    /// Sessions of a shard of which takeovers are remembered; the one that was taken over first goes.
    package static let takeoversRemembered = 1_024
    /// Connections of a shard that wait to take over; further ones are refused.
    package static let waitingTakeovers = 64
}
