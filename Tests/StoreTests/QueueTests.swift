import Access
import Glibc
import MQTT
import Seeded
import Store
import Testing

@testable import Broker
@testable import Durability

/// What lies in the queues of `broker.db`, whether a message has a row or is in a run.
@Suite struct `A queue on the disk` {
    private let place = TemporaryDirectory()

    private func store(in directory: DataDirectory) throws -> BrokerStore {
        try BrokerStore(
            in: directory, takeRetained: { [] },
            clock: { Clock(time: 1_800_000_000_000, instant: Instant(milliseconds: 5_000)) }, tell: { _ in })
    }

    /// All that lies behind `after`, as a shard reads it: a piece after the other.
    private func rows(
        of session: StoredSession, in store: BrokerStore, after: UInt64 = 0, before: UInt64 = .max
    ) async throws -> [QueuedMessage] {
        var (rows, after): ([QueuedMessage], UInt64) = ([], after)
        while true {
            let request = QueueRequest(
                reference: SessionReference(number: 0, incarnation: 0), session: session, after: after,
                before: before, committed: 0)
            let answer = try #require(await store.read(request))
            rows += answer.rows
            guard !answer.isAll else { return rows }
            after = try #require(answer.rows.last).sequence
        }
    }

    private func restored(_ store: BrokerStore) async throws -> [StoredSession: RestoredSession] {
        let sessions = try await store.load(listeners: 1).sessions
        return Dictionary(uniqueKeysWithValues: sessions.map { ($0.session, $0) })
    }

    /// How many rows there are, of messages and of runs.
    private func counts() throws -> (rows: Int, runs: Int) {
        let database = try Database("\(place.path)/broker.db", isReadOnly: true)
        let counts = ["queue", "run"].map { try? database.number("SELECT count(*) FROM \($0)") }
        return (Int((counts[0] ?? nil) ?? -1), Int((counts[1] ?? nil) ?? -1))
    }

