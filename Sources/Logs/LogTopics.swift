internal import Dispatch
internal import Locks

/// Lines as messages of the broker itself (`log_dest topic`). Until it is connected to a broker, lines go nowhere.
package final class LogTopics: LogOutput {
    /// Publishes lines, and calls `done` when they are on their way.
    package typealias Publish = @Sendable (_ lines: [LogWriter.Line], _ done: @escaping @Sendable () -> Void) -> Void

    private let publish = Lock<Publish?>(nil)

    package init() {}

    package func connect(to publish: Publish?) { self.publish.withLock { $0 = publish } }

    /// One batch is on its way at a time: while the broker is busy the writer's backlog fills, and nothing else.
    func write(_ lines: ArraySlice<LogWriter.Line>) -> Int {
        guard let publish = publish.withLock({ $0 }) else { return 0 }
        let done = DispatchSemaphore(value: 0)
        publish(Array(lines)) { done.signal() }
        return done.wait(timeout: .now() + .seconds(1)) == .success ? 0 : lines.count
    }
}
