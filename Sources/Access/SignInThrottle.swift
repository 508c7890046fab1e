internal import Cryptography

/// Who has tried wrong passwords, and has to wait. Asked only about passwords that can be guessed
/// (`AccessControl.guessedName(of:)`): a device's secret, a certificate or a key is always let through to its check, which
/// costs next to nothing.
///
/// - A name from one address: after `login_attempts` failures each further one makes it wait, twice as long each time, up
///   to the time in which one failure is forgotten. Nobody can make a name wait at another's address.
/// - An address: after four times as many, in all its names, those names wait that have not signed in from there yet; one
///   at a time, at most ten seconds, and not at all behind somebody who knew the password. What waits already does not
///   count, so one device behind a router that goes on with an old password does not hold up the others.
/// - A name from everywhere: after ten times as many, an address that has not signed in with it yet has one try instead of
///   `login_attempts`. It is never locked out.
///
/// A value; milliseconds of a clock that only goes forward are its time.
package struct SignInThrottle: Sendable {
    package enum Limits {
        package static let pairs = 32_768
        package static let addresses = 8_192
        package static let names = 8_192
        /// Times `login_attempts`.
        package static let attemptsOfAddress = 4
        package static let attemptsOfName = 10
        /// Milliseconds.
        package static let firstDelay: Int64 = 1_000
        package static let longestDelayOfAddress: Int64 = 10_000
    }

    /// Where a sign-in comes from.
    package struct Source: Hashable, Sendable {
        /// Nil: from this machine by a unix socket.
        private let network: UInt64?
        private let isIPv6: Bool

        /// An address by its 4 or 16 bytes. IPv6 counts by its first half, for the other is the client's to choose; an IPv4
        /// address in IPv6's form is itself.
        package init(address: [UInt8]) {
            let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
            let isMapped = address.count == 16 && address.starts(with: mapped)
            isIPv6 = address.count == 16 && !isMapped
            let counted = isMapped ? address.suffix(4) : address.prefix(8)
            network = counted.isEmpty ? nil : counted.reduce(0) { $0 << 8 | UInt64($1) }
        }

        package static let local = Source(address: [])
        var isLocal: Bool { network == nil }
    }

    /// Who has begun to wait: worth a line in the log.
    package enum Beginning: Sendable, Equatable { case nameAtAddress, address, name }

    private struct Pair: Hashable {
        let name: UInt64
        let source: Source
    }

    private struct Failures {
        var count = 0
        var latest: Int64 = 0
        private var forgottenUntil: Int64 = 0
        private var announced: Int64?

        mutating func forget(every interval: Int64, at now: Int64) {
            let steps = (now - forgottenUntil) / interval
            guard steps > 0 else { return }
            count = Int(max(0, Int64(count) - steps))
            forgottenUntil += steps * interval
        }

        mutating func add(at now: Int64) {
            if count == 0 { forgottenUntil = now }
            count += 1
            latest = now
        }

        /// Whether it is now at its limit, and this has not been said within the hour.
        mutating func begins(at limit: Int, now: Int64) -> Bool {
            guard count >= limit, announced.map({ now - $0 >= hour }) ?? true else { return false }
            announced = now
            return true
        }
    }

    private struct PairRecord {
        var failures = Failures()
        /// Under way.
        var pending = 0
        var hasSucceeded = false
    }

    private struct AddressRecord {
        var failures = Failures()
        var nextAttempt: Int64 = 0
    }

    /// Failed sign-ins an hour (`login_attempts`), 1 and up.
    package var attempts: Int
    /// Failures so far.
    package private(set) var failures: UInt64 = 0
    /// Refused without a look at the password.
    package private(set) var refusals: UInt64 = 0
    private var pairs = RecencyTable<Pair, PairRecord>(capacity: Limits.pairs)
    private var addresses = RecencyTable<Source, AddressRecord>(capacity: Limits.addresses)
    private var names = RecencyTable<UInt64, Failures>(capacity: Limits.names)

    package init(attempts: Int) {
        precondition(attempts > 0, "one attempt an hour at least")
        self.attempts = attempts
    }

    /// Whether a password may be looked at now. If so, the caller says what came of it: `failed`, `succeeded` or
    /// `abandoned`. Else it refuses at once.
    package mutating func permits(_ name: [UInt8], from source: Source, at now: Int64) -> Bool {
        let pair = Pair(name: Self.digest(name), source: source)
        guard mayTry(pair, at: now), mayTryAddress(of: pair, at: now) else {
            refusals += 1
            return false
        }
        pairs.update(pair, from: PairRecord()) { $0.pending += 1 }
        return true
    }

    /// It was not the password. Returns who has to wait from now on, who had not before.
    package mutating func failed(_ name: [UInt8], from source: Source, at now: Int64) -> Beginning? {
        failures += 1
        let pair = Pair(name: Self.digest(name), source: source)
        let free = freeAttempts(of: pair, at: now)
        let interval = interval
        let (counts, pairBegins) = pairs.update(pair, from: PairRecord()) { record in
            record.pending = max(0, record.pending - 1)
            record.failures.forget(every: interval, at: now)
            record.failures.add(at: now)
            return (record.failures.count <= free, record.failures.begins(at: free, now: now))
        }
        var beginning: Beginning? = pairBegins ? .nameAtAddress : nil
        guard counts else { return beginning }
        let ofName = attempts * Limits.attemptsOfName
        let nameBegins = names.update(pair.name, from: Failures()) { record in
            record.forget(every: interval / Int64(Limits.attemptsOfName), at: now)
            record.add(at: now)
            return record.begins(at: ofName, now: now)
        }
        if nameBegins { beginning = .name }
        guard !source.isLocal else { return beginning }
        let ofAddress = attempts * Limits.attemptsOfAddress
        let addressBegins = addresses.update(source, from: AddressRecord()) { record in
            record.failures.forget(every: interval / Int64(Limits.attemptsOfAddress), at: now)
            record.failures.add(at: now)
            return record.failures.begins(at: ofAddress, now: now)
        }
        return addressBegins ? .address : beginning
    }

    /// It was the password: what this name has failed from there is forgotten.
    package mutating func succeeded(_ name: [UInt8], from source: Source, at now: Int64) {
        pairs.update(Pair(name: Self.digest(name), source: source), from: PairRecord()) { record in
            record = PairRecord(pending: max(0, record.pending - 1), hasSucceeded: true)
        }
        guard addresses[source] != nil else { return }
        addresses.update(source, from: AddressRecord()) { $0.nextAttempt = now }
    }

    /// Nobody looked at the password after all.
    package mutating func abandoned(_ name: [UInt8], from source: Source) {
        let pair = Pair(name: Self.digest(name), source: source)
        guard pairs[pair] != nil else { return }
        pairs.update(pair, from: PairRecord()) { $0.pending = max(0, $0.pending - 1) }
    }
}

