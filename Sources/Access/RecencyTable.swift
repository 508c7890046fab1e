/// Values by key, of which the one that has been untouched longest goes where there is no more room. A doubly linked list
/// through an array, so that nothing is searched for.
struct RecencyTable<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct Entry {
        var key: Key
        var value: Value
        var newer: Int?
        var older: Int?
    }

    let capacity: Int
    private var entries: [Entry] = []
    private var places: [Key: Int] = [:]
    private var newest: Int?
    private var oldest: Int?

    init(capacity: Int) {
        precondition(capacity > 0, "a table has room")
        self.capacity = capacity
    }

    var count: Int { entries.count }

    /// Looking does not count as touching.
    subscript(key: Key) -> Value? { places[key].map { entries[$0].value } }

    /// Touches it; `initial` takes its place in the table where there is none.
    mutating func update<Result>(_ key: Key, from initial: Value, _ body: (inout Value) -> Result) -> Result {
        let place: Int
        if let known = places[key] {
            place = known
            unlink(place)
        } else if entries.count < capacity {
            place = entries.count
            entries.append(Entry(key: key, value: initial))
            places[key] = place
        } else {
            guard let last = oldest else { preconditionFailure("a full table has an oldest entry") }
            place = last
            unlink(place)
            places[entries[place].key] = nil
            entries[place] = Entry(key: key, value: initial)
            places[key] = place
        }
        entries[place].newer = nil
        entries[place].older = newest
        if let newest { entries[newest].newer = place }
        newest = place
        if oldest == nil { oldest = place }
        return body(&entries[place].value)
    }

    private mutating func unlink(_ place: Int) {
        let (newer, older) = (entries[place].newer, entries[place].older)
        if let newer { entries[newer].older = older } else { newest = older }
        if let older { entries[older].newer = newer } else { oldest = newer }
    }
}
