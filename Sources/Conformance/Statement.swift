/// A normative statement of MQTT 3.1.1 (its Appendix B), or one of the requirements of the body that have no id.
package struct Statement: Sendable, Equatable {
    /// Whom it binds.
    package enum Party: String, Sendable {
        case client = "C"
        case server = "S"
        case both = "B"
        case clientAndServer = "C+S"
    }

    /// Why no case can prove it.
    package enum Exemption: Sendable, Equatable {
        case notTestable(reason: String)
        case notApplicable(reason: String)
    }

    /// As the standard prints it, without brackets: `MQTT-3.1.2-8`, and `MQTT-3.1.2.7` where it prints a dot.
    package let id: String
    package let party: Party
    /// One sentence of ours.
    package let summary: String
    package let exemption: Exemption?

    /// Chapter and section, the first two numbers of the id: `3.1`. What has no id of the standard belongs to `Annex`.
    package var section: String {
        guard id.hasPrefix("MQTT-") else { return "Annex" }
        return id.dropFirst(5).split(whereSeparator: { $0 == "." || $0 == "-" }).prefix(2).joined(separator: ".")
    }
}

extension Statement {
    /// Reads `statements.txt`: id, party and summary on a line, below it perhaps a reason why it has no case.
    package static func catalogue(_ text: String, file: String) throws(SuiteError) -> [Statement] {
        var statements: [Statement] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            func refuse(_ reason: String) -> SuiteError { SuiteError(file: file, line: index + 1, reason: reason) }
            if line.hasPrefix(" ") {
                guard let last = statements.popLast(), last.exemption == nil else { throw refuse("no statement above") }
                guard let colon = line.firstIndex(of: ":") else { throw refuse("no reason") }
                let kind = line[..<colon].trimmed
                let reason = line[line.index(after: colon)...].trimmed
                let exemption: Exemption
                switch kind {
                case "not testable": exemption = .notTestable(reason: reason)
                case "not applicable": exemption = .notApplicable(reason: reason)
                default: throw refuse("`not testable:` or `not applicable:` is wanted here")
                }
                statements.append(
                    Statement(id: last.id, party: last.party, summary: last.summary, exemption: exemption))
            } else {
                guard words.count > 2, let party = Party(rawValue: String(words[1])) else {
                    throw refuse("an id, a party (S, C, B or C+S) and a sentence are wanted here")
                }
                let id = String(first)
                guard !statements.contains(where: { $0.id == id }) else { throw refuse("\(id) a second time") }
                statements.append(
                    Statement(
                        id: id, party: party, summary: words.dropFirst(2).joined(separator: " "), exemption: nil))
            }
        }
        return statements
    }
}

/// A mistake in the suite's own files.
package struct SuiteError: Error, CustomStringConvertible {
    package let file: String
    package let line: Int
    package let reason: String

    package init(file: String, line: Int, reason: String) {
        self.file = file
        self.line = line
        self.reason = reason
    }

    package var description: String { "\(file):\(line): \(reason)" }
}

extension StringProtocol {
    /// Without blanks at both ends.
    var trimmed: String {
        let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\r" }
        return String(self.drop(while: isBlank).reversed().drop(while: isBlank).reversed())
    }
}