extension SignInThrottle {
    /// In which a failure of one name at one address is forgotten, milliseconds.
    private var interval: Int64 { max(hour / Int64(attempts), Int64(Limits.attemptsOfName)) }

    private static func digest(_ name: [UInt8]) -> UInt64 {
        sha256(name).prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    private func freeAttempts(of pair: Pair, at now: Int64) -> Int {
        guard var failures = names[pair.name], pairs[pair]?.hasSucceeded != true else { return attempts }
        failures.forget(every: interval / Int64(Limits.attemptsOfName), at: now)
        return failures.count >= attempts * Limits.attemptsOfName ? 1 : attempts
    }

    private func mayTry(_ pair: Pair, at now: Int64) -> Bool {
        guard var record = pairs[pair] else { return true }
        record.failures.forget(every: interval, at: now)
        let (count, free) = (record.failures.count, freeAttempts(of: pair, at: now))
        guard count > 0 else { return true }
        // After a failure, many at once are not more than one after the other. Before it they may be a fleet that shares
        // a name; how many guesses that leaves is bounded by who checks passwords.
        if record.pending > 0, count + record.pending >= free { return false }
        return count < free || now >= record.failures.latest + Self.delay(count - free, atMost: interval)
    }

    /// Takes the address's turn, where it has to wait for one.
    private mutating func mayTryAddress(of pair: Pair, at now: Int64) -> Bool {
        guard !pair.source.isLocal, pairs[pair]?.hasSucceeded != true, var record = addresses[pair.source] else {
            return true
        }
        record.failures.forget(every: interval / Int64(Limits.attemptsOfAddress), at: now)
        let surplus = record.failures.count - attempts * Limits.attemptsOfAddress
        guard surplus >= 0 else { return true }
        guard now >= record.nextAttempt else { return false }
        let delay = Self.delay(surplus, atMost: Limits.longestDelayOfAddress)
        addresses.update(pair.source, from: record) { $0.nextAttempt = now + delay }
        return true
    }

    private static func delay(_ surplus: Int, atMost longest: Int64) -> Int64 {
        min(Limits.firstDelay << Int64(min(surplus, 30)), longest)
    }
}

private let hour: Int64 = 3_600_000
