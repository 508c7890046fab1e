package import Access
internal import Dispatch
internal import Glibc
internal import Locks

/// The threads that check and hash costly passwords: two, for each needs 16 MB and all of a CPU, and behind everybody else, so that
/// no storm of passwords slows those who are connected. Nobody waits for them; whoever comes when there is too much to do
/// is refused.
package final class PasswordWorkers: Sendable {
    package enum Limits {
        /// Checks at the same time.
        package static let threads = 2
        /// Of work that waits, microseconds as `PasswordCheck.costMicroseconds` has them: half as long until its turn,
        /// which is less than a client waits for its CONNACK.
        package static let waitingMicroseconds = 10_000_000
        /// Passwords that wait, bytes: and so is their number, each counts as 64 more.
        package static let waitingBytes = 4 << 20
        /// How much nicer than the rest the threads are, -20...19.
        package static let niceness: CInt = 10
    }

    /// Numbers for `$SYS` and the metrics.
    package struct Counters: Sendable, Equatable {
        /// Checked or hashed, whatever came of it.
        package var checked: UInt64 = 0
        /// Turned away, for too many were waiting.
        package var refused: UInt64 = 0
        /// In the queue or in a thread.
        package var waiting = 0
    }

    private let queue = PasswordQueue()

    package init() {}

    deinit { queue.stop() }

    package var counters: Counters { queue.state.withLock { $0.counters } }

    /// Checks a password some time later and gives what came of it to `then`, on a thread of the workers, which it must
    /// not keep. False: too many are waiting, and `then` is never called. The answer to that is "server unavailable" (3).
    package func check(_ check: PasswordCheck, then: @escaping @Sendable (Principal?) -> Void) -> Bool {
        queue.add(
            PasswordQueue.Job(costMicroseconds: check.costMicroseconds, bytes: check.bytes) {
                let principal = check.run()
                return { then(principal) }
            })
    }

    /// Hashes a new password in the same way: nil where there is no memory for it.
    package func hash(_ password: [UInt8], then: @escaping @Sendable (PasswordHash?) -> Void) -> Bool {
        let scheme = PasswordHash.Scheme.forPeople
        return queue.add(
            PasswordQueue.Job(costMicroseconds: scheme.costMicroseconds, bytes: password.count) {
                let hash = try? PasswordHash.making(of: password, scheme: scheme)
                return { then(hash) }
            })
    }
}

/// What the threads share with those who give them work. It outlives its `PasswordWorkers` until they have ended.
private final class PasswordQueue: Sendable {
    struct Job: Sendable {
        let costMicroseconds: Int
        let bytes: Int
        /// Gives what is to be done when it counts as done.
        let work: @Sendable () -> @Sendable () -> Void

        init(costMicroseconds: Int, bytes: Int, work: @escaping @Sendable () -> @Sendable () -> Void) {
            self.costMicroseconds = costMicroseconds
            self.bytes = bytes + 64
            self.work = work
        }
    }

    struct State {
        var counters = PasswordWorkers.Counters()
        /// In the order they came; those before `next` are done.
        var jobs: [Job?] = []
        var next = 0
        var microseconds = 0
        var bytes = 0
        var threads = 0
        var isStopped = false
    }

    let state = Lock(State())
    private let work = DispatchSemaphore(value: 0)

    func add(_ job: Job) -> Bool {
        let (isTaken, needsThread) = state.withLock { state in
            let isTaken =
                !state.isStopped && state.bytes + job.bytes <= PasswordWorkers.Limits.waitingBytes
                && state.microseconds + job.costMicroseconds <= PasswordWorkers.Limits.waitingMicroseconds
            guard isTaken else {
                state.counters.refused += 1
                return (false, false)
            }
            state.counters.waiting += 1
            state.bytes += job.bytes
            state.microseconds += job.costMicroseconds
            state.jobs.append(job)
            let needsThread = state.threads < min(PasswordWorkers.Limits.threads, state.counters.waiting)
            if needsThread { state.threads += 1 }
            return (true, needsThread)
        }
        guard isTaken else { return false }
        work.signal()
        if needsThread, !startThread({ [self] in run() }) {
            // The thread that there is does all of it; where there is none, the next newcomer tries again.
            state.withLock { $0.threads -= 1 }
        }
        return true
    }

    func stop() {
        let threads = state.withLock { state in
            state.isStopped = true
            state.jobs.removeAll()
            state.next = 0
            return state.threads
        }
        for _ in 0..<threads { work.signal() }
    }

    /// The life of a thread.
    private func run() {
        // The corresponding C function is `setpriority`, which on Linux is about the thread that calls it.
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, PasswordWorkers.Limits.niceness)
        while true {
            work.wait()
            let (job, isStopped) = state.withLock { ($0.take(), $0.isStopped) }
            guard let job else {
                if isStopped { return }
                continue
            }
            let end = job.work()
            state.withLock { $0.finish(job) }
            end()
        }
    }
}

extension PasswordQueue.State {
    fileprivate mutating func take() -> PasswordQueue.Job? {
        guard next < jobs.count else { return nil }
        let job = jobs[next]
        jobs[next] = nil
        next += 1
        // What is done goes once it is the larger part, so that each job is moved once.
        if next * 2 >= jobs.count {
            jobs.removeFirst(next)
            next = 0
        }
        return job
    }

    fileprivate mutating func finish(_ job: PasswordQueue.Job) {
        counters.checked += 1
        counters.waiting -= 1
        bytes -= job.bytes
        microseconds -= job.costMicroseconds
    }
}

/// Runs `body` on a thread of its own, which nobody waits for; false where the system has none. The corresponding C
/// function is `pthread_create`.
private func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
    let box = unsafe Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    let code = unsafe pthread_create(
        &thread, nil,
        { argument in
            guard let argument = unsafe argument else { return nil }
            unsafe Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body()
            return nil
        }, box.toOpaque())
    guard code == 0 else {
        unsafe box.release()
        return false
    }
    pthread_detach(thread)
    return true
}

private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
