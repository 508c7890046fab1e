import Synchronization

/// The first error of several threads.
final class Outcomes: Sendable {
    private let error = Mutex<(any Error)?>(nil)

    var first: (any Error)? { error.withLock { $0 } }

    func record(_ new: any Error) {
        error.withLock { if $0 == nil { $0 = new } }
    }
}
