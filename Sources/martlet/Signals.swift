internal import Dispatch
internal import Glibc
internal import Locks

/// The signals of a server. SIGTERM and SIGINT ask for a graceful stop; whoever presses Ctrl-C again does not want to
/// wait for it. SIGHUP, SIGUSR1 and SIGUSR2 ask for something and never end the process. SIGPIPE means nothing: a write
/// says EPIPE.
final class Signals: Sendable {
    /// What a signal asks for, besides a stop.
    enum Request: CaseIterable {
        case reload, save, summary

        var signal: CInt {
            switch self {
            case .reload: SIGHUP
            case .save: SIGUSR1
            case .summary: SIGUSR2
            }
        }
    }

    /// A stop that takes longer than this is cut short.
    static let patience = DispatchTimeInterval.seconds(8)

    private struct State: Sendable {
        var interrupts = 0
        var isStopping = false
        /// Each once, however often it was asked for.
        var requests: Set<Request> = []
        var stop: (@Sendable () -> Void)?
        var overdue: (@Sendable () -> Void)?
    }

    private let state = Lock(State())
    private let queue = DispatchQueue(label: "signals")
    private let wakeUps: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    /// From here on none of these, and no SIGTERM and SIGINT, ends the process by itself.
    init(requests: [Request] = Request.allCases) {
        (wakeUps, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        signal(SIGPIPE, SIG_IGN)
        watch(SIGTERM) { $0.askToStop() }
        watch(SIGINT) { signals in
            let count = signals.state.withLock { state in
                state.interrupts += 1
                return state.interrupts
            }
            if count > 1 {
                signals.state.withLock { $0.overdue }?()
                _exit(Failure.Status.interrupted.rawValue)
            }
            signals.askToStop()
        }
        for request in requests {
            watch(request.signal) { signals in
                signals.state.withLock { _ = $0.requests.insert(request) }
                signals.wake.yield()
            }
        }
    }

    /// What a stop calls; at once, if one was asked for before. Where the process is still there after `patience`,
    /// `overdue` follows, and then its end; without `overdue` the stop takes the time it takes.
    func whenAskedToStop(_ stop: @escaping @Sendable () -> Void, overdue: (@Sendable () -> Void)? = nil) {
        let isStopping = state.withLock { state in
            state.stop = stop
            state.overdue = overdue
            return state.isStopping
        }
        if isStopping { stop() }
    }

    /// Hands over requests, one after the other, until the task is cancelled.
    func serve(_ body: (Request) async -> Void) async {
        for await _ in wakeUps {
            let requests = state.withLock { state in
                defer { state.requests = [] }
                return state.requests
            }
            for request in Request.allCases where requests.contains(request) { await body(request) }
        }
    }

    private func askToStop() {
        let (isFirst, stop) = state.withLock { state in
            defer { state.isStopping = true }
            return (!state.isStopping, state.stop)
        }
        stop?()
        guard isFirst else { return }
        queue.asyncAfter(deadline: .now() + Self.patience) {
            let (stop, overdue) = self.state.withLock { ($0.stop, $0.overdue) }
            // Without a stop it is still starting, and hangs there.
            guard stop == nil || overdue != nil else { return }
            overdue?()
            _exit(0)
        }
    }

    private func watch(_ number: CInt, _ handler: @escaping @Sendable (Signals) -> Void) {
        signal(number, SIG_IGN)  // Else the default action ends us before Dispatch sees the signal.
        let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
        // The handler holds its source, for a source that nobody holds is taken down without a word.
        source.setEventHandler { withExtendedLifetime(source) { handler(self) } }
        source.activate()
    }
}
