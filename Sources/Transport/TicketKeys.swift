import CLinux
import Cryptography
import Glibc
import Locks

/// The keys that session tickets are sealed with (RFC 5077, RFC 8446 4.6.1). A ticket is the client's to keep, so that a
/// fleet resumes for nothing here; who had a key could read what it sealed, so a key doesn't live long. From any thread.
package final class TicketKeys: Sendable {
    /// AES-256 and HMAC-SHA256, and the name that stands in the ticket.
    struct Key: Sendable {
        let name: [UInt8]
        let cipherKey: [UInt8]
        let authenticationKey: [UInt8]
        /// Seconds.
        let made: Int64

        init(made: Int64) {
            name = randomBytes(16)
            cipherKey = randomBytes(32)
            authenticationKey = randomBytes(32)
            self.made = made
        }
    }

    /// Seconds for which a key seals, and as many again, twice, for which it still opens.
    package static let period: Int64 = 3600
    private static let lifetime = 3 * period

    private let keys: Lock<[Key]>
    private let seconds: @Sendable () -> Int64

    /// `seconds`: a clock that never jumps and doesn't stop while the machine sleeps.
    package init(seconds: @escaping @Sendable () -> Int64 = secondsSinceBoot) {
        self.seconds = seconds
        keys = Lock([Key(made: seconds())])
    }

    /// The key for a new ticket.
    func sealing() -> Key {
        let now = seconds()
        return keys.withLock { keys in
            if now - keys[0].made >= Self.period {
                keys.removeAll { now - $0.made >= Self.lifetime }
                keys.insert(Key(made: now), at: 0)
            }
            return keys[0]
        }
    }

    /// The key with that name, and whether the client shall get a new ticket; nil for one that is gone, or never was.
    func opening(_ name: [UInt8]) -> (key: Key, isOld: Bool)? {
        let now = seconds()
        return keys.withLock { keys in
            guard let key = keys.first(where: { $0.name == name }), now - key.made < Self.lifetime else { return nil }
            return (key, now - key.made >= Self.period)
        }
    }
}

/// The corresponding C function is `clock_gettime` with CLOCK_BOOTTIME.
package func secondsSinceBoot() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_BOOTTIME, &time)
    return Int64(time.tv_sec)
}
