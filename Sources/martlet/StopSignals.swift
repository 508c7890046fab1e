internal import Dispatch
internal import Glibc
internal import Synchronization

/// The signals that end the process. SIGTERM and SIGINT ask for a graceful stop; whoever presses Ctrl-C again does not
/// want to wait for it. SIGPIPE means nothing: a write says EPIPE.
final class StopSignals: Sendable {
    private let interrupts = Atomic<Int>(0)
    private let queue = DispatchQueue(label: "signals")
    private let stop: @Sendable () -> Void

    private init(stop: @escaping @Sendable () -> Void) { self.stop = stop }

    /// Until the process ends. `stop` may be called several times, on any thread.
    static func watch(stop: @escaping @Sendable () -> Void) {
        let signals = StopSignals(stop: stop)
        signal(SIGPIPE, SIG_IGN)
        signals.watch(SIGTERM) { signals.stop() }
        signals.watch(SIGINT) {
            if signals.interrupts.add(1, ordering: .relaxed).newValue > 1 { _exit(Failure.Status.interrupted.rawValue) }
            signals.stop()
        }
    }

    private func watch(_ number: CInt, _ handler: @escaping @Sendable () -> Void) {
        signal(number, SIG_IGN)  // Else the default action ends us before Dispatch sees the signal.
        let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
        // The handler holds its source, for a source that nobody holds is taken down without a word.
        source.setEventHandler { withExtendedLifetime(source) { handler() } }
        source.activate()
    }
}
