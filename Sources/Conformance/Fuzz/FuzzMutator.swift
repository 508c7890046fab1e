package import Seeded

/// Makes new sequences from those of the corpus. The seed and the number of a round decide all of it, so that any round
/// can be had again without those before it.
package struct FuzzMutator: Sendable {
    package let seed: UInt64
    private let corpus: [FuzzSequence]

    package init(corpus: [FuzzSequence], seed: UInt64) {
        precondition(!corpus.isEmpty, "nothing to mutate")
        self.corpus = corpus
        self.seed = seed
    }

    package func sequence(_ round: Int) -> FuzzSequence {
        var draft = Draft(corpus: corpus, generator: generator(round))
        return draft.sequence(round)
    }

    /// For whatever else is left to chance in that round.
    package func generator(_ round: Int) -> SeededGenerator {
        var generator = SeededGenerator(seed: seed)
        return SeededGenerator(seed: generator.next() ^ UInt64(truncatingIfNeeded: round) &* 0xD6E8_FEB8_6659_FD93)
    }
}

/// A sequence that is being mutated.
private struct Draft {
    private let corpus: [FuzzSequence]
    private var generator: SeededGenerator
    private var steps: [FuzzSequence.Step] = []

    private static let bytes: [UInt8] = [
        0, 1, 2, 3, 4, 5, 0x10, 0x20, 0x30, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xff,
        UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "+"), UInt8(ascii: "/"),
    ]
    private static let lengths = [0, 1, 2, 3, 4, 127, 128, 255, 256, 16_383, 16_384, 65_534, 65_535, 2_097_152]
    private static let identifiers: [UInt16] = [1, 2, 3, 0xffff]
    private static let clients = ["fuzz-a", "fuzz-b"].map { Array($0.utf8) }
    private static let topics = ["fuzz/a", "fuzz/b", "fuzz/a/b", "fuzz", "fuzz//"].map { Array($0.utf8) }
    private static let filters = [
        "fuzz/#", "fuzz/+", "fuzz/a", "fuzz/a/b", "fuzz/+/b", "#", "+/a", "$share/g/fuzz/#", "$share/g/fuzz/a",
        "$share/h/fuzz/+",
    ].map { Array($0.utf8) }

    init(corpus: [FuzzSequence], generator: SeededGenerator) {
        self.corpus = corpus
        self.generator = generator
    }

    mutating func sequence(_ round: Int) -> FuzzSequence {
        let origin = generator.element(of: corpus)
        steps = origin.steps
        switch generator.below(10) {
        case 0: splice(generator.element(of: corpus).steps)
        case 1, 2: interleave(generator.element(of: corpus).steps)
        default: break
        }
        // So that the clients meet: the same names, topics and identifiers.
        if generator.happens(30) { unify(Self.unifyNames) }
        if generator.happens(30) { unify(Self.unifyIdentifier) }
        repeat {
            if generator.happens(45) { mutateSteps() } else { mutateSend() }
        } while generator.happens(60)
        limit()
        return FuzzSequence(name: "\(origin.name)-\(round)", steps: steps)
    }

    private mutating func limit() {
        var byteCount = 0
        steps = Array(
            steps.prefix(FuzzSequence.stepLimit).prefix { step in
                if case .send(let bytes) = step.action { byteCount += bytes.count }
                return byteCount <= FuzzSequence.byteLimit
            })
        if steps.isEmpty { steps = [FuzzSequence.Step(connection: 0, action: .send([0xc0, 0]))] }
    }

    // MARK: Steps

    private mutating func splice(_ other: [FuzzSequence.Step]) {
        steps = Array(steps.prefix(generator.below(steps.count) + 1) + other.suffix(generator.below(other.count) + 1))
    }

    /// Two sequences at once, on connections of their own or on the same.
    private mutating func interleave(_ other: [FuzzSequence.Step]) {
        let shift = generator.below(FuzzSequence.connectionCount)
        var (first, second) = (steps[...], other[...])
        steps = []
        while let next = generator.happens(50) ? first.popFirst() ?? second.popFirst() : second.popFirst() {
            steps.append(next)
            if second.isEmpty { break }
            if generator.happens(50), var moved = second.popFirst() {
                moved.connection = (moved.connection + shift) % FuzzSequence.connectionCount
                steps.append(moved)
            }
        }
        steps += first
    }

    private mutating func mutateSteps() {
        let place = generator.below(steps.count)
        let connection = generator.below(FuzzSequence.connectionCount)
        switch generator.below(11) {
        case 0: if steps.count > 1 { steps.remove(at: place) }
        case 1: steps.insert(steps[place], at: generator.below(steps.count + 1))
        case 2: steps.insert(contentsOf: repeatElement(steps[place], count: 1 + generator.below(24)), at: place)
        case 3: steps.swapAt(place, generator.below(steps.count))
        case 4: steps.insert(generator.element(of: generator.element(of: corpus).steps), at: place)
        case 5: steps[place].connection = connection
        case 6: steps.insert(FuzzSequence.Step(connection: connection, action: .answer), at: place)
        case 7:
            let action: FuzzSequence.Action = generator.happens(50) ? .close : .reset
            steps.insert(FuzzSequence.Step(connection: steps[place].connection, action: action), at: place)
        case 8: divide(place)
        case 9: join(place)
        default:
            // One packet of a step, elsewhere once more.
            guard case .send(let bytes) = steps[place].action else { return }
            let piece = FuzzSequence.Action.send(generator.element(of: FuzzSequence.pieces(of: bytes) + [bytes]))
            steps.insert(FuzzSequence.Step(connection: connection, action: piece), at: generator.below(steps.count + 1))
        }
    }

    /// One write becomes two.
    private mutating func divide(_ place: Int) {
        guard case .send(let bytes) = steps[place].action, bytes.count > 1 else { return }
        let middle = 1 + generator.below(bytes.count - 1)
        steps[place].action = .send(Array(bytes[..<middle]))
        let rest = FuzzSequence.Step(connection: steps[place].connection, action: .send(Array(bytes[middle...])))
        steps.insert(rest, at: place + 1)
    }

    /// This write and the next of the same connection become one.
    private mutating func join(_ place: Int) {
        let connection = steps[place].connection
        guard case .send(let bytes) = steps[place].action,
            let next = steps[(place + 1)...].firstIndex(where: { $0.connection == connection }),
            case .send(let more) = steps[next].action
        else { return }
        steps[place].action = .send(bytes + more)
        steps.remove(at: next)
    }

    // MARK: Bytes

    private mutating func mutateSend() {
        let place = generator.below(steps.count)
        guard case .send(let bytes) = steps[place].action, !bytes.isEmpty else { return mutateSteps() }
        var pieces = FuzzSequence.pieces(of: bytes)
        let index = generator.below(pieces.count)
        pieces[index] = mutated(pieces[index])
        steps[place].action = .send(pieces.flatMap { $0 })
    }

    private mutating func mutated(_ piece: [UInt8]) -> [UInt8] {
        guard case .frame(var frame, _) = Frame.cut(piece), generator.happens(75) else {
            var bytes = piece
            mutate(&bytes)
            return bytes
        }
        switch generator.below(8) {
        case 0: frame.firstByte ^= 1 << generator.below(8)
        case 1: return frame.bytes(remainingLength: generator.element(of: Self.lengths))
        case 2: if let other = Self.unifyNames(frame, &generator) { frame = other }
        case 3: if let other = Self.unifyIdentifier(frame, &generator) { frame = other }
        case 4: toggle(&frame)
        default: mutate(&frame.body)
        }
        // The Remaining Length is true again, so that what is wrong lies deeper.
        return frame.bytes()
    }

    private mutating func mutate(_ bytes: inout [UInt8]) {
        guard !bytes.isEmpty else {
            bytes.append(generator.element(of: Self.bytes))
            return
        }
        let place = generator.below(bytes.count)
        switch generator.below(8) {
        case 0: bytes[place] ^= 1 << generator.below(8)
        case 1: bytes[place] = generator.element(of: Self.bytes)
        case 2: bytes.insert(generator.element(of: Self.bytes), at: place)
        case 3: bytes.insert(UInt8(generator.below(256)), at: place)
        case 4: bytes.removeSubrange(place..<min(bytes.count, place + 1 + generator.below(4)))
        case 5: bytes.insert(contentsOf: repeatElement(bytes[place], count: 1 + generator.below(300)), at: place)
        case 6:
            guard case .send(let other) = generator.element(of: generator.element(of: corpus).steps).action,
                !other.isEmpty
            else { return }
            bytes.replaceSubrange(place..., with: other[generator.below(other.count)...])
        default:
            // What may be the length of a field, and is no longer true.
            guard place + 1 < bytes.count else { return }
            bytes.replaceSubrange(
                place..<place + 2, with: Wire.uint16(UInt16(generator.element(of: Self.lengths) & 0xffff)))
        }
    }

    /// Flags that mean something: clean or persistent, retained or not, another QoS.
    private mutating func toggle(_ frame: inout Frame) {
        switch frame.kind {
        case .connect:
            guard frame.body.count > 1 else { return }
            let place = 3 + Self.uint16(frame.body, at: 0)
            guard place < frame.body.count else { return }
            frame.body[place] ^= generator.element(of: [0x02, 0x02, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80])
        case .publish: frame.firstByte = 0x30 | UInt8(generator.below(16))
        case .subscribe: if let last = frame.body.indices.last { frame.body[last] = UInt8(generator.below(4)) }
        default: frame.firstByte = UInt8(generator.below(16)) << 4 | frame.firstByte & 0x0f
        }
    }

    // MARK: What interacts

    private mutating func unify(_ change: (Frame, inout SeededGenerator) -> Frame?) {
        for place in steps.indices {
            guard case .send(let bytes) = steps[place].action else { continue }
            let pieces = FuzzSequence.pieces(of: bytes).map { piece in
                guard case .frame(let frame, _) = Frame.cut(piece), let changed = change(frame, &generator) else {
                    return piece
                }
                return changed.bytes()
            }
            steps[place].action = .send(pieces.flatMap { $0 })
        }
    }

    /// One of few Client Identifiers, topics or filters.
    private static func unifyNames(_ frame: Frame, _ generator: inout SeededGenerator) -> Frame? {
        guard frame.body.count >= 2 else { return nil }
        switch frame.kind {
        case .connect:
            return replaceField(in: frame, at: 6 + uint16(frame.body, at: 0), with: generator.element(of: clients))
        case .publish: return replaceField(in: frame, at: 0, with: generator.element(of: topics))
        case .subscribe, .unsubscribe: return replaceField(in: frame, at: 2, with: generator.element(of: filters))
        default: return nil
        }
    }

    private static func unifyIdentifier(_ frame: Frame, _ generator: inout SeededGenerator) -> Frame? {
        guard frame.body.count >= 2 else { return nil }
        var place = 0
        switch frame.kind {
        case .publish where frame.firstByte & 6 != 0: place = 2 + uint16(frame.body, at: 0)
        case .puback, .pubrec, .pubrel, .pubcomp, .subscribe, .unsubscribe: break
        default: return nil
        }
        guard place + 2 <= frame.body.count else { return nil }
        var frame = frame
        frame.body.replaceSubrange(place..<place + 2, with: Wire.uint16(generator.element(of: identifiers)))
        return frame
    }

    private static func replaceField(in frame: Frame, at place: Int, with text: [UInt8]) -> Frame? {
        guard place + 2 <= frame.body.count else { return nil }
        let end = place + 2 + uint16(frame.body, at: place)
        guard end <= frame.body.count else { return nil }
        var frame = frame
        frame.body.replaceSubrange(place..<end, with: Wire.string(text))
        return frame
    }

    private static func uint16(_ bytes: [UInt8], at place: Int) -> Int {
        Int(bytes[place]) << 8 | Int(bytes[place + 1])
    }
}
