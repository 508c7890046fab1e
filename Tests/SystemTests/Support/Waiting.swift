import Foundation
import Glibc

/// A moment on the monotonic clock after which a test gives up.
struct Deadline {
    private let nanoseconds: UInt64

    init(after seconds: Double) {
        nanoseconds = monotonicNanoseconds() + UInt64(seconds * 1e9)
    }

    var hasPassed: Bool { remainingMilliseconds == 0 }

    /// What `poll` wants as its timeout; rounded up, so that 0 means passed.
    var remainingMilliseconds: Int32 {
        let now = monotonicNanoseconds()
        return now >= nanoseconds ? 0 : Int32(min((nanoseconds - now + 999_999) / 1_000_000, 1_000_000_000))
    }
}

func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Runs `body` and says how many seconds it took.
func seconds(_ body: () throws -> Void) rethrows -> Double {
    let start = monotonicNanoseconds()
    try body()
    return Double(monotonicNanoseconds() - start) / 1e9
}

/// Asks every few milliseconds until `condition` holds; false if it never did.
func eventually(within seconds: Double = 10, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = Deadline(after: seconds * patience)
    while try !condition() {
        if deadline.hasPassed { return try condition() }
        poll(nil, 0, 5)
    }
    return true
}

/// Deadlines are stretched by this where a sanitizer slows the broker down.
let patience = isSanitized ? 6.0 : 1.0

let isSanitized = ProcessInfo.processInfo.environment["MARTLET_TEST_SANITIZED"] != nil

/// A step that did not happen in time, or a system call that failed.
struct Unexpected: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }

    init(errno code: Int32, during call: String) { description = "\(call): \(String(cString: strerror(code)))" }
}

/// Runs every body on a thread of its own and throws what the first of them threw.
func concurrently(_ bodies: [@Sendable () throws -> Void]) throws {
    let outcomes = Outcomes()
    let group = DispatchGroup()
    for body in bodies {
        group.enter()
        let thread = Thread {
            do { try body() } catch { outcomes.record(error) }
            group.leave()
        }
        thread.start()
    }
    group.wait()
    if let error = outcomes.first { throw error }
}
