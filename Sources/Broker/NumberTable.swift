/// A hash table that holds nothing but numbers of things kept elsewhere, each beside its hash: open addressing with
/// linear probing, eight bytes an entry. The caller knows when things are the same, and is asked only where hashes are.
struct NumberTable: Sendable {
    private static let smallest = 16

    private struct Place: Sendable {
        var hash: UInt32 = 0
        /// A thing's number plus one, or 0 where there is none.
        var entry: UInt32 = 0
    }

    /// The count is a power of two.
    private var places = [Place](repeating: Place(), count: NumberTable.smallest)
    private(set) var count = 0

    @inline(__always)
    func first(hash: UInt32, where isMatch: (UInt32) -> Bool) -> UInt32? {
        let mask = places.count - 1
        var index = Int(hash) & mask
        while true {
            let place = places[index]
            if place.entry == 0 { return nil }
            if place.hash == hash, isMatch(place.entry - 1) { return place.entry - 1 }
            index = (index + 1) & mask
        }
    }

    /// Adds a thing that is not here yet.
    mutating func insert(_ number: UInt32, hash: UInt32) {
        if (count + 1) * 4 > places.count * 3 { resize(to: places.count * 2) }
        put(Place(hash: hash, entry: number + 1))
        count += 1
    }

    /// Removes a thing that is here, and closes the gap, so that no probe ends early.
    mutating func remove(_ number: UInt32, hash: UInt32) {
        let mask = places.count - 1
        var gap = Int(hash) & mask
        while places[gap].entry != number + 1 {
            precondition(places[gap].entry != 0, "a number that is not in its table")
            gap = (gap + 1) & mask
        }
        var next = (gap + 1) & mask
        while places[next].entry != 0 {
            let home = Int(places[next].hash) & mask
            if (next - home) & mask >= (next - gap) & mask {
                places[gap] = places[next]
                gap = next
            }
            next = (next + 1) & mask
        }
        places[gap] = Place()
        count -= 1
        if places.count > Self.smallest, count * 8 < places.count { resize(to: places.count / 2) }
    }

    private mutating func resize(to capacity: Int) {
        let old = places
        places = [Place](repeating: Place(), count: capacity)
        for place in old where place.entry != 0 { put(place) }
    }

    private mutating func put(_ place: Place) {
        let mask = places.count - 1
        var index = Int(place.hash) & mask
        while places[index].entry != 0 { index = (index + 1) & mask }
        places[index] = place
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
    private let permanent: Int

    /// `placeholder` stands where nothing is kept; the first `permanent` elements are never removed.
    init(placeholder: Element, permanent: Int = 0) {
        elements = [placeholder]
        self.permanent = permanent
    }

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
        if count == permanent {  // Gives back what a peak took.
            elements = Array(elements[...permanent])
            free = []
        }
    }
}
