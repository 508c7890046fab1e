/// A case of the suite: what it proves, when it may run, and its lines. `conformance/LANGUAGE.md` says how it is written.
package struct Case: Sendable {
    package enum Kind: Sendable, Equatable {
        case normative
        /// What Martlet decided where the specification leaves the choice; others may differ.
        case choice
        /// A class of crashes, `T2`, of which the specification knows nothing.
        case beyond(String)
    }

    struct Line: Sendable {
        let number: Int
        let text: String
    }

    /// A line, or lines that are repeated.
    indirect enum Item: Sendable {
        case line(Line)
        case block(Line, count: String, counter: String, items: [Item])
    }

    struct Parameter: Sendable {
        let name: String
        let values: [String]
    }

    package let name: String
    package let title: String
    package let file: String
    package let proves: [String]
    /// Capabilities that the run must have, `acl` or `websocket`.
    package let needs: [String]
    package let isAlone: Bool
    package let kind: Kind
    package let timeLimit: Duration
    let parameters: [Parameter]
    let items: [Item]

    /// One run of the case: a value for each parameter.
    typealias Values = [(name: String, value: String)]

    /// Every combination of the parameters' values; one without values if there are none.
    var combinations: [Values] {
        parameters.reduce([[]]) { combinations, parameter in
            combinations.flatMap { values in parameter.values.map { values + [(parameter.name, $0)] } }
        }
    }
}

extension Case {
    /// The cases of one file.
    package static func cases(in text: String, file: String) throws(SuiteError) -> [Case] {
        var reader = CaseReader(file: file)
        // A carriage return and a line feed are one character to Swift.
        let lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        for (index, line) in lines.enumerated() {
            try reader.take(Line(number: index + 1, text: line.withoutComment.trimmed))
        }
        try reader.finishCase()
        return reader.cases
    }
}

/// Goes through a file line by line.
private struct CaseReader {
    private struct Draft {
        let name: String
        let title: String
        let line: Int
        var proves: [String] = []
        var needs: [String] = []
        var isAlone = false
        var kind = Case.Kind.normative
        var timeLimit = Duration.seconds(10)
        var parameters: [Case.Parameter] = []
        /// The items of the case and, innermost last, of the blocks that are open.
        var levels: [[Case.Item]] = [[]]
        var openBlocks: [(line: Case.Line, count: String, counter: String)] = []
        var isHeadOver = false
    }

    let file: String
    private var draft: Draft?
    private(set) var cases: [Case] = []

    init(file: String) { self.file = file }

    private func refusal(_ line: Int, _ reason: String) -> SuiteError {
        SuiteError(file: file, line: line, reason: reason)
    }

    mutating func take(_ line: Case.Line) throws(SuiteError) {
        guard !line.text.isEmpty else { return }
        let keyword = line.text.prefix { $0 != " " }
        let rest = line.text.dropFirst(keyword.count).trimmed
        if keyword == "case" {
            try finishCase()
            let parts = rest.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { throw refusal(line.number, "`case NAME: SENTENCE` is wanted") }
            draft = Draft(name: parts[0].trimmed, title: parts[1].trimmed, line: line.number)
            return
        }
        guard var draft else { throw refusal(line.number, "a line before the first case") }
        if try !head(String(keyword), rest, line, &draft) { try body(String(keyword), rest, line, &draft) }
        self.draft = draft
    }

    private func head(
        _ keyword: String, _ rest: String, _ line: Case.Line, _ draft: inout Draft
    ) throws(SuiteError) -> Bool {
        switch keyword {
        case "proves": draft.proves += rest.split(separator: ",").map(\.trimmed)
        case "needs":
            guard Suite.knownCapabilities.contains(rest) else {
                throw refusal(line.number, "`\(rest)` is no capability")
            }
            draft.needs.append(rest)
        case "alone": draft.isAlone = true
        case "choice": draft.kind = .choice
        case "beyond": draft.kind = .beyond(rest)
        case "within":
            guard let limit = Duration(seconds: rest) else { throw refusal(line.number, "`within 30s` is wanted") }
            draft.timeLimit = limit
        case "each":
            guard let place = rest.range(of: " in ") else {
                throw refusal(line.number, "`each NAME in VALUE | VALUE` is wanted")
            }
            let values = rest[place.upperBound...].split(separator: "|", omittingEmptySubsequences: false).map(
                \.trimmed)
            guard !values.contains("") else { throw refusal(line.number, "a value is missing") }
            draft.parameters.append(Case.Parameter(name: rest[..<place.lowerBound].trimmed, values: values))
        default: return false
        }
        guard !draft.isHeadOver else { throw refusal(line.number, "`\(keyword)` belongs above the first step") }
        return true
    }

