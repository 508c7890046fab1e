package import Broker

/// Which time it is for people, and which for the broker, at one moment: so the one can be told from the other.
package struct Clock: Sendable {
    /// Milliseconds since 1970.
    package let time: Int64
    package let instant: Instant

    package init(time: Int64, instant: Instant) {
        self.time = time
        self.instant = instant
    }

    /// 2020 began then. A clock that says less was not set yet.
    private static let earliestTime: Int64 = 1_577_836_800_000

    package func time(of instant: Instant) -> Int64 { time + (instant - self.instant) }

    /// A time that was noted by a clock that may have been wrong, or that has been set since, is now.
    func instant(of time: Int64) -> Instant {
        guard time >= Self.earliestTime, time <= self.time else { return instant }
        return instant + (time - self.time)
    }
}
