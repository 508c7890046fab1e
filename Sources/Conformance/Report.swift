internal import FoundationEssentials

/// What a run says about each statement.
package struct Report: Sendable {
    package enum Verdict: Sendable, Equatable {
        case passed
        case failed
        /// Its only cases are open choices, or go beyond a MUST, and this broker decided otherwise.
        case differs
        /// Every case of it waits for this.
        case waits(String)
        case notTestable(reason: String)
        case notApplicable(reason: String)
        /// None of its cases was asked for.
        case notRun
    }

    package struct Line: Sendable {
        package let statement: Statement
        package let verdict: Verdict
        package let results: [CaseResult]
    }

    package let lines: [Line]
    package let results: [CaseResult]

    package init(_ suite: Suite, _ results: [CaseResult]) {
        self.results = results
        lines = suite.statements.map { statement in
            let own = results.filter { $0.script.proves.contains(statement.id) }
            return Line(statement: statement, verdict: Self.verdict(statement, own), results: own)
        }
    }

    private static func verdict(_ statement: Statement, _ results: [CaseResult]) -> Verdict {
        switch statement.exemption {
        case .notTestable(let reason)?: return .notTestable(reason: reason)
        case .notApplicable(let reason)?: return .notApplicable(reason: reason)
        case nil: break
        }
        var verdict = Verdict.notRun
        for result in results {
            switch result.outcome {
            case .failed: return .failed
            case .passed: verdict = .passed
            case .differs: if verdict != .passed { verdict = .differs }
            case .waits(let capability): if verdict == .notRun { verdict = .waits(capability) }
            }
        }
        return verdict
    }

    package var failed: [CaseResult] {
        results.filter { if case .failed = $0.outcome { true } else { false } }
    }

    package var isPassed: Bool { failed.isEmpty }

    /// Sections in the order of the catalogue.
    private var sections: [String] {
        var sections: [String] = []
        for line in lines where sections.last != line.statement.section { sections.append(line.statement.section) }
        return sections
    }

    private static let columns = ["passed", "failed", "differs", "waits", "not testable", "not applicable"]

    private func counts(_ lines: [Line]) -> [Int] {
        var counts = [0, 0, 0, 0, 0, 0]
        for line in lines {
            switch line.verdict {
            case .passed: counts[0] += 1
            case .failed: counts[1] += 1
            case .differs: counts[2] += 1
            case .waits: counts[3] += 1
            case .notTestable: counts[4] += 1
            case .notApplicable: counts[5] += 1
            case .notRun: break
            }
        }
        return counts
    }
}

// MARK: - For people

extension Report {
    /// A table by section, then what failed and what differs.
    package var text: String {
        var text = "section  statements  " + Self.columns.joined(separator: "  ") + "\n"
        func row(_ name: String, _ lines: [Line]) -> String {
            let counts = zip(Self.columns, counts(lines)).map { "\($1)".padded(to: $0.count) }
            return name.padding(to: 7) + "  " + "\(lines.count)".padded(to: 10) + "  " + counts.joined(separator: "  ")
                + "\n"
        }
        for section in sections { text += row(section, lines.filter { $0.statement.section == section }) }
        text += row("MQTT", lines.filter { $0.statement.section != "Annex" })
        for result in results { text += result.explanation }
        return text + summary + "\n"
    }

    /// One line.
    package var summary: String {
        var passed = 0
        var differs = 0
        var waits = 0
        for result in results {
            switch result.outcome {
            case .passed: passed += 1
            case .differs: differs += 1
            case .waits: waits += 1
            case .failed: break
            }
        }
        return "cases: \(passed) passed, \(failed.count) failed, \(differs) differ, \(waits) wait"
            + " (\(results.reduce(0) { $0 + $1.runs }) runs)"
    }

    /// Statement, verdict, cases: a Markdown table.
    package var traceability: String {
        var text = "| statement | who | result | cases |\n| --- | --- | --- | --- |\n"
        for line in lines {
            let cases = line.results.map { "\($0.script.name)\($0.mark)" }.joined(separator: ", ")
            text += "| [\(line.statement.id)] | \(line.statement.party.rawValue) | \(line.verdict) | \(cases) |\n"
        }
        return text
    }
}

extension Report.Verdict: CustomStringConvertible {
    package var description: String {
        switch self {
        case .passed: "passed"
        case .failed: "failed"
        case .differs: "differs"
        case .waits(let capability): "waits for \(capability)"
        case .notTestable(let reason): "not testable from outside: \(reason)"
        case .notApplicable(let reason): "not applicable: \(reason)"
        case .notRun: "not run"
        }
    }
}

extension CaseResult {
    /// Behind a case's name where it did not simply pass.
    fileprivate var mark: String {
        switch outcome {
        case .passed: ""
        case .failed: " (failed)"
        case .differs: " (differs)"
        case .waits(let capability): " (waits for \(capability))"
        }
    }

