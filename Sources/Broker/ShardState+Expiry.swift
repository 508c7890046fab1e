import MQTT

/// `persistent_client_expiration`: sessions whose client has been away for too long.
extension ShardState {
    /// The session's client has gone; its session stays, for a while.
    mutating func noteAbsent(_ slot: Int, since now: Instant) {
        sessions[slot].absentSince = now
        storeSession(slot)
        if limits.sessionExpiry > 0 { absent.append(UInt32(slot)) }
    }

    /// When the first of them ends.
    var nextSessionExpiry: Instant? {
        guard limits.sessionExpiry > 0 else { return nil }
        return absent.first.map { sessions[Int($0)].absentSince + limits.sessionExpiry }
    }

    mutating func expireSessions(_ now: Instant) {
        // What ends late ends with the next tick: nobody waits for many at once.
        for _ in 0..<Limits.sessionsExpiredAtOnce {
            guard let next = nextSessionExpiry, next <= now, let slot = absent.first else { return }
            removeSession(Int(slot))
            counters.clientsExpired += 1
        }
    }

    /// After the limit has changed: where there was none, nobody knows who has been away for how long.
    mutating func beginExpiry() {
        let slots = sessions.indices.filter { sessions[$0].isAbsent }
            .sorted { (sessions[$0].absentSince, $0) < (sessions[$1].absentSince, $1) }
        for slot in slots { absent.append(UInt32(slot)) }
    }
}
