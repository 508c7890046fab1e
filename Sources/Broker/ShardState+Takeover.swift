import MQTT

/// Newcomers that wait because their Client Identifier is fought over.
extension ShardState {
    /// Whether a newcomer that finds its session connected has to wait, or has been refused. Then its CONNECT has not
    /// been handled; it comes again when the wait is over.
    mutating func mustWait(
        _ number: ConnectionNumber, for client: ClientIdentifier, against incumbent: ConnectionNumber, _ now: Instant,
        _ outbox: inout Outbox
    ) -> Bool {
        guard limits.takeovers > 0 else { return false }
        guard !connections[Int(number)].hasWaited else {
            fights.tookOver(client, now: now)
            return false
        }
        let verdict = fights.newcomer(client, now: now, limit: limits.takeovers)
        noteEndedFights(&outbox)
        guard case .wait(let milliseconds, let isNewFight) = verdict else { return false }
        if isNewFight {
            counters.takeoverFights += 1
            outbox.note(.takeoverFight(number, against: incumbent, client: client))
        }
        guard waiters.count < Limits.waitingTakeovers else {
            counters.takeoversRefused += 1
            refuse(number, .serverUnavailable, now, &outbox)
            return true
        }
        counters.takeoversDelayed += 1
        connections[Int(number)].hasWaited = true
        waiters.append(Waiter(connection: number, client: client))
        pause(number, until: now + milliseconds)
        holdConnect(number, &outbox)
        return true
    }

    mutating func stopWaiting(_ number: ConnectionNumber) {
        guard !waiters.isEmpty else { return }
        waiters.removeAll { $0.connection == number }
    }

    /// A session has lost its connection: who waits to take it over need not wait any longer than to the next tick.
    mutating func hurryWaiters(for client: ClientIdentifier) {
        for waiter in waiters where waiter.client == client {
            pause(waiter.connection, until: connections[Int(waiter.connection)].latestPacket)
        }
    }

    mutating func noteEndedFights(_ outbox: inout Outbox) {
        while let fight = fights.takeOver() {
            outbox.note(.takeoverFightOver(client: fight.client, takeovers: fight.takeovers))
        }
    }
}

/// A connection whose CONNECT waits.
struct Waiter: Sendable {
    let connection: ConnectionNumber
    let client: ClientIdentifier
}
