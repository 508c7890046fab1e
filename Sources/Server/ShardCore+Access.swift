import Access
import Broker
import Transport

/// Passwords that are checked elsewhere, and rules that change.
extension ShardCore {
    /// Has a password checked away from the connections, which go on meanwhile.
    mutating func verify(_ number: ConnectionNumber, _ check: PasswordCheck) {
        let (shard, token) = (peers[state.shard], table.token(of: number))
        let source = state.source(of: number)
        let isTaken = passwords.check(check) { principal in
            shard.post { $0.finish(check, from: source, for: token, proven: principal) }
        }
        // Posted, for the packet that asks for it has not been put back yet.
        if !isTaken { shard.post { $0.abandon(check, from: source, for: token) } }
    }

    mutating func finish(
        _ check: PasswordCheck, from source: SignInThrottle.Source, for token: UInt64, proven: Principal?
    ) {
        updateTime()
        state.finish(
            check, from: source, for: table.number(of: token), proven: proven, now: now, into: &outbox)
        apply()
        resumeWoken()
    }

    mutating func abandon(_ check: PasswordCheck, from source: SignInThrottle.Source, for token: UInt64) {
        updateTime()
        state.abandon(check, from: source, for: table.number(of: token), now: now, into: &outbox)
        apply()
        resumeWoken()
    }

    /// Ends connections whose client certificate no longer counts by the contexts that their listeners now have. At most
    /// `reviewedAtOnce`, from the slot `first` on; returns where to go on.
    mutating func reviewCertificates(from first: Int) -> Int? {
        updateTime()
        let end = min(first + Self.reviewedAtOnce, table.slots.count)
        for slot in first..<end {
            let number = ConnectionNumber(slot)
            if !isCertificateAccepted(number) { self.end(number, .notAuthorized) }
        }
        apply()
        return end < table.slots.count ? end : nil
    }

    /// By the context that the listener of a connection has now.
    func isCertificateAccepted(_ number: ConnectionNumber) -> Bool {
        let listener = Int(table[number].listener)
        guard let stream = table[number].stream, contexts.indices.contains(listener), let context = contexts[listener]
        else { return true }
        return stream.isAccepted(by: context)
    }

    /// `changed`: whose rights may be others now; nil for everybody's.
    mutating func adopt(_ access: AccessControl, changed: Set<Identity>?) {
        updateTime()
        state.adopt(access, changed: changed, now: now, into: &outbox)
        apply()
    }
}
