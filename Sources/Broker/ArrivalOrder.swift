/// Numbers in the order in which they came, each once; whatever stands where, taking it out costs the same.
struct ArrivalOrder: Sendable {
    private static let none = UInt32.max

    private struct Link: Sendable {
        var next = ArrivalOrder.none
        var previous = ArrivalOrder.none
        var isIn = false
    }

    private var links: [Link] = []
    private var last = Self.none
    private(set) var first: UInt32?

    /// Puts the number behind all others, wherever it stood before.
    mutating func append(_ number: UInt32) {
        remove(number)
        while links.count <= Int(number) { links.append(Link()) }
        links[Int(number)] = Link(previous: last, isIn: true)
        if last == Self.none { first = number } else { links[Int(last)].next = number }
        last = number
    }

    mutating func remove(_ number: UInt32) {
        guard Int(number) < links.count, links[Int(number)].isIn else { return }
        let link = links[Int(number)]
        if link.previous == Self.none {
            first = link.next == Self.none ? nil : link.next
        } else {
            links[Int(link.previous)].next = link.next
        }
        if link.next == Self.none { last = link.previous } else { links[Int(link.next)].previous = link.previous }
        links[Int(number)] = Link()
    }
}
