/// What some clients do, as bytes: an entry of the corpus, or what has become of one.
package struct FuzzSequence: Sendable, Equatable {
    package enum Action: Sendable, Equatable {
        case send([UInt8])
        /// From now on the client answers each PUBLISH, PUBREC and PUBREL that comes, as a good client does.
        case answer
        /// Closes its side without DISCONNECT, and reads until the broker has closed the other.
        case close
        /// Ends the connection as a network does that fails.
        case reset
    }

    package struct Step: Sendable, Equatable {
        /// 0 up to `FuzzSequence.connectionCount`, `A` to `D` in text.
        package var connection: Int
        package var action: Action

        package init(connection: Int, action: Action) {
            self.connection = connection
            self.action = action
        }
    }

    /// Connections at once.
    package static let connectionCount = 4
    /// Bytes and steps of one sequence, however often it is mutated.
    static let byteLimit = 64 << 10
    static let stepLimit = 96

    package let name: String
    package var steps: [Step]

    package init(name: String, steps: [Step]) {
        self.name = name
        self.steps = steps
    }

    package var byteCount: Int {
        steps.reduce(0) { if case .send(let bytes) = $1.action { $0 + bytes.count } else { $0 } }
    }

    /// The same, each packet a step of its own; bytes that are no whole packet are one step.
    package var divided: FuzzSequence {
        FuzzSequence(
            name: name,
            steps: steps.flatMap { step in
                guard case .send(let bytes) = step.action else { return [step] }
                return Self.pieces(of: bytes).map { Step(connection: step.connection, action: .send($0)) }
            })
    }

    /// Whole packets, and what is left behind the last.
    package static func pieces(of bytes: [UInt8]) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var rest = bytes[...]
        while case .frame(_, let byteCount) = Frame.cut(rest) {
            pieces.append(Array(rest.prefix(byteCount)))
            rest = rest.dropFirst(byteCount)
        }
        return rest.isEmpty ? pieces : pieces + [Array(rest)]
    }
}

// MARK: - Writing

extension FuzzSequence {
    /// An entry for `conformance/corpus.txt`.
    package func text(_ sentence: String) -> String {
        (["sequence \(name): \(sentence)"] + steps.map { "  \($0)" }).joined(separator: "\n")
    }
}

extension FuzzSequence.Step: CustomStringConvertible {
    package var description: String {
        let name = Character(UnicodeScalar(UInt8(ascii: "A") + UInt8(connection)))
        return switch action {
        case .send(let bytes): "\(name) > bytes \(Self.items(bytes))"
        case .answer: "\(name) answers"
        case .close: "\(name) closes"
        case .reset: "\(name) resets"
        }
    }

    /// `00 04 100 * 2f`: all of the bytes, runs of one byte shortened.
    private static func items(_ bytes: [UInt8]) -> String {
        var items: [String] = []
        var rest = bytes[...]
        while let first = rest.first {
            let run = rest.prefix { $0 == first }.count
            let isLong = run >= 16
            items.append(isLong ? "\(run) * \(hexadecimal(first))" : hexadecimal(first))
            rest = rest.dropFirst(isLong ? run : 1)
        }
        return items.joined(separator: " ")
    }
}

// MARK: - Reading

extension FuzzSequence {
    /// What `~` stands for: the same in each run, so that a seed says all.
    private static let home = "fuzz"

    /// With four other letters in the place of `home`, wherever it is sent.
    func renamed(_ number: Int) -> FuzzSequence {
        let home = Array(Self.home.utf8)
        let digits = Array(String(number % 0x10000, radix: 16).utf8)
        let name = Array(repeating: UInt8(ascii: "0"), count: home.count - digits.count) + digits
        var renamed = self
        for place in steps.indices {
            guard case .send(var bytes) = steps[place].action else { continue }
            for start in bytes.indices where bytes[start...].starts(with: home) {
                bytes.replaceSubrange(start..<(start + home.count), with: name)
            }
            renamed.steps[place].action = .send(bytes)
        }
        return renamed
    }

    /// The corpus that is in the binary: `corpus.txt`, and what the clients of each case of the suite send.
    package static func embeddedCorpus(withCases: Bool = true) throws(SuiteError) -> [FuzzSequence] {
        try corpus(files: Suite.embeddedFiles, withCases: withCases)
    }

    package static func corpus(
        files: [(name: String, text: String)], withCases: Bool = true
    ) throws(SuiteError) -> [FuzzSequence] {
        guard let file = files.first(where: { $0.name == "corpus.txt" }) else {
            throw SuiteError(file: "corpus.txt", line: 0, reason: "missing")
        }
        let own = try corpus(file.text, file: file.name)
        return withCases ? own + (try Suite(files: files).cases.compactMap(FuzzSequence.init)) : own
    }

