import Access
import Seeded
import Testing

/// A throttle that an expectation can ask.
private final class Gate {
    private(set) var throttle: SignInThrottle
    init(attempts: Int) { throttle = SignInThrottle(attempts: attempts) }

    func permits(_ name: [UInt8], from source: SignInThrottle.Source, at now: Int64) -> Bool {
        throttle.permits(name, from: source, at: now)
    }

    func failed(_ name: [UInt8], from source: SignInThrottle.Source, at now: Int64) -> SignInThrottle.Beginning? {
        throttle.failed(name, from: source, at: now)
    }

    func succeeded(_ name: [UInt8], from source: SignInThrottle.Source, at now: Int64) {
        throttle.succeeded(name, from: source, at: now)
    }

    func abandoned(_ name: [UInt8], from source: SignInThrottle.Source) { throttle.abandoned(name, from: source) }

    /// Tries a wrong password each `interval` and returns how many were looked at.
    func guess(
        _ name: [UInt8], from source: SignInThrottle.Source, every interval: Int, during span: Range<Int64>
    ) -> Int {
        var checks = 0
        for now in stride(from: span.lowerBound, to: span.upperBound, by: interval)
        where permits(name, from: source, at: now) {
            checks += 1
            _ = failed(name, from: source, at: now)
        }
        return checks
    }
}

@Suite struct `Throttling of sign-ins` {
    private static let home = SignInThrottle.Source(address: [192, 0, 2, 1])
    private static let elsewhere = SignInThrottle.Source(address: [198, 51, 100, 7])
    private static let minute: Int64 = 60_000
    private static let hour = 60 * minute

    private static func name(_ number: Int) -> [UInt8] { Array("user\(number)".utf8) }

    @Test func `lets ten wrong passwords through, then fewer and fewer, and about ten an hour for ever`() {
        let throttle = Gate(attempts: 10)
        let first = throttle.guess(Self.name(1), from: Self.home, every: 500, during: 0..<Self.hour)
        #expect((15...30).contains(first), "\(first)")
        let later = throttle.guess(Self.name(1), from: Self.home, every: 500, during: Self.hour..<(5 * Self.hour))
        #expect((36...44).contains(later), "\(later)")
        #expect(throttle.throttle.refusals > 30_000 && throttle.throttle.failures == UInt64(first + later))
    }

