internal import Synchronization

/// Whether somebody has pressed Ctrl-C, or asked the process to end.
final class Interruption: Sendable {
    private let flag = Atomic<Bool>(false)

    var isNoted: Bool { flag.load(ordering: .relaxed) }
    func note() { flag.store(true, ordering: .relaxed) }
}
