import Access
package import MQTT

/// What the specification calls ClientId (3.1.3.1): UTF-8 that names a session [MQTT-3.1.3-2].
package struct ClientIdentifier: Hashable, Sendable {
    package let bytes: [UInt8]
    package init(_ bytes: [UInt8]) { self.bytes = bytes }
    package init(_ text: String) { bytes = Array(text.utf8) }

    package func hash(into hasher: inout Hasher) {
        // In one piece: element by element costs four times as much.
        unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    }
}

extension ClientIdentifier: CustomStringConvertible {
    package var description: String { String(decoding: bytes, as: UTF8.self) }
}

/// A session's place: the number modulo the shards is its shard, the quotient its slot there. So a number says at once
/// where to go.
package typealias SessionNumber = UInt32

/// A session that may be gone by the time the reference is used: then the incarnation differs.
package struct SessionReference: Hashable, Sendable {
    package let number: SessionNumber
    package let incarnation: UInt32
}

/// A session that gets a message: 12 bytes.
package struct Receiver: Equatable, Sendable {
    package let session: SessionReference
    package var maximumQoS: QoS
    /// The session is on the disk.
    package var isLasting = false
}

/// All sessions of all shards, as the trees need them.
struct SessionTable: Sendable {
    struct Row: Sendable {
        var client = ClientIdentifier([])
        var incarnation: UInt32 = 0
        /// First of the chain of its subscriptions in `SubscriptionTree`.
        var subscriptions: UInt32 = 0
        var subscriptionCount: UInt32 = 0
        fileprivate var mark: UInt32 = 0
        fileprivate var receiver: UInt32 = 0
        var isInUse = false
        var isConnected = false
        var isLasting = false
    }

    private var rows: [Row] = []
    private var numbers: [ClientIdentifier: SessionNumber] = [:]
    private var free: [[SessionNumber]]
    private(set) var connectedCount = 0
    /// What sessions with shared subscriptions may do, of those that may not read all that these match.
    private var rights: [SessionNumber: Rights] = [:]
    /// Sessions of each shard.
    private(set) var counts: [Int]
    /// Places of each shard that clients are on the way to.
    private var promised: [Int]
    private var latestMark: UInt32 = 0

    init(shards: Int) {
        free = Array(repeating: [], count: shards)
        counts = Array(repeating: 0, count: shards)
        promised = counts
    }

    var count: Int { numbers.count }

    subscript(number: SessionNumber) -> Row {
        @inline(__always) get { rows[Int(number)] }
        @inline(__always) _modify { yield &rows[Int(number)] }
    }

    func number(of client: ClientIdentifier) -> SessionNumber? { numbers[client] }
    func shard(of number: SessionNumber) -> Int { Int(number) % counts.count }

    /// The shard with the fewest sessions: a fleet connects while nothing is busy yet, and what it will do later can't be told
    /// from how busy a shard is now. Whoever is on the way there counts: many come at once, and all would go to the same.
    mutating func place() -> Int {
        var chosen = 0
        for shard in counts.indices {
            promised[shard] -= promised[shard] / 64  // Some never came.
            if counts[shard] + promised[shard] < counts[chosen] + promised[chosen] { chosen = shard }
        }
        promised[chosen] += 1
        return chosen
    }

    mutating func add(_ client: ClientIdentifier, shard: Int) -> SessionReference {
        promised[shard] = max(0, promised[shard] - 1)
        let number: SessionNumber
        if let used = free[shard].popLast() {
            number = used
        } else {
            number = SessionNumber(rows.count / counts.count * counts.count + shard)
            for other in 0..<counts.count {
                let fresh = SessionNumber(rows.count)
                if other != shard { free[other].append(fresh) }
                rows.append(Row())
            }
        }
        rows[Int(number)].client = client
        rows[Int(number)].isInUse = true
        numbers[client] = number
        counts[shard] += 1
        return SessionReference(number: number, incarnation: rows[Int(number)].incarnation)
    }

    mutating func remove(_ number: SessionNumber) {
        setConnected(number, false)
        setRights(number, nil)
        let shard = shard(of: number)
        numbers[rows[Int(number)].client] = nil
        rows[Int(number)] = Row(incarnation: rows[Int(number)].incarnation &+ 1)
        free[shard].append(number)
        counts[shard] -= 1
    }

    mutating func setConnected(_ number: SessionNumber, _ isConnected: Bool) {
        guard rows[Int(number)].isConnected != isConnected else { return }
        rows[Int(number)].isConnected = isConnected
        connectedCount += isConnected ? 1 : -1
    }

    mutating func setLasting(_ number: SessionNumber) { rows[Int(number)].isLasting = true }

    mutating func setRights(_ number: SessionNumber, _ rights: Rights?) {
        guard rights != nil || !self.rights.isEmpty else { return }
        self.rights[number] = rights
    }

    func mayRead(_ topic: Span<UInt8>, _ number: SessionNumber) -> Bool {
        guard !rights.isEmpty, let rights = rights[number] else { return true }
        return rights.mayRead(topic)
    }

    func isConnected(_ number: SessionNumber) -> Bool { rows[Int(number)].isConnected }

    @inline(__always)
    func receiver(_ number: SessionNumber, at maximumQoS: QoS) -> Receiver {
        Receiver(
            session: SessionReference(number: number, incarnation: rows[Int(number)].incarnation),
            maximumQoS: maximumQoS, isLasting: rows[Int(number)].isLasting
        )
    }

    /// Begins to note who is among the receivers; those there already are noted with their places.
    mutating func mark(_ receivers: ArraySlice<Receiver>) {
        latestMark &+= 1
        if latestMark == 0 {  // Wrapped: old marks must not look new.
            for index in rows.indices { rows[index].mark = 0 }
            latestMark = 1
        }
        for index in receivers.indices {
            rows[Int(receivers[index].session.number)].mark = latestMark
            rows[Int(receivers[index].session.number)].receiver = UInt32(index)
        }
    }

    /// Where the session stands among the receivers; if it doesn't, notes that it will stand at `index`.
    @inline(__always)
    mutating func markedIndex(of number: SessionNumber, orMark index: Int) -> Int? {
        if rows[Int(number)].mark == latestMark { return Int(rows[Int(number)].receiver) }
        rows[Int(number)].mark = latestMark
        rows[Int(number)].receiver = UInt32(index)
        return nil
    }
}
