package import CLinux
import Dispatch
import Glibc
import Locks
import Synchronization

/// A shard's way to wait, and the executor of the actor that lives there: one epoll descriptor watched by one Dispatch
/// source. While there is traffic the handler stays in `epoll_wait`; a quiet loop gives its thread back to Dispatch.
package final class EventLoop: SerialExecutor {
    private enum Work {
        case job(UnownedJob)
        case batch(@Sendable () -> Void)
    }
    private struct Mailbox: Sendable {
        var work: [Work] = []
        var isAwake = false  // The loop will look into the mailbox again before it sleeps.
    }

    /// What the actor wants after a turn.
    package struct Wish: Sendable {
        /// There is more to do at once: the next turn doesn't wait.
        package var isBusy: Bool
        /// When the next turn is due even if nothing happens, in nanoseconds of `CLOCK_MONOTONIC`.
        package var deadline: Int64?

        package init(isBusy: Bool, deadline: Int64?) {
            self.isBusy = isBusy
            self.deadline = deadline
        }
    }

    /// Tokens from here on are the loop's own.
    package static let reservedTokens = UInt64.max - 1
    private static let alarmToken = UInt64.max
    private static let timerToken = UInt64.max - 1
    package static let eventsPerTurn = 256
    private static let lingerMilliseconds: Int64 = 100  // docs/architecture.md, "How a shard waits"

    private let mailbox = Lock(Mailbox())
    private let epoll: Descriptor
    private let alarm: Descriptor
    private let timer: Descriptor
    private let thread = Atomic<UInt>(0)  // Who is inside `run`, or 0.
    private let isStopped = Atomic<Bool>(false)
    private let queue: DispatchQueue

    package init(label: String) throws(SystemError) {
        queue = DispatchQueue(label: label)  // Its own target: an overcommit queue, which may block.
        epoll = try Descriptor(adopting: epoll_create1(CInt(EPOLL_CLOEXEC)), from: "epoll_create1")
        alarm = try Descriptor(adopting: eventfd(0, CInt(EFD_NONBLOCK | EFD_CLOEXEC)), from: "eventfd")
        timer = try Descriptor(
            adopting: timerfd_create(CLOCK_MONOTONIC, CInt(TFD_NONBLOCK | TFD_CLOEXEC)), from: "timerfd_create"
        )
        // Edge-triggered, so nobody needs to read them: every write and every expiry is an edge.
        try watch(alarm.rawValue, as: Self.alarmToken, for: EPOLLIN.rawValue | EPOLLET.rawValue)
        try watch(timer.rawValue, as: Self.timerToken, for: EPOLLIN.rawValue | EPOLLET.rawValue)
    }

    /// Calls `turn` on this executor after each batch of mail and events, until `stop`; then `stopped`, once, on the
    /// loop's queue.
    package func start(
        _ turn: @escaping @Sendable (Span<readiness>) -> Wish, stopped: @escaping @Sendable () -> Void = {}
    ) {
        let source = DispatchSource.makeReadSource(fileDescriptor: epoll.rawValue, queue: queue)
        // The handler holds its source, for a source that nobody holds is taken down without a word.
        source.setEventHandler {
            withExtendedLifetime(source) {
                self.run(turn)
                if self.isStopped.load(ordering: .acquiring) { source.cancel() }
            }
        }
        source.setCancelHandler { [self] in
            withExtendedLifetime(self) { stopped() }  // The descriptors live as long as the source.
        }
        source.activate()
    }

    /// Asks the loop to end after the turn in which this arrives. Mail that comes later is not handled.
    package func stop() {
        post { self.isStopped.store(true, ordering: .releasing) }
    }

    // MARK: Descriptors

    /// Adds a descriptor, level-triggered unless `events` says otherwise. The corresponding C function is `epoll_ctl`.
    package func watch(_ descriptor: CInt, as token: UInt64, for events: UInt32) throws(SystemError) {
        var event = readiness(events: events, token: token)
        let result = unsafe watch_readiness(epoll.rawValue, EPOLL_CTL_ADD, descriptor, &event)
        guard result == 0 else { throw SystemError(errno, during: "epoll_ctl") }
    }

    /// Changes what a watched descriptor is watched for.
    package func change(_ descriptor: CInt, as token: UInt64, for events: UInt32) {
        var event = readiness(events: events, token: token)
        let result = unsafe watch_readiness(epoll.rawValue, EPOLL_CTL_MOD, descriptor, &event)
        precondition(result == 0, "epoll_ctl refuses a descriptor that it watches")
    }

    /// Takes a descriptor out, before it is closed or moves to another loop.
    package func unwatch(_ descriptor: CInt) {
        var event = readiness()
        let result = unsafe watch_readiness(epoll.rawValue, EPOLL_CTL_DEL, descriptor, &event)
        precondition(result == 0, "epoll_ctl refuses a descriptor that it watches")
    }

    // MARK: Turns

    /// In turns, what mail had come and one batch of sockets: neither can starve the other. Mail is taken after the wait,
    /// so that whatever caused an event here was posted before the event is handled: what a client learns from one shard
    /// it can rely on at another.
    private func run(_ turn: (Span<readiness>) -> Wish) {
        thread.store(UInt(pthread_self()), ordering: .relaxed)
        defer { thread.store(0, ordering: .relaxed) }
        unsafe withUnsafeTemporaryAllocation(of: readiness.self, capacity: Self.eventsPerTurn) { events in
            var mail: [Work] = []
            var wish = Wish(isBusy: true, deadline: nil)
            var hadMail = false
            while true {
                let patience = hadMail || wish.isBusy ? 0 : patience(until: wish.deadline)
                let count = unsafe wait_for_readiness(epoll.rawValue, events.baseAddress, CInt(events.count), patience)
                hadMail = takeMail(&mail)
                for work in mail { perform(work) }
                mail.removeAll(keepingCapacity: true)
                if isStopped.load(ordering: .acquiring) { return }
                let isDue = wish.deadline.map { monotonicNanoseconds() >= $0 } ?? false
                guard count > 0 || hadMail || wish.isBusy || isDue else {
                    if patience == 0 { continue }  // It has not lingered yet.
                    return arm(wish.deadline)
                }
                wish = unsafe turn(events.extracting(..<Int(max(count, 0))).span)
            }
        }
    }

    /// Milliseconds to linger: no longer than to the deadline, rounded up so that it has then passed.
    private func patience(until deadline: Int64?) -> CInt {
        guard let deadline else { return CInt(Self.lingerMilliseconds) }
        let left = (deadline - monotonicNanoseconds() + 999_999) / 1_000_000
        return CInt(min(max(left, 0), Self.lingerMilliseconds))
    }

    /// While the loop sleeps only the timer descriptor can wake it for a deadline. The corresponding C function is
    /// `timerfd_settime`.
    private func arm(_ deadline: Int64?) {
        var time = itimerspec()
        if let deadline {
            time.it_value = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
        }
        unsafe timerfd_settime(timer.rawValue, CInt(TFD_TIMER_ABSTIME), &time, nil)
    }

    /// Swaps the mail into `mail`, which is empty, or notes that the loop is about to sleep.
    private func takeMail(_ mail: inout [Work]) -> Bool {
        mailbox.withLock {
            swap(&$0.work, &mail)
            $0.isAwake = !mail.isEmpty
            return $0.isAwake
        }
    }

    private func perform(_ work: Work) {
        switch work {
        case .job(let job): unsafe job.runSynchronously(on: asUnownedSerialExecutor())
        case .batch(let body): body()
        }
    }

    private func submit(_ work: Work) {
        let wasAwake = mailbox.withLock { mailbox in
            defer { mailbox.isAwake = true }
            mailbox.work.append(work)
            return mailbox.isAwake
        }
        if !wasAwake { eventfd_write(alarm.rawValue, 1) }
    }

    package func enqueue(_ job: consuming ExecutorJob) { submit(.job(UnownedJob(job))) }

    /// Runs `body` on the loop after everything posted before it.
    package func post(_ body: @escaping @Sendable () -> Void) { submit(.batch(body)) }

    package func isIsolatingCurrentContext() -> Bool? { thread.load(ordering: .relaxed) == UInt(pthread_self()) }
    package func checkIsolated() { precondition(isIsolatingCurrentContext() == true, "not on this event loop") }
}

/// Nanoseconds of the clock that never jumps. The corresponding C function is `clock_gettime`.
package func monotonicNanoseconds() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// An actor that lives on an event loop.
package protocol LoopActor: Actor {
    nonisolated var loop: EventLoop { get }
}

extension LoopActor {
    /// Runs `work` here, after everything posted or awaited before it, without making the caller wait.
    package nonisolated func post(_ work: @escaping @Sendable (isolated Self) -> Void) {
        loop.post { self.assumeIsolated(work) }
    }
}
