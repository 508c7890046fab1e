/// A hash table that holds nothing but numbers of things kept elsewhere: open addressing with linear probing, four
/// bytes an entry. The caller knows how things hash and when they are the same.
struct NumberTable: Sendable {
    private static let smallest = 16

    /// A thing's number plus one, or 0 where there is none. The count is a power of two.
    private var places = [UInt32](repeating: 0, count: NumberTable.smallest)
    private(set) var count = 0

    @inline(__always)
    func first(hash: UInt32, where isMatch: (UInt32) -> Bool) -> UInt32? {
        let mask = places.count - 1
        var place = Int(hash) & mask
        while places[place] != 0 {
            let number = places[place] - 1
            if isMatch(number) { return number }
            place = (place + 1) & mask
        }
        return nil
    }

    /// Adds a thing that is not here yet.
    mutating func insert(_ number: UInt32, hash: UInt32, hashOf: (UInt32) -> UInt32) {
        if (count + 1) * 4 > places.count * 3 { resize(to: places.count * 2, hashOf: hashOf) }
        place(number, hash: hash)
        count += 1
    }

    /// Removes a thing that is here, and closes the gap, so that no probe ends early.
    mutating func remove(_ number: UInt32, hash: UInt32, hashOf: (UInt32) -> UInt32) {
        let mask = places.count - 1
        var gap = Int(hash) & mask
        while places[gap] != number + 1 {
            precondition(places[gap] != 0, "a number that is not in its table")
            gap = (gap + 1) & mask
        }
        var next = (gap + 1) & mask
        while places[next] != 0 {
            let home = Int(hashOf(places[next] - 1)) & mask
            if (next - home) & mask >= (next - gap) & mask {
                places[gap] = places[next]
                gap = next
            }
            next = (next + 1) & mask
        }
        places[gap] = 0
        count -= 1
        if places.count > Self.smallest, count * 8 < places.count { resize(to: places.count / 2, hashOf: hashOf) }
    }

    private mutating func resize(to capacity: Int, hashOf: (UInt32) -> UInt32) {
        let old = places
        places = [UInt32](repeating: 0, count: capacity)
        for entry in old where entry != 0 { place(entry - 1, hash: hashOf(entry - 1)) }
    }

    private mutating func place(_ number: UInt32, hash: UInt32) {
        let mask = places.count - 1
        var place = Int(hash) & mask
        while places[place] != 0 { place = (place + 1) & mask }
        places[place] = number + 1
    }
}

/// Spreads 64 bits over 32 (the finaliser of MurmurHash3): a poor mixer makes linear probing many times slower.
@inline(__always)
func mixed(_ value: UInt64) -> UInt32 {
    var value = value
    value ^= value >> 33
    value &*= 0xFF51_AFD7_ED55_8CCD
    value ^= value >> 33
    value &*= 0xC4CE_B9FE_1A85_EC53
    value ^= value >> 33
    return UInt32(truncatingIfNeeded: value)
}

/// Values of one kind, named by numbers that are used again. Number 0 is never given out: it says "none".
struct Slab<Element: Sendable>: Sendable {
    private(set) var elements: [Element]
    private var free: [UInt32] = []

    /// `placeholder` stands where nothing is kept.
    init(placeholder: Element) { elements = [placeholder] }

    var count: Int { elements.count - 1 - free.count }

    subscript(number: UInt32) -> Element {
        @inline(__always) get { elements[Int(number)] }
        @inline(__always) _modify { yield &elements[Int(number)] }
    }

    mutating func add(_ element: Element) -> UInt32 {
        if let number = free.popLast() {
            elements[Int(number)] = element
            return number
        }
        elements.append(element)
        return UInt32(elements.count - 1)
    }

    mutating func remove(_ number: UInt32) {
        elements[Int(number)] = elements[0]
        free.append(number)
        if count == 0 {  // Gives back what a peak took.
            elements = [elements[0]]
            free = []
        }
    }
}