    @Test func `has what came behind one another in a few rows`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        var queues = Queues()
        for number in 0..<1000 { queues.append(to: 1 + StoredSession(number % 2), bytes: 100) }
        #expect(await store.commit([queues.takeChanges()]))
        #expect(try counts() == (0, 8))
        for session in [1, 2] as [StoredSession] { queues.expect(try await rows(of: session, in: store), of: session) }
        // One alone, a long one, a shared one, one that is in memory too and one that has its identifier have rows.
        queues.append(to: 1, bytes: 10)
        queues.append(to: 2, bytes: 5000)
        queues.append(to: 2, bytes: 10, isShared: true)
        queues.append(to: 2, bytes: 10, isSpilled: false)
        queues.append(to: 2, bytes: 10)
        queues.setIdentifier(ofLastOf: 2)
        #expect(await store.commit([queues.takeChanges()]))
        #expect(try counts() == (5, 8))
        for session in [1, 2] as [StoredSession] { queues.expect(try await rows(of: session, in: store), of: session) }
        try await store.close()
        directory.release()
    }

    /// Whatever happens to the messages of a queue, the disk has what is left of it, and counts that.
    @Test(arguments: 1...12) func `is what its session has made of it`(_ seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        var queues = Queues()
        for _ in 0..<4 {
            let directory = try place.open()
            let store = try store(in: directory)
            let before = try await restored(store)
            for (session, queue) in queues.all {
                #expect(before[session]?.queued == queue.count)
                #expect(before[session]?.queuedBytes == queues.bytes(of: session))
                #expect(before[session]?.inFlight == queue.values.count { $0.packet != 0 })
                #expect(before[session]?.inFlightBytes == queues.bytes(of: session, inFlight: true))
                #expect((before[session]?.nextSequence ?? 0) > (queue.keys.max() ?? 0))
            }
            for _ in 0..<12 {
                for _ in 0...generator.below(4) { queues.change(&generator) }
                #expect(await store.commit([queues.takeChanges()]))
                for session in queues.all.keys {
                    queues.expect(try await rows(of: session, in: store), of: session)
                    let after = UInt64(generator.below(600))
                    let before = after + UInt64(generator.below(300))
                    let part = try await rows(of: session, in: store, after: after, before: before)
                    queues.expect(part, of: session, after: after, before: before)
                }
            }
            try await store.close()
            directory.release()
        }
    }

    @Test func `leaves nothing of a session that is no more`() async throws {
        let directory = try place.open()
        let store = try store(in: directory)
        _ = try await store.load(listeners: 1)
        var queues = Queues()
        for _ in 0..<20_000 { queues.append(to: 1, bytes: 10) }
        for _ in 0..<300 { queues.append(to: 2, bytes: 10) }
        #expect(await store.commit([queues.takeChanges()]))
        #expect(await store.commit([Changes(removing: 1)]))
        while try counts().runs > 3 { try await Task.sleep(for: .milliseconds(10)) }
        queues.expect(try await rows(of: 2, in: store), of: 2)
        try await store.close()
        directory.release()
    }

    @Test func `is taken over from the version before, which had no runs`() async throws {
        var queues = Queues()
        do {
            let directory = try place.open()
            let store = try store(in: directory)
            for _ in 0..<50 {
                queues.append(to: 1, bytes: 20)
                #expect(await store.commit([queues.takeChanges()]))
            }
            try await store.close()
            directory.release()
            let database = try Database("\(place.path)/broker.db")
            try database.execute("DROP TABLE run; PRAGMA user_version = 2")
        }
        let directory = try place.open()
        let store = try store(in: directory)
        #expect(try await restored(store)[1]?.queued == 50)
        for _ in 0..<50 { queues.append(to: 1, bytes: 20) }
        #expect(await store.commit([queues.takeChanges()]))
        #expect(try counts() == (50, 1))
        queues.expect(try await rows(of: 1, in: store), of: 1)
        try await store.close()
        directory.release()
    }

    /// A page that is damaged may say anything: what is read from it has its place, and the others are still there.
    @Test func `goes on where runs are damaged`() async throws {
        var generator = SeededGenerator(seed: 5)
        let directory = try place.open()
        let store = try store(in: directory)
        var queues = Queues()
        for _ in 0..<640 { queues.append(to: 1, bytes: 30) }
        #expect(await store.commit([queues.takeChanges()]))
        for round in 0..<60 {
            let bytes = (0..<generator.below(200)).map { _ in UInt8(truncatingIfNeeded: generator.below(256)) }
            let hexadecimal = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            let sequence = 1 + 128 * (1 + generator.below(3))
            do {
                let database = try Database("\(place.path)/broker.db")
                try database.execute(
                    round % 3 == 0
                        ? "UPDATE run SET body = x'\(hexadecimal)' WHERE sequence = \(sequence)"
                        : """
                        UPDATE run SET body = CAST(substr(body, 1, \(generator.below(5000))) || x'\(hexadecimal)' AS BLOB)
                        WHERE sequence = \(sequence)
                        """)
            }
            let found = try await rows(of: 1, in: store)
            #expect(found.first?.sequence == 1 && found.last?.sequence == 640 && found.count >= 256)
            #expect(zip(found, found.dropFirst()).allSatisfy { $0.sequence < $1.sequence })
            for row in found where row.sequence <= 128 || row.sequence > 512 {
                #expect(queues.all[1]?[row.sequence]?.message == row.message)
            }
        }
        // Those that are there no more can be taken out of it all the same.
        for sequence in stride(from: 129, through: 512, by: 7) as StrideThrough<UInt64> {
            queues.delete(sequence...(sequence + 3), of: 1)
            #expect(await store.commit([queues.takeChanges()]))
        }
        let left = try await rows(of: 1, in: store)
        #expect(left.count >= 256 - 4 && left.allSatisfy { queues.all[1]?[$0.sequence] != nil })
        try await store.close()
        directory.release()
    }

    @Test func `a run is read as far as it is one`() {
        var generator = SeededGenerator(seed: 9)
        for _ in 0..<2000 {
            var run: [UInt8] = []
            let messages = (0..<generator.below(5)).map { _ in
                (0..<generator.below(300)).map { _ in UInt8(truncatingIfNeeded: generator.below(256)) }
            }
            for message in messages { MessageRun.append(message.span, flags: 1, to: &run) }
            #expect(MessageRun.messages(of: run.span).map { Array(run[$0.bytes]) } == messages)
            for _ in 0..<generator.below(4) where !run.isEmpty {
                run[generator.below(run.count)] = UInt8(truncatingIfNeeded: generator.below(256))
            }
            run.removeLast(generator.below(run.count + 1))
            var end = 0
            for message in MessageRun.messages(of: run.span) {
                #expect(
                    message.bytes.lowerBound == end + MessageRun.headerBytes && message.bytes.upperBound <= run.count)
                end = message.bytes.upperBound
            }
        }
    }
}

