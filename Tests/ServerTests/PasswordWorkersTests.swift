import Access
import Foundation
import Glibc
import Server
import Synchronization
import Testing

@Suite struct `Password workers` {
    /// A check of the password "secret" for somebody whose hash takes this many iterations.
    private static func check(_ password: String, iterations: Int) throws -> PasswordCheck {
        let salt = Array("0123456789ab".utf8)
        let scheme = PasswordHash.Scheme.pbkdf2SHA512(iterations: iterations)
        let hash = try PasswordHash(of: Array("secret".utf8), scheme: scheme, salt: salt)
        var listener = AccessControl.Listener()
        listener.passwordFile = try PasswordFile.parse(Array("alice:\(hash.text)\n".utf8), file: "users")
        var signIn = SignIn(listener: 0)
        signIn.userName = Array("alice".utf8)
        signIn.password = Array(password.utf8)
        guard case .unproven(let check) = AccessControl(listeners: [listener]).admission(of: signIn) else {
            throw CancellationError()
        }
        return check
    }

    private final class Tally: Sendable {
        let accepted = Atomic(0)
        let refused = Atomic(0)
        let inside = Atomic(0)
        let most = Atomic(0)

        var count: Int { accepted.load(ordering: .relaxed) + refused.load(ordering: .relaxed) }

        func add(_ principal: Principal?) {
            let now = inside.add(1, ordering: .relaxed).newValue
            _ = most.max(now, ordering: .relaxed)
            if principal != nil { accepted.add(1, ordering: .relaxed) } else { refused.add(1, ordering: .relaxed) }
            usleep(100)
            inside.subtract(1, ordering: .relaxed)
        }
    }

    private static func eventually(_ condition: () -> Bool) -> Bool {
        for _ in 0..<6_000 where !condition() { usleep(10_000) }
        return condition()
    }

    @Test func `answer every check that they took, two at a time`() throws {
        let (workers, tally) = (PasswordWorkers(), Tally())
        let (right, wrong) = try (Self.check("secret", iterations: 50), Self.check("wrong", iterations: 50))
        for number in 0..<200 {
            #expect(workers.check(number.isMultiple(of: 2) ? right : wrong) { tally.add($0) })
        }
        #expect(Self.eventually { tally.count == 200 })
        #expect(tally.accepted.load(ordering: .relaxed) == 100)
        #expect((1...PasswordWorkers.Limits.threads).contains(tally.most.load(ordering: .relaxed)))
        let counters = workers.counters
        #expect(counters.checked == 200 && counters.refused == 0 && counters.waiting == 0)
    }

    @Test func `turn away at once what would wait too long, and take more once that is done`() throws {
        let (workers, tally) = (PasswordWorkers(), Tally())
        let check = try Self.check("wrong", iterations: 200_000)
        let room = PasswordWorkers.Limits.waitingMicroseconds / check.costMicroseconds
        let started = ContinuousClock.now
        var taken = 0
        for _ in 0..<(room * 3) where workers.check(check, then: { tally.add($0) }) { taken += 1 }
        // Nothing was waited for: all of it would have taken ten times as long.
        #expect(ContinuousClock.now - started < .seconds(2))
        #expect((room...(room + 4)).contains(taken), "\(taken) of \(room)")
        #expect(workers.counters.refused == UInt64(room * 3 - taken))
        #expect(Self.eventually { tally.count == taken })
        #expect(workers.check(check) { tally.add($0) })
        #expect(Self.eventually { tally.count == taken + 1 })
    }

    @Test func `keep no more of waiting passwords than is allowed`() throws {
        let (workers, tally) = (PasswordWorkers(), Tally())
        let first = try Self.check("wrong", iterations: 200_000)
        let long = try Self.check(String(repeating: "x", count: 60_000), iterations: 1)
        for _ in 0..<4 { #expect(workers.check(first) { tally.add($0) }) }
        var taken = 0
        while taken < 1_000, workers.check(long, then: { tally.add($0) }) { taken += 1 }
        #expect(taken * 60_000 <= PasswordWorkers.Limits.waitingBytes * 2, "\(taken)")
        #expect(Self.eventually { tally.count == taken + 4 })
    }

    @Test func `end when nobody holds them`() throws {
        let before = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
        for _ in 0..<20 {
            let (workers, tally) = (PasswordWorkers(), Tally())
            for _ in 0..<4 { #expect(try workers.check(Self.check("secret", iterations: 10)) { tally.add($0) }) }
            #expect(Self.eventually { tally.count == 4 })
        }
        // Forty threads were made; other tests may have made a few meanwhile.
        #expect(
            Self.eventually {
                ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count) ?? .max) < before + 30
            })
    }
}
