import Synchronization

/// Carries what is not Sendable from the thread that made it to the one thread that uses it from then on.
final class Handed<Value>: Sendable {
    private let value: Mutex<Value?>

    init(_ value: sending Value) { self.value = Mutex(value) }

    func take() -> sending Value {
        guard let value = value.withLock({ $0.take() }) else { preconditionFailure("taken twice") }
        return value
    }
}