/// Queues as their sessions know them, and what of them has not been committed.
private struct Queues {
    struct Entry {
        var qos: QoS
        var packet: PacketIdentifier
        var isReleased: Bool
        var shared: SharedMessage
        var isSpilled = true
        var message: ApplicationMessage
    }

    private(set) var all: [StoredSession: [UInt64: Entry]] = [:]
    private var next: [StoredSession: UInt64] = [:]
    private var nextShared: SharedMessage = 1
    private var nextPacket: PacketIdentifier = 1
    private var changes = Changes()
    /// In `changes`, and where.
    private var inserted: [StoredSession: [UInt64: Int]] = [:]

    mutating func takeChanges() -> Changes {
        defer { (changes, inserted) = (Changes(), [:]) }
        return changes
    }

    func bytes(of session: StoredSession, inFlight: Bool = false) -> Int {
        all[session, default: [:]].values.filter { !$0.isReleased && (!inFlight || $0.packet != 0) }
            .reduce(0) { $0 + $1.message.payloadCount }
    }

    mutating func append(
        to session: StoredSession, bytes: Int, qos: QoS = .atLeastOnce, isShared: Bool = false, isSpilled: Bool = true
    ) {
        if all[session] == nil {
            var (ledger, place) = (
                Ledger(DurabilityRules(.acknowledged), shard: 0, of: 1, sessions: session, shared: 1), ChangePlace.none
            )
            ledger.keep(
                Changes.SessionRow(
                    session: session, client: ClientIdentifier("c\(session)"), participant: nil, absentSince: nil),
                at: &place)
            ledger.close()
            if let row = ledger.takeClosed()?.sessions.first { _ = changes.keep(row, at: nil) }
        }
        let sequence = next[session, default: 1]
        next[session] = sequence + 1
        var entry = Entry(
            qos: qos, packet: 0, isReleased: false, shared: 0, isSpilled: isSpilled,
            message: ApplicationMessage(
                topic: "t/\(session)", payload: [UInt8](repeating: UInt8(truncatingIfNeeded: sequence), count: bytes)))
        if isShared {
            entry.shared = nextShared
            nextShared += 1
        }
        inserted[session, default: [:]][sequence] = changes.nextRow
        all[session, default: [:]][sequence] = entry
        append(.insert, session, sequence, entry)
    }

    /// The place is left out: what had it was gone before it got to the disk.
    mutating func skip(_ session: StoredSession) { next[session, default: 1] += 1 }

    mutating func setIdentifier(ofLastOf session: StoredSession) {
        guard let sequence = all[session]?.keys.max() else { return }
        setIdentifier(of: sequence, session)
    }

    mutating func setIdentifier(of sequence: UInt64, _ session: StoredSession) {
        all[session]?[sequence]?.packet = nextPacket
        nextPacket = nextPacket % 60_000 + 1
        update(sequence, session)
    }

