package import Dispatch

/// Runs an actor on a serial queue of its own, so that it may block: on a disk, or for a password.
package final class QueueExecutor: SerialExecutor {
    private let queue: DispatchQueue

    package init(_ label: String, qos: DispatchQoS = .unspecified) { queue = DispatchQueue(label: label, qos: qos) }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { unsafe job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    /// Runs `body` there after everything that came before it, without making the caller wait.
    package func async(_ body: @escaping @Sendable () -> Void) { queue.async(execute: body) }

    package func checkIsolated() { dispatchPrecondition(condition: .onQueue(queue)) }

    package func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        unsafe UnownedSerialExecutor(ordinary: self)
    }
}