    /// Why it failed, or in what it differs; empty if it passed.
    package var explanation: String {
        let failure: Failure
        let verb: String
        switch outcome {
        case .failed(let found): (failure, verb) = (found, "FAILED")
        case .differs(let found): (failure, verb) = (found, "DIFFERS")
        case .passed, .waits: return ""
        }
        var text = "\n\(verb) \(script.name): \(script.title)\n"
        text += parameters
        text += "  proves    \(script.proves.joined(separator: ", "))\n"
        text += "  line      \(script.file):\(failure.line): \(failure.source)\n"
        text += "  expected  \(failure.expected)\n  came      \(failure.came) (\(failure.evidence.rawValue))\n"
        let shown = failure.transcript.suffix(24)
        if shown.count < failure.transcript.count { text += "    ...\n" }
        for line in shown { text += "    \(line)\n" }
        return text
    }
}

extension CaseResult {
    /// With which values it failed, the first of which is shown.
    fileprivate var parameters: String {
        guard let first = failedValues.first, !first.isEmpty else { return "" }
        let others = failedValues.dropFirst().prefix(20).map { "[\($0)]" }.joined(separator: " ")
        return "  with      [\(first)]\n" + (others.isEmpty ? "" : "  and with  \(others)\n")
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}

// MARK: - For programs

extension Report {
    private struct Document: Encodable {
        struct Entry: Encodable {
            let id: String
            let party: String
            let summary: String
            let result: String
            let reason: String?
            let cases: [String]
        }
        struct CaseEntry: Encodable {
            let name: String
            let title: String
            let file: String
            let proves: [String]
            let result: String
            let waitsFor: String?
            let failedValues: [String]?
            let line: Int?
            let expected: String?
            let came: String?
            let evidence: String?
            let transcript: [String]?
            let seconds: Double
        }
        let statements: [Entry]
        let cases: [CaseEntry]
    }

    /// Statements and cases with their results. Throws `EncodingError`.
    package func json() throws -> [UInt8] {
        let entries = lines.map { line in
            var reason: String?
            let result: String
            switch line.verdict {
            case .passed: result = "passed"
            case .failed: result = "failed"
            case .differs: result = "differs"
            case .waits(let capability): (result, reason) = ("waits", capability)
            case .notTestable(let text): (result, reason) = ("not testable", text)
            case .notApplicable(let text): (result, reason) = ("not applicable", text)
            case .notRun: result = "not run"
            }
            return Document.Entry(
                id: line.statement.id, party: line.statement.party.rawValue, summary: line.statement.summary,
                result: result, reason: reason, cases: line.results.map(\.script.name))
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(Document(statements: entries, cases: results.map(Self.entry))))
    }

    private static func entry(_ result: CaseResult) -> Document.CaseEntry {
        var failure: Failure?
        var waitsFor: String?
        let name: String
        switch result.outcome {
        case .passed: name = "passed"
        case .failed(let found): (name, failure) = ("failed", found)
        case .differs(let found): (name, failure) = ("differs", found)
        case .waits(let capability): (name, waitsFor) = ("waits", capability)
        }
        return Document.CaseEntry(
            name: result.script.name, title: result.script.title, file: result.script.file,
            proves: result.script.proves, result: name, waitsFor: waitsFor,
            failedValues: result.failedValues.isEmpty ? nil : result.failedValues, line: failure?.line,
            expected: failure?.expected,
            came: failure?.came, evidence: failure?.evidence.rawValue, transcript: failure?.transcript,
            seconds: result.duration / .seconds(1))
    }

    /// One test case per case, its file as class, as CI systems read it.
    package var junit: String {
        var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        let skipped = results.filter { if case .waits = $0.outcome { true } else { false } }.count
        text += "<testsuite name=\"MQTT 3.1.1 conformance\" tests=\"\(results.count)\" failures=\"\(failed.count)\""
        text += " skipped=\"\(skipped)\">\n"
        for result in results {
            let title = "\(result.script.name): \(result.script.title)".escapedForXML
            text += "  <testcase classname=\"\(result.script.file.escapedForXML)\" name=\"\(title)\""
            text += " time=\"\(result.duration / .seconds(1))\""
            switch result.outcome {
            case .passed: text += "/>\n"
            case .waits(let capability): text += "><skipped message=\"waits for \(capability)\"/></testcase>\n"
            case .differs: text += "><system-out>\(result.explanation.escapedForXML)</system-out></testcase>\n"
            case .failed(let failure):
                text += "><failure message=\"\("expected \(failure.expected), came \(failure.came)".escapedForXML)\">"
                text += "\(result.explanation.escapedForXML)</failure></testcase>\n"
            }
        }
        return text + "</testsuite>\n"
    }
}

extension String {
    fileprivate var escapedForXML: String {
        var text = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "&": text += "&amp;"
            case "<": text += "&lt;"
            case ">": text += "&gt;"
            case "\"": text += "&quot;"
            case "\n", "\t": text.unicodeScalars.append(scalar)
            case "\u{20}"...: text.unicodeScalars.append(scalar)
            default: text += "?"  // XML 1.0 has no such character, not even escaped.
            }
        }
        return text
    }
}
