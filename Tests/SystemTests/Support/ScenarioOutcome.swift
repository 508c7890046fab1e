import Foundation
import Glibc

/// What one scenario came to with both brokers.
struct ScenarioOutcome: Sendable {
    var mosquitto: [[String]]?
    var martlet: [[String]]?
    var problem: String?
    var waitsFor: String?

    init(of scenario: Scenario, certificates: String?) {
        do {
            // Without a file Mosquitto becomes another user.
            let isItself = scenario.arguments == nil || geteuid() != 0 || othersReachFiles
            if ScenarioBroker.mosquitto != nil, scenario.onlyMartlet == nil, isItself {
                mosquitto = try ScenarioRun(scenario, with: .mosquitto, certificates: certificates).run()
            }
        } catch {
            problem = "\(error)"
        }
        do {
            martlet = try ScenarioRun(scenario, with: .martlet, certificates: certificates).run()
        } catch  where scenario.waitsFor != nil {
            waitsFor = scenario.waitsFor
        } catch {
            problem = problem ?? "\(error)"
        }
        guard !Scenario.isRecording, problem == nil else { return }
        problem = disagreement(of: mosquitto, with: scenario, .mosquitto)
        guard problem == nil else { return }
        let missing = disagreement(of: martlet, with: scenario, .martlet)
        switch scenario.waitsFor {
        case nil: problem = missing
        case let reason where martlet == nil || missing != nil: waitsFor = waitsFor ?? reason
        case _: problem = "passes; its `waits` can go"
        }
    }

    /// The first step that shows otherwise than it is written.
    private func disagreement(of seen: [[String]]?, with scenario: Scenario, _ kind: BrokerKind) -> String? {
        guard let seen else { return nil }
        for (step, lines) in zip(scenario.steps, seen) where step.expected(of: kind) != lines {
            return "line \(step.line), `\(step.text)`: \(kind.rawValue) shows otherwise\n"
                + "  written: \(step.expected(of: kind))\n  shown:   \(lines)\n" + sideBySide(scenario)
        }
        return nil
    }

    private func sideBySide(_ scenario: Scenario) -> String {
        var rows: [(left: String, right: String?)] = [
            (mosquitto == nil ? "Mosquitto, as written" : "Mosquitto", "Martlet")
        ]
        for (index, step) in scenario.steps.enumerated() {
            rows.append((step.text, nil))
            let left = mosquitto?[index] ?? step.expected(of: .mosquitto)
            let right = martlet?[index] ?? []
            for line in 0..<max(left.count, right.count) {
                rows.append((line < left.count ? "    " + left[line] : "", line < right.count ? right[line] : ""))
            }
        }
        let width = min(rows.filter { $0.right != nil }.map { $0.left.count }.max() ?? 0, 80)
        return rows.map { left, right in
            guard let right else { return left }
            return left + String(repeating: " ", count: max(0, width - left.count)) + " | " + right
        }.joined(separator: "\n")
    }

    // MARK: Writing them down

    /// Puts what was seen behind each step, in place of what stood there.
    static func record(_ outcomes: [String: ScenarioOutcome]) throws {
        for file in Set(try Scenario.all().map(\.file)) {
            let path = "\(Scenario.folder)/\(file)"
            let text = try String(contentsOfFile: path, encoding: .utf8)
            var lines: [String] = []
            var seen: [Int: [String]] = [:]
            var isKept = true
            for scenario in try Scenario.scenarios(in: text, file: file) {
                guard let outcome = outcomes[scenario.name], let left = outcome.mosquitto ?? outcome.martlet,
                    outcome.problem == nil
                else {
                    for step in scenario.steps {
                        seen[step.line] = step.observed.map { "\($0.by.rawValue) \($0.text)" }
                    }
                    continue
                }
                for (index, step) in scenario.steps.enumerated() {
                    // What waits is written by hand.
                    let foretold = scenario.difference == nil ? left[index] : step.expected(of: .martlet)
                    let isWaiting = outcome.waitsFor != nil || scenario.waitsFor != nil
                    seen[step.line] = merged(left[index], isWaiting ? foretold : outcome.martlet?[index] ?? foretold)
                }
            }
            for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
                let trimmed = line.trimmingCharacters(in: .whitespaces)
                isKept = !(trimmed.hasPrefix("| ") || trimmed.hasPrefix("- ") || trimmed.hasPrefix("+ "))
                if isKept { lines.append(String(line)) }
                // Behind the block of the step, which is never observed upon.
                if let observed = seen[index + 1] { lines += observed.map { "    \($0)" } }
            }
            try lines.joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
        }
    }

    private static func merged(_ left: [String], _ right: [String]) -> [String] {
        var (left, right) = (left[...], right[...])
        var head: [String] = []
        var tail: [String] = []
        while let line = left.first, line == right.first {
            head.append("| \(line)")
            left = left.dropFirst()
            right = right.dropFirst()
        }
        while let line = left.last, line == right.last {
            tail.insert("| \(line)", at: 0)
            left = left.dropLast()
            right = right.dropLast()
        }
        return head + left.map { "- \($0)" } + right.map { "+ \($0)" } + tail
    }
}
