import Foundation

/// Actions of clients, and what each of two brokers was seen to do: `Tests/Scenarios/README.md` says how it is written.
struct Scenario: Sendable {
    struct Observed: Sendable, Equatable {
        enum By: Character {
            case both = "|"
            case mosquitto = "-"
            case martlet = "+"
        }

        let by: By
        let text: String
    }

    struct Step: Sendable {
        let line: Int
        let text: String
        /// Lines beginning with `:`.
        var block: [String] = []
        var observed: [Observed] = []

        func expected(of kind: BrokerKind) -> [String] {
            observed.filter { $0.by == .both || $0.by == (kind == .martlet ? .martlet : .mosquitto) }.map(\.text)
        }
    }

    let name: String
    let title: String
    let file: String
    var keys: [String] = []
    /// Why Martlet does otherwise.
    var difference: String?
    /// Why only Martlet is asked.
    var onlyMartlet: String?
    /// What Martlet lacks for it. The scenario is run, and an error once it passes.
    var waitsFor: String?
    /// In place of `-c FILE`.
    var arguments: [String]?
    /// Run in its folder before the broker is started.
    var preparations: [String] = []
    /// By name; `mosquitto.conf` is the one that the broker is started with.
    var files: [(name: String, lines: [String])] = [("mosquitto.conf", [])]
    var steps: [Step] = []

    static let folder = "\(packageRoot)/Tests/Scenarios"

    /// Whether it is about TLS.
    var needsCertificates: Bool {
        (files.flatMap(\.lines) + preparations + steps.map(\.text)).contains { $0.contains("{certs}") }
    }

    static func all() throws -> [Scenario] {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".scenarios") }
        let all = try names.sorted().flatMap { name in
            try scenarios(in: String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8), file: name)
        }
        for (index, scenario) in all.enumerated() where all[..<index].contains(where: { $0.name == scenario.name }) {
            throw Unexpected("\(scenario.name) is there twice")
        }
        return all
    }

    static func scenarios(in text: String, file: String) throws -> [Scenario] {
        var scenarios: [Scenario] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let text = line.trimmingCharacters(in: .whitespaces)
            guard !text.isEmpty, !text.hasPrefix("#") else { continue }
            if text.hasPrefix("scenario ") {
                let parts = text.dropFirst("scenario ".count).split(separator: ":", maxSplits: 1)
                guard parts.count == 2 else { throw Unexpected("\(file):\(index + 1): `scenario NAME: SENTENCE`") }
                scenarios.append(
                    Scenario(
                        name: String(parts[0]), title: parts[1].trimmingCharacters(in: .whitespaces), file: file))
            } else if scenarios.isEmpty {
                throw Unexpected("\(file):\(index + 1): a line before the first scenario")
            } else if try !scenarios[scenarios.count - 1].take(text, line: index + 1) {
                throw Unexpected("\(file):\(index + 1): \(text) stands at the wrong place")
            }
        }
        for scenario in scenarios { try scenario.check() }
        return scenarios
    }

    private mutating func take(_ text: String, line: Int) throws -> Bool {
        if let by = text.first.flatMap(Observed.By.init), text.count == 1 || text.dropFirst().first == " " {
            guard !steps.isEmpty else { return false }
            steps[steps.count - 1].observed.append(Observed(by: by, text: String(text.dropFirst(2))))
            return true
        }
        if text == ":" || text.hasPrefix(": ") {
            let line = String(text.dropFirst(2))
            if steps.isEmpty {
                files[files.count - 1].lines.append(line)
            } else {
                steps[steps.count - 1].block.append(line)
            }
            return true
        }
        let word = text.prefix { $0 != " " }
        let rest = text.dropFirst(word.count).trimmingCharacters(in: .whitespaces)
        switch word {
        case "keys": keys += rest.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
        case "differs": difference = rest
        case "only-martlet": onlyMartlet = rest
        case "waits": waitsFor = rest
        case "arguments": arguments = rest.split(separator: " ").map(String.init)
        case "before" where steps.isEmpty: preparations.append(rest)
        case "file" where steps.isEmpty: files.append((rest, []))
        default:
            steps.append(Step(line: line, text: text))
            return true
        }
        return steps.isEmpty
    }

    /// A difference has its reason, and a reason its difference.
    private func check() throws {
        let place = "\(file): \(name)"
        guard !steps.isEmpty else { throw Unexpected("\(place) does nothing") }
        let lines = steps.flatMap(\.observed)
        let isDifferent = lines.contains { $0.by != .both }
        if isRecording { return }
        guard !lines.isEmpty else { throw Unexpected("\(place) observes nothing") }
        guard isDifferent == (difference != nil) else {
            throw Unexpected("\(place): lines with - or + and `differs REASON` go together")
        }
        if isDifferent, steps.allSatisfy({ $0.expected(of: .martlet) == $0.expected(of: .mosquitto) }) {
            throw Unexpected("\(place) says that it differs, and doesn't")
        }
    }

    /// Whether files are written anew with what is observed, instead of being held against it.
    static var isRecording: Bool { ProcessInfo.processInfo.environment["SCENARIOS_RECORD"] != nil }

    private var isRecording: Bool { Self.isRecording }
}

enum BrokerKind: String {
    case mosquitto = "Mosquitto"
    case martlet = "Martlet"
}
