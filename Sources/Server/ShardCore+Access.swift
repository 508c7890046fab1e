import Access
import Broker
import MQTT
import Transport

/// Passwords that are checked elsewhere, and rules that change.
extension ShardCore {
    /// Has a password checked away from the connections, which go on meanwhile.
    mutating func verify(_ number: ConnectionNumber, _ check: PasswordCheck) {
        let (shard, token) = (peers[state.shard], table.token(of: number))
        let isTaken = passwords.check(check) { principal in
            let result: Verification.Result =
                if let principal { .passed(principal) } else { .failed(.notAuthorized) }
            shard.post { $0.finishVerification(token, result) }
        }
        // Posted, for the packet that asks for it has not been put back yet.
        if !isTaken { shard.post { $0.finishVerification(token, .failed(.serverUnavailable)) } }
    }

    mutating func finishVerification(_ token: UInt64, _ result: Verification.Result) {
        guard let number = table.number(of: token) else { return }  // It has not waited for it.
        updateTime()
        state.finishVerification(number, result, now: now)
        resumeWoken()
    }

    /// `changed`: whose rights may be others now; nil for everybody's.
    mutating func adopt(_ access: AccessControl, changed: Set<Identity>?) {
        updateTime()
        state.adopt(access, changed: changed, now: now, into: &outbox)
        apply()
    }
}
