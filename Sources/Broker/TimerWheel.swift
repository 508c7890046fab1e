/// Deadlines of numbered things: setting, moving and dropping one costs the same however many there are. A deadline
/// past the wheel's reach comes up early; its owner then sets it again.
struct TimerWheel: Sendable {
    /// Milliseconds of a bucket: nothing comes up early by more, unless it is out of reach.
    static let granularity: Int64 = 64
    private static let buckets = 1024
    /// Milliseconds ahead that the wheel can tell apart.
    static let reach = granularity * Int64(buckets - 1)

    private static let none = UInt32.max
    private var heads = [UInt32](repeating: none, count: buckets)
    private var nexts: [UInt32] = []
    private var previous: [UInt32] = []
    private var places: [UInt16] = []
    private var turned: Int64
    /// No bucket before this turn holds anything.
    private var earliest: Int64 = .max
    private(set) var count = 0

    init(now: Instant) { turned = now.milliseconds / Self.granularity }

    /// Sets or moves the deadline of `number`.
    mutating func schedule(_ number: UInt32, at deadline: Instant) {
        cancel(number)
        while nexts.count <= Int(number) {
            nexts.append(Self.none)
            previous.append(Self.none)
            places.append(.max)
        }
        let turn = min(max(deadline.milliseconds / Self.granularity + 1, turned + 1), turned + Int64(Self.buckets) - 1)
        let bucket = Int(turn % Int64(Self.buckets))
        let head = heads[bucket]
        nexts[Int(number)] = head
        previous[Int(number)] = Self.none
        if head != Self.none { previous[Int(head)] = number }
        heads[bucket] = number
        places[Int(number)] = UInt16(bucket)
        count += 1
        earliest = min(earliest, turn)
    }

    mutating func cancel(_ number: UInt32) {
        guard Int(number) < places.count, places[Int(number)] != .max else { return }
        let (before, after) = (previous[Int(number)], nexts[Int(number)])
        if before == Self.none { heads[Int(places[Int(number)])] = after } else { nexts[Int(before)] = after }
        if after != Self.none { previous[Int(after)] = before }
        places[Int(number)] = .max
        count -= 1
    }

    /// Turns the wheel to `now` and takes out what is due on the way.
    mutating func expire(_ now: Instant, into due: inout [UInt32]) {
        let target = now.milliseconds / Self.granularity
        guard count > 0 else {
            turned = max(turned, target)
            return
        }
        let last = min(target, turned + Int64(Self.buckets))
        while turned < last {
            turned += 1
            let bucket = Int(turned % Int64(Self.buckets))
            while heads[bucket] != Self.none {
                due.append(heads[bucket])
                cancel(heads[bucket])
            }
        }
        turned = max(turned, target)
        findEarliest()
    }

    private mutating func findEarliest() {
        earliest = .max
        guard count > 0 else { return }
        for turn in (turned + 1)...(turned + Int64(Self.buckets))
        where heads[Int(turn % Int64(Self.buckets))] != Self.none {
            earliest = turn
            return
        }
    }

    /// When the wheel has to be turned next, or earlier; nil when nothing is on it.
    func nextExpiry() -> Instant? {
        count > 0 ? Instant(milliseconds: earliest * Self.granularity) : nil
    }
}
