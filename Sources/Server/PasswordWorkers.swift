import Access

final class PasswordWorkers: Sendable {
    func check(_ check: PasswordCheck, then: @escaping @Sendable (Principal?) -> Void) -> Bool { false }
}
