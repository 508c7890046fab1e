public import Synchronization

#if SANITIZE_THREAD
    public import CLinux
#endif

/// The standard library's `Mutex`, made visible to the thread sanitizer, which on Linux does not see its slow path and
/// would report every contended use as a race (Swift 6.3.1). Public and inlinable, for nothing less is specialised in
/// other modules, and unspecialised it would cost more than the lock itself.
public final class Lock<State: Sendable>: Sendable {
    @usableFromInline let mutex: Mutex<State>

    @inlinable
    public init(_ state: consuming State) { mutex = Mutex(state) }

    /// Runs `body` with the state to itself. Brief by contract: everybody else waits on their thread.
    @inlinable @inline(__always)
    public func withLock<Result>(_ body: (inout State) -> Result) -> Result {
        // `Mutex` wants its result sent to another isolation; ours stays with the caller, so it leaves by a local.
        var result: Result?
        mutex.withLock { state in
            #if SANITIZE_THREAD
                let address = unsafe Unmanaged.passUnretained(self).toOpaque()
                unsafe sanitizer_acquires(address)
                defer { unsafe sanitizer_releases(address) }
            #endif
            result = body(&state)
        }
        guard let result else { preconditionFailure("withLock runs its body") }
        return result
    }
}
