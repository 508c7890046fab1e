/// How much of a total has come in the last hour, to the minute.
struct HourlyBytes {
    private static let minute: Int64 = 60_000_000_000
    private static let minutes: Int64 = 60

    /// The total as it was when each minute began, the oldest first.
    private var beginnings: [(minute: Int64, total: UInt64)] = []

    /// `now` in nanoseconds of a clock that does not jump.
    mutating func update(_ total: UInt64, at now: Int64) -> UInt64 {
        let minute = now / Self.minute
        if beginnings.last?.minute != minute { beginnings.append((minute, total)) }
        // One that is older stays, for it is what the hour began with.
        while beginnings.count > 1, beginnings[1].minute <= minute - Self.minutes { beginnings.removeFirst() }
        return total - (beginnings.first?.total ?? total)
    }
}
