import Foundation
import Synchronization
import Testing

extension System {
    /// The same clients do the same to Debian's Mosquitto and to Martlet.
    @Suite struct `A drop-in for Mosquitto` {
        @Test func `shows its clients what they are used to`() throws {
            let chosen = ProcessInfo.processInfo.environment["SCENARIOS"]?.split(separator: ",").map(String.init)
            let all = try Scenario.all()
            let scenarios = chosen.map { names in all.filter { names.contains($0.name) } } ?? all
            let hasMosquitto = ScenarioBroker.mosquitto != nil
            if !hasMosquitto {
                print(
                    "scenarios: no Mosquitto \(ScenarioBroker.mosquittoVersion) here; Martlet is held against what it showed"
                )
            }
            let certificates =
                scenarios.contains(where: \.needsCertificates) ? try TestCertificates() : nil
            let outcomes = Mutex<[String: ScenarioOutcome]>([:])
            let queue = Mutex(scenarios[...])
            let took = try seconds {
                try concurrently(
                    (0..<4).map { [path = certificates?.path] _ in
                        {
                            while let scenario = queue.withLock({ $0.popFirst() }) {
                                let outcome = ScenarioOutcome(of: scenario, certificates: path)
                                outcomes.withLock { $0[scenario.name] = outcome }
                            }
                        }
                    })
            }
            let found = outcomes.withLock { $0 }
            for scenario in scenarios {
                guard let outcome = found[scenario.name] else { continue }
                if let problem = outcome.problem { Issue.record("\(scenario.file), \(scenario.name): \(problem)") }
            }
            let waiting = scenarios.compactMap { scenario in
                found[scenario.name]?.waitsFor.map { "scenario \(scenario.name) waits: \($0)" }
            }
            for line in waiting { print(line) }
            // A stale binary, or a document that promises too much.
            let honoured = Set(try Self.honouredKeys())
            for scenario in scenarios where scenario.waitsFor == nil && found[scenario.name]?.waitsFor != nil {
                let isPromised = !scenario.keys.isEmpty && honoured.isSuperset(of: scenario.keys)
                #expect(!isPromised, "\(scenario.name) waits for what docs/configuration.md calls honoured")
            }
            print(
                "scenarios: \(scenarios.count), \(scenarios.count { $0.difference != nil }) with a difference,",
                "\(waiting.count) waiting, \(hasMosquitto ? "beside" : "without") Mosquitto, \(Int(took)) s")
            if Scenario.isRecording { try ScenarioOutcome.record(found) }
        }

        @Test func `is tried with every key of Mosquitto's that Martlet honours`() throws {
            let covered = Set(try Scenario.all().flatMap(\.keys))
            let honoured = try Self.honouredKeys()
            #expect(honoured.count > 10)
            let missing = honoured.filter { !covered.contains($0) && !Self.exempt.contains($0) }
            #expect(missing.isEmpty, "no scenario names them")
        }

        private static func honouredKeys() throws -> [String] {
            let document = try String(contentsOfFile: "\(packageRoot)/docs/configuration.md", encoding: .utf8)
            let ours: Substring? = document.firstRange(of: "## Martlet's own").map { document[..<$0.lowerBound] }
            return try #require(ours).split(separator: "\n")
                .filter { $0.hasPrefix("| `") && $0.hasSuffix("| honoured |") }
                .compactMap { $0.split(separator: "`").dropFirst().first.map(String.init) }
        }

        /// Where syslog puts a line is not seen from here.
        /// Only a restart would show the last three, which other suites do.
        private static let exempt: Set<String> = [
            "log_facility", "persistence_location", "autosave_interval", "autosave_on_changes",
        ]
    }
}