    /// The entries of a file: `sequence NAME: SENTENCE`, then lines of the language of the cases that send something.
    package static func corpus(_ text: String, file: String) throws(SuiteError) -> [FuzzSequence] {
        var sequences: [FuzzSequence] = []
        var reader = StepReader()
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            func refusal(_ reason: String) -> SuiteError { SuiteError(file: file, line: index + 1, reason: reason) }
            let line = line.trimmed
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line.hasPrefix("sequence ") {
                let parts = line.dropFirst("sequence ".count).split(separator: ":", maxSplits: 1)
                guard parts.count == 2 else { throw refusal("`sequence NAME: SENTENCE` is wanted") }
                sequences.append(FuzzSequence(name: parts[0].trimmed, steps: []))
                reader = StepReader()
                continue
            }
            guard !sequences.isEmpty else { throw refusal("a line before the first sequence") }
            do throws(Script.Mistake) {
                sequences[sequences.count - 1].steps += try reader.steps(of: line, home: home)
            } catch {
                throw refusal(error.reason)
            }
        }
        if let empty = sequences.first(where: \.steps.isEmpty) {
            throw SuiteError(file: file, line: 0, reason: "\(empty.name) does nothing")
        }
        if let long = sequences.first(where: { $0.byteCount > byteLimit || $0.steps.count > stepLimit }) {
            throw SuiteError(file: file, line: 0, reason: "\(long.name) is too long")
        }
        return sequences
    }

    /// What the clients of a case send, with the first value of each parameter; nil if it is nothing or too much.
    init?(_ script: Case) {
        guard let values = script.combinations.first else { return nil }
        var reader = StepReader()
        name = script.name
        steps = reader.steps(of: script.items, values, home: Self.home)
        guard !steps.isEmpty, steps.count <= Self.stepLimit, byteCount <= Self.byteLimit / 2 else { return nil }
    }
}

/// Turns lines of a case into steps: what is expected becomes nothing, or the answer to it.
private struct StepReader {
    private var names: [String] = []
    private var latestIdentifier: UInt16 = 0

    private static let turnLimit = 8

    mutating func steps(of items: [Case.Item], _ values: Case.Values, home: String) -> [FuzzSequence.Step] {
        items.flatMap { item -> [FuzzSequence.Step] in
            switch item {
            case .line(let line): (try? steps(of: line.text.substituting(values), home: home)) ?? []
            case .block(_, let count, let counter, let items):
                (0..<min(Int(line: count, values) ?? 1, Self.turnLimit)).flatMap { turn in
                    steps(of: items, values + [(counter, String(turn + 1))], home: home)
                }
            }
        }
    }

    mutating func steps(of line: String, home: String) throws(Script.Mistake) -> [FuzzSequence.Step] {
        let words = line.split(separator: " ")
        if words.count == 2, words[1] == "answers" { return [step(String(words[0]), .answer)] }
        switch try Script.step(line, Script.Scope(home: home, variables: nil)) {
        case .send(_, _, .frame), .offer: return []  // Of the transport.
        case .send(let name, let bytes, _), .connect(let name, let bytes, _): return [step(name, .send(bytes))]
        case .subscribe(let name, let subscriptions):
            return [send(name, Frame(.subscribe, freshIdentifier() + Wire.body(of: subscriptions)))]
        case .unsubscribe(let name, let filters):
            return [send(name, Frame(.unsubscribe, freshIdentifier() + filters.flatMap { Wire.string($0) }))]
        case .publish(let name, var publication):
            guard publication.qos > 0 else { return [send(name, Wire.frame(of: publication))] }
            let identifier = freshIdentifier()
            publication.identifier = latestIdentifier
            let publish = send(name, Wire.frame(of: publication))
            return publication.qos == 2 ? [publish, send(name, Frame(.pubrel, identifier))] : [publish]
        case .receive(let name, _), .collect(let name): return [step(name, .answer)]
        case .ping(let name): return [send(name, Frame(.pingreq))]
        case .disconnect(let name): return [send(name, Frame(.disconnect)), step(name, .close)]
        case .close(let name): return [step(name, .close)]
        case .reset(let name): return [step(name, .reset)]
        case .expect(let name, let patterns, _):
            // What comes on this name from here on is another connection.
            guard case .closed? = patterns.first else { return [] }
            return [step(name, .close)]
        case .collected, .wait, .distinct, .restart: return []
        }
    }

    private mutating func freshIdentifier() -> [UInt8] {
        latestIdentifier += 1
        return Wire.uint16(latestIdentifier)
    }

    private mutating func send(_ name: String, _ frame: Frame) -> FuzzSequence.Step { step(name, .send(frame.bytes())) }

    private mutating func step(_ name: String, _ action: FuzzSequence.Action) -> FuzzSequence.Step {
        if !names.contains(name) { names.append(name) }
        let place = names.firstIndex(of: name) ?? 0
        return FuzzSequence.Step(connection: place % FuzzSequence.connectionCount, action: action)
    }
}