    @Test func `forgets`() {
        let throttle = Gate(attempts: 10)
        _ = throttle.guess(Self.name(1), from: Self.home, every: 1, during: 0..<10)
        #expect(!throttle.permits(Self.name(1), from: Self.home, at: 10))
        #expect(
            throttle.guess(Self.name(1), from: Self.home, every: 1, during: (2 * Self.hour)..<(2 * Self.hour + 10))
                == 10)
    }

    @Test func `makes no name wait elsewhere, however often it is tried`() {
        let throttle = Gate(attempts: 10)
        for address in 0..<200 {
            let source = SignInThrottle.Source(address: [10, 0, 0, UInt8(address)])
            _ = throttle.guess(Self.name(1), from: source, every: 100, during: 0..<10_000)
        }
        // The owner, from a new address, with the right password the first time.
        #expect(throttle.permits(Self.name(1), from: Self.elsewhere, at: 10_000))
    }

    @Test func `gives a name that is tried from everywhere one attempt an address, and its own addresses all of them`()
    {
        let throttle = Gate(attempts: 10)
        #expect(throttle.permits(Self.name(1), from: Self.home, at: 0))
        throttle.succeeded(Self.name(1), from: Self.home, at: 0)
        var checks: [Int] = []
        for address in 0..<100 {
            let source = SignInThrottle.Source(address: [10, 0, 0, UInt8(address)])
            checks.append(throttle.guess(Self.name(1), from: source, every: 1, during: 0..<100))
        }
        #expect(checks.first == 10 && checks.last == 1)
        #expect(throttle.guess(Self.name(1), from: Self.home, every: 1, during: 100..<110) == 10)
    }

    @Test func `of an address slows names that it has not seen, one at a time, and never for long`() {
        let throttle = Gate(attempts: 10)
        var checks = 0
        for number in 0..<10_000 where throttle.permits(Self.name(number), from: Self.home, at: Int64(number) * 10) {
            checks += 1
            _ = throttle.failed(Self.name(number), from: Self.home, at: Int64(number) * 10)
        }
        // A hundred seconds of a hundred new names each.
        #expect((40...60).contains(checks), "\(checks)")
        #expect(throttle.permits(Self.name(1), from: Self.elsewhere, at: 100_000))
        #expect(throttle.permits(Self.name(77_777), from: Self.home, at: 111_000))
    }

    /// A fleet behind one router, with a device in it that never gives up an old password.
    @Test func `of one device does not hold up the others behind its router`() {
        let throttle = Gate(attempts: 10)
        _ = throttle.guess(Self.name(0), from: Self.home, every: 10_000, during: 0..<(24 * Self.hour))
        for number in 1...500 {
            let now = 24 * Self.hour + Int64(number)
            #expect(throttle.permits(Self.name(number), from: Self.home, at: now), "\(number)")
            throttle.succeeded(Self.name(number), from: Self.home, at: now)
        }
    }

    @Test func `of many devices holds up the others behind their router only until they have their turn`() {
        let throttle = Gate(attempts: 10)
        for number in 0..<50 {
            _ = throttle.guess(Self.name(number), from: Self.home, every: 1_000, during: 0..<20_000)
        }
        let start: Int64 = 30_000
        #expect(throttle.permits(Self.name(100), from: Self.home, at: start))
        #expect(!throttle.permits(Self.name(101), from: Self.home, at: start))
        throttle.succeeded(Self.name(100), from: Self.home, at: start)
        // Who knows the password makes room for the next at once, and never waits again.
        for number in 101..<300 {
            #expect(throttle.permits(Self.name(number), from: Self.home, at: start))
            throttle.succeeded(Self.name(number), from: Self.home, at: start)
        }
        for number in 100..<300 { #expect(throttle.permits(Self.name(number), from: Self.home, at: start)) }
    }

    @Test func `lets any number of right passwords through at once, also of one name`() {
        let throttle = Gate(attempts: 10)
        for _ in 0..<1_000 { #expect(throttle.permits(Self.name(1), from: Self.home, at: 0)) }
        for _ in 0..<1_000 { throttle.succeeded(Self.name(1), from: Self.home, at: 1) }
        #expect(throttle.permits(Self.name(1), from: Self.home, at: 2) && throttle.throttle.refusals == 0)
    }

    @Test func `counts what is under way once something has failed`() {
        let throttle = Gate(attempts: 10)
        #expect(throttle.permits(Self.name(1), from: Self.home, at: 0))
        _ = throttle.failed(Self.name(1), from: Self.home, at: 0)
        var checks = 0
        for _ in 0..<100 where throttle.permits(Self.name(1), from: Self.home, at: 1) { checks += 1 }
        #expect(checks == 9)
        for _ in 0..<checks { throttle.abandoned(Self.name(1), from: Self.home) }
        #expect(throttle.permits(Self.name(1), from: Self.home, at: 2))
    }

    @Test func `says once who begins to wait`() {
        let throttle = Gate(attempts: 10)
        var beginnings: [SignInThrottle.Beginning] = []
        for now in stride(from: Int64(0), to: Self.hour, by: 1_000)
        where throttle.permits(Self.name(1), from: Self.home, at: now) {
            if let beginning = throttle.failed(Self.name(1), from: Self.home, at: now) { beginnings.append(beginning) }
        }
        #expect(beginnings == [.nameAtAddress])
        for number in 2..<60 {
            if let beginning = throttle.failed(Self.name(number), from: Self.home, at: Self.hour) {
                beginnings.append(beginning)
            }
        }
        #expect(beginnings == [.nameAtAddress, .address])
    }

    @Test func `knows an address by what its owner can't choose`() {
        func source(_ bytes: [UInt8]) -> SignInThrottle.Source { .init(address: bytes) }
        let network: [UInt8] = [0x20, 0x01, 0x0D, 0xB8, 0, 1, 0, 2]
        #expect(source(network + [0, 0, 0, 0, 0, 0, 0, 1]) == source(network + [1, 2, 3, 4, 5, 6, 7, 8]))
        #expect(
            source(network + [0, 0, 0, 0, 0, 0, 0, 1])
                != source([0x20, 1, 0x0D, 0xB8, 0, 1, 0, 3] + [0, 0, 0, 0, 0, 0, 0, 1]))
        #expect(source([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1]) == Self.home)
        #expect(source([0, 0, 0, 1]) != source([0, 0, 0, 0, 0, 0, 0, 1] + [UInt8](repeating: 0, count: 8)))
        #expect(source([]) == .local)
    }

    @Test func `never traps, and lets everybody in again after a quiet day, whatever has happened`() {
        let seed: UInt64 = 0x6D61_7274_6C65_7436
        var random = SeededGenerator(seed: seed)
        let throttle = Gate(attempts: 3)
        var now: Int64 = 0
        for _ in 0..<50_000 {
            now += Int64(random.below(2_000))
            let name = Self.name(random.below(random.happens(10) ? 100_000 : 20))
            let source = SignInThrottle.Source(address: [
                10, 0, UInt8(random.below(random.happens(5) ? 256 : 2)), UInt8(random.below(4)),
            ])
            switch random.below(4) {
            case 0: throttle.abandoned(name, from: source)
            case 1 where random.happens(20): throttle.succeeded(name, from: source, at: now)
            default:
                if throttle.permits(name, from: source, at: now) { _ = throttle.failed(name, from: source, at: now) }
            }
        }
        now += 24 * Self.hour
        for number in 0..<40 { #expect(throttle.permits(Self.name(number), from: Self.home, at: now), "seed \(seed)") }
    }
}
