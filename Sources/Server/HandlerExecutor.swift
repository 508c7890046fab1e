import Dispatch
import Synchronization

/// Where requests are handled: a few threads that may wait for a disk, which those of Swift's own pool may not. No more than
/// the store has readers, so that none waits for another.
final class HandlerExecutor: TaskExecutor {
    private let queues = (0..<2).map { DispatchQueue(label: "requests.\($0)") }
    private let turn = Atomic(0)

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let turn = turn.wrappingAdd(1, ordering: .relaxed).newValue
        queues[turn & 1].async { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    func asUnownedTaskExecutor() -> UnownedTaskExecutor { unsafe UnownedTaskExecutor(ordinary: self) }
}
