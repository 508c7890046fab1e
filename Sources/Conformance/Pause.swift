internal import Glibc

/// Waiting where the statement itself is about time.
enum Pause {
    /// The corresponding C function is `poll`, of no descriptors.
    static func until(_ end: ContinuousClock.Instant) {
        while true {
            let rest = ContinuousClock.now.duration(to: end)
            guard rest > .zero else { return }
            _ = poll(nil, 0, CInt((rest / .milliseconds(1)).rounded(.up)))
        }
    }
}