    mutating func release(_ sequence: UInt64, _ session: StoredSession) {
        all[session]?[sequence]?.isReleased = true
        update(sequence, session)
    }

    private mutating func update(_ sequence: UInt64, _ session: StoredSession) {
        guard let entry = all[session]?[sequence] else { return }
        if let row = inserted[session]?[sequence] {
            changes.setIdentifier(entry.packet, ofRow: row)
            if entry.isReleased { changes.release(row: row) }
        } else {
            append(.update, session, sequence, entry)
        }
    }

    mutating func delete(_ sequences: ClosedRange<UInt64>, of session: StoredSession) {
        for sequence in sequences {
            guard let entry = all[session]?.removeValue(forKey: sequence) else { continue }
            if let row = inserted[session]?[sequence] {
                _ = changes.delete(row: row)
            } else {
                append(.delete, session, sequence, entry)
            }
        }
    }

    private mutating func append(
        _ kind: Changes.QueueRow.Kind, _ session: StoredSession, _ sequence: UInt64, _ entry: Entry
    ) {
        changes.append(
            Changes.QueueRow(
                kind: kind, qos: entry.qos, isRetained: false, isReleased: entry.isReleased,
                packetIdentifier: entry.packet, session: session, sequence: sequence, isShared: entry.shared != 0,
                shared: kind == .insert ? entry.shared : 0, isSpilled: kind == .insert && entry.isSpilled,
                message: kind == .insert ? entry.message : nil, handover: 0)
        )
    }

    mutating func change(_ generator: inout SeededGenerator) {
        let session = StoredSession(1 + generator.below(3))
        let sequences = all[session, default: [:]].keys.sorted()
        switch generator.below(sequences.isEmpty ? 2 : 8) {
        case 0, 1:
            for _ in 0...generator.below(150) {
                // To several at once, as a subscription with many sessions has it.
                let other = generator.below(20) == 0 ? StoredSession(1 + generator.below(3)) : session
                append(
                    to: other, bytes: generator.below(40) == 0 ? 4500 : generator.below(60),
                    qos: generator.below(3) == 0 ? .exactlyOnce : .atLeastOnce, isShared: generator.below(60) == 0,
                    isSpilled: generator.below(30) != 0)
                if generator.below(50) == 0 { skip(session) }
            }
        case 2:
            for sequence in sequences.prefix(generator.below(40)) { setIdentifier(of: sequence, session) }
        case 3:
            let start = generator.below(sequences.count)
            for sequence in sequences[start...].prefix(generator.below(10)) where all[session]?[sequence]?.packet == 0 {
                setIdentifier(of: sequence, session)
            }
        case 4:
            let sequence = sequences[generator.below(sequences.count)]
            guard all[session]?[sequence]?.qos == .exactlyOnce else { return }
            setIdentifier(of: sequence, session)
            release(sequence, session)
        case 5:
            let sequence = sequences[generator.below(sequences.count)]
            delete(sequence...sequence, of: session)
        case 6:
            let start = sequences[generator.below(sequences.count)]
            delete(start...(start + UInt64(generator.below(20))), of: session)
        default:
            delete(sequences[0]...(sequences[0] + UInt64(generator.below(400))), of: session)
        }
    }

    func expect(
        _ rows: [QueuedMessage], of session: StoredSession, after: UInt64 = 0, before: UInt64 = .max
    ) {
        let expected = all[session, default: [:]].filter { $0.key > after && $0.key < before }.sorted {
            $0.key < $1.key
        }
        #expect(rows.map(\.sequence) == expected.map(\.key))
        for (row, (_, entry)) in zip(rows, expected) {
            #expect(row.packetIdentifier == entry.packet && row.qos == entry.qos && row.isReleased == entry.isReleased)
            #expect(row.message == (entry.isReleased ? nil : entry.message))
            #expect(row.isShared == (entry.shared != 0 && !entry.isReleased))
        }
    }
}
