/// How many messages the sessions of a shard hold, and how many bytes of payload: a message that many sessions wait for
/// counts once. Each has a number while it is held; 0 is nobody's.
struct HeldMessages: Sendable {
    typealias Number = UInt32

    private var holders: [UInt32] = [0]
    private var sizes: [UInt32] = [0]
    private var free: [Number] = []
    private(set) var count = 0
    private(set) var bytes = 0

    /// A session holds a message: the one with that number, or one that has none yet and gets it.
    @inline(__always)
    mutating func hold(_ number: inout Number, bytes size: Int) {
        if number != 0 {
            holders[Int(number)] += 1
            return
        }
        if let used = free.popLast() {
            number = used
            holders[Int(number)] = 1
            sizes[Int(number)] = UInt32(size)
        } else {
            number = Number(holders.count)
            holders.append(1)
            sizes.append(UInt32(size))
        }
        count += 1
        bytes += size
    }

    /// A session holds it no longer.
    @inline(__always)
    mutating func release(_ number: Number) {
        guard number != 0 else { return }
        holders[Int(number)] -= 1
        guard holders[Int(number)] == 0 else { return }
        count -= 1
        bytes -= Int(sizes[Int(number)])
        free.append(number)
        if count == 0, free.count > 1_024 { self = HeldMessages() }  // What a peak took goes back.
    }
}
