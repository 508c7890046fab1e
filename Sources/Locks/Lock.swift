import CLinux
import Synchronization

/// The standard library's `Mutex`, made visible to the thread sanitizer, which on Linux does not see its slow path and
/// would report every contended use as a race (Swift 6.3.1).
package final class Lock<State: Sendable>: Sendable {
    private let mutex: Mutex<State>

    package init(_ state: consuming State) { mutex = Mutex(state) }

    /// Runs `body` with the state to itself. Brief by contract: everybody else waits on their thread.
    @inline(__always)
    package func withLock<Result, Failure: Error>(_ body: (inout State) throws(Failure) -> Result) throws(Failure)
        -> Result
    {
        // `Mutex` wants its result sent; ours stays on this thread, so it leaves through a local.
        var result: Swift.Result<Result, Failure>?
        mutex.withLock { state in
            #if SANITIZE_THREAD
                let address = unsafe Unmanaged.passUnretained(self).toOpaque()
                unsafe sanitizer_acquires(address)
                defer { unsafe sanitizer_releases(address) }
            #endif
            do throws(Failure) { result = .success(try body(&state)) } catch { result = .failure(error) }
        }
        return try result!.get()
    }
}