    private func body(
        _ keyword: String, _ rest: String, _ line: Case.Line, _ draft: inout Draft
    ) throws(SuiteError) {
        draft.isHeadOver = true
        switch keyword {
        case "repeat":
            let words = rest.split(separator: " ").map(String.init)
            guard words.count == 3, words[1] == "as" else { throw refusal(line.number, "`repeat N as NAME` is wanted") }
            draft.openBlocks.append((line, words[0], words[2]))
            draft.levels.append([])
        case "end":
            guard let block = draft.openBlocks.popLast(), let items = draft.levels.popLast() else {
                throw refusal(line.number, "`end` without `repeat`")
            }
            append(.block(block.line, count: block.count, counter: block.counter, items: items), to: &draft)
        default: append(.line(line), to: &draft)
        }
    }

    private func append(_ item: Case.Item, to draft: inout Draft) {
        draft.levels[draft.levels.count - 1].append(item)
    }

    mutating func finishCase() throws(SuiteError) {
        guard let draft else { return }
        self.draft = nil
        guard draft.openBlocks.isEmpty else { throw refusal(draft.line, "`repeat` without `end`") }
        guard !draft.levels[0].isEmpty else { throw refusal(draft.line, "\(draft.name) does nothing") }
        guard !draft.proves.isEmpty else { throw refusal(draft.line, "\(draft.name) proves nothing") }
        let made = Case(
            name: draft.name, title: draft.title, file: file, proves: draft.proves, needs: draft.needs,
            isAlone: draft.isAlone || Suite.Restart.allCases.contains { draft.needs.contains($0.capability) },
            kind: draft.kind, timeLimit: draft.timeLimit, parameters: draft.parameters,
            items: draft.levels[0])
        try made.check(made.items, made.combinations)
        cases.append(made)
    }
}

extension Case {
    /// Reads each line as it will be read when the case is run, so that a mistake is found before.
    fileprivate func check(_ items: [Item], _ combinations: [Values]) throws(SuiteError) {
        for values in combinations {
            for item in items {
                switch item {
                case .line(let line): _ = try step(line, values, Script.Scope(home: "home00", variables: nil))
                case .block(let line, let count, let counter, let items):
                    guard Int(line: count, values) ?? 0 > 0 else {
                        throw SuiteError(file: file, line: line.number, reason: "\(count) is no number")
                    }
                    try check(items, [values + [(counter, "1")]])
                }
            }
        }
    }

    /// What a line says.
    func step(_ line: Line, _ values: Values, _ scope: Script.Scope) throws(SuiteError) -> Script.Step {
        do throws(Script.Mistake) {
            return try Script.step(line.text.substituting(values), scope)
        } catch {
            throw SuiteError(file: file, line: line.number, reason: error.reason)
        }
    }
}

extension Int {
    /// The number that a line gives, perhaps by a parameter.
    init?(line text: String, _ values: Case.Values) { self.init(text.substituting(values)) }
}

extension Duration {
    /// `1.5s`, a day at most.
    init?(seconds text: some StringProtocol) {
        guard text.hasSuffix("s"), let seconds = Double(text.dropLast()), (0...86_400).contains(seconds) else {
            return nil
        }
        self = .milliseconds(Int64(seconds * 1000))
    }
}

extension StringProtocol {
    /// With `{name}` replaced by its value, which may name parameters above it; braces of other names stay.
    func substituting(_ values: Case.Values) -> String {
        var text = String(self)
        for (name, value) in values.reversed() where text.contains("{") {
            text = text.split(separator: "{\(name)}", omittingEmptySubsequences: false).joined(separator: value)
        }
        return text
    }

    /// Up to a `#` that stands outside quotes.
    fileprivate var withoutComment: SubSequence {
        var isQuoted = false
        var isEscaped = false
        for (index, character) in zip(indices, self) {
            if isEscaped {
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == "\"" {
                isQuoted.toggle()
            } else if character == "#", !isQuoted {
                return self[..<index]
            }
        }
        return self[...]
    }

    /// Where `text` stands first.
    fileprivate func range(of text: String) -> Range<Index>? { firstRange(of: text) }
}
