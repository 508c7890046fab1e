import Conformance
import Foundation
import Synchronization
import Testing
import Transport

extension System {
    /// The suite of `conformance/` is worth what it notices. Each mutation makes Martlet look like a broker with one
    /// broken behaviour; the cases that it names must see that, by what comes or doesn't, never by a time limit.
    @Suite struct `A broken broker` {
        @Test func `has one of at least 60 faults, each of them named once, with existing cases and statements`() throws
        {
            let suite = try conformanceSuite()
            let names = Mutation.all.map(\.name)
            #expect(names.count >= 60)
            #expect(Set(names).count == names.count)
            let cases = Set(suite.cases.map(\.name))
            let statements = Set(suite.statements.map(\.id))
            for mutation in Mutation.all {
                #expect(!mutation.caughtBy.isEmpty, "\(mutation.name) is caught by no case")
                for name in mutation.caughtBy where !cases.contains(name) {
                    Issue.record("\(mutation.name): there is no case \(name)")
                }
                #expect(statements.contains(mutation.violates), "\(mutation.name) violates \(mutation.violates)")
            }
        }

        @Test func `is caught, whichever of its faults it has, by what was observed`() throws {
            let suite = try conformanceSuite()
            let cases = Dictionary(suite.cases.map { ($0.name, $0) }) { first, _ in first }
            let broker = try Martlet()
            let lab = Lab(broker.port)
            let needed = Set(Mutation.all.flatMap(\.caughtBy))
            let sound = suite.cases.filter { needed.contains($0.name) }.map { Trial(.none, $0) }
            let trials = Mutation.all.flatMap { mutation in
                mutation.caughtBy.compactMap { cases[$0] }.map { Trial(mutation, $0) }
            }
            for (trial, result) in lab.run(sound + trials) {
                if trial.mutation.name == Mutation.none.name {
                    guard case .passed = result.outcome else {
                        Issue.record("\(trial.script.name), without a fault: \(describe(result))")
                        continue
                    }
                } else if !isCaught(result) {
                    Issue.record(
                        """
                        \(trial.mutation.name) (\(trial.mutation.sentence)) survives \(trial.script.name): \
                        \(describe(result))
                        """)
                }
            }
            try broker.stop()
        }

        /// Takes an hour or more: every case under every mutation, those of twenty seconds and more only under those of
        /// their own statements. Writes to the file that MUTANTS_FULL names which cases catch which mutation, and which
        /// cases nothing made fail; MUTANTS_ONLY names mutations, with commas between them.
        @Test(.enabled(if: ProcessInfo.processInfo.environment["MUTANTS_FULL"] != nil))
        func `is caught by each case in one way or another`() throws {
            let environment = ProcessInfo.processInfo.environment
            let file = try #require(environment["MUTANTS_FULL"])
            let only = environment["MUTANTS_ONLY"].map { Set($0.split(separator: ",").map(String.init)) }
            let suite = try conformanceSuite()
            let broker = try Martlet()
            let lab = Lab(broker.port, jobs: 48)
            var lines: [String] = []
            var useless = Set(suite.cases.filter { $0.needs.isEmpty }.map(\.name))
            for mutation in Mutation.all where only?.contains(mutation.name) ?? true {
                let cases = suite.cases.filter {
                    $0.timeLimit < .seconds(20) || $0.proves.contains(mutation.violates)
                }
                let results = lab.run(cases.map { Trial(mutation, $0) }).map(\.result)
                let caught = results.filter(isCaught).map(\.script.name)
                useless.subtract(caught)
                lines.append("\(mutation.name) [\(mutation.violates)] \(caught.joined(separator: " "))")
                let end = "never failed: \(useless.sorted().joined(separator: " "))"
                try (lines + [end, ""]).joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
            }
            try broker.stop()
        }
    }
}

/// The suite as it stands in the repository.
private func conformanceSuite() throws -> Conformance.Suite {
    let directory = "\(packageRoot)/conformance"
    let names = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
    return try Conformance.Suite(
        files: names.filter { $0.hasSuffix(".cases") || $0 == "statements.txt" }.map {
            ($0, try String(contentsOfFile: "\(directory)/\($0)", encoding: .utf8))
        })
}

private func isCaught(_ result: CaseResult) -> Bool {
    switch result.outcome {
    case .failed(let failure): failure.evidence.isObserved
    case .differs: true
    case .passed, .waits: false
    }
}

private func describe(_ result: CaseResult) -> String {
    switch result.outcome {
    case .passed: "it passes"
    case .waits(let capability): "it waits for \(capability)"
    case .failed(let failure), .differs(let failure):
        """
        line \(failure.line) \(result.failedValues.first ?? ""): expected \(failure.expected), came \(failure.came) \
        (\(failure.evidence.rawValue))
        """
    }
}

/// A case under a mutation.
private struct Trial: Sendable {
    let mutation: Mutation
    let script: Case

    init(_ mutation: Mutation, _ script: Case) {
        self.mutation = mutation
        self.script = script
    }
}

/// Runs trials against one broker.
private struct Lab: Sendable {
    private let address: SocketAddress
    private let jobs: Int

    init(_ port: UInt16, jobs: Int = 24) {
        guard let address = try? SocketAddress.resolve("127.0.0.1", port: port).first else {
            preconditionFailure("127.0.0.1 is an address")
        }
        self.address = address
        self.jobs = jobs
    }

    /// Several at once, then those that must be alone.
    func run(_ trials: [Trial]) -> [(trial: Trial, result: CaseResult)] {
        // Long ones first, so that nothing is left to wait for at the end.
        let trials = trials.sorted { $0.script.timeLimit > $1.script.timeLimit }
        return run(trials.filter { !$0.script.isAlone }, jobs: jobs)
            + run(trials.filter { $0.script.isAlone }, jobs: 1)
    }

    private func run(_ trials: [Trial], jobs: Int) -> [(trial: Trial, result: CaseResult)] {
        let next = Mutex(0)
        let results = Mutex<[(place: Int, result: CaseResult)]>([])
        var options = Conformance.Suite.Options()
        options.patience = Int(patience)
        let body: @Sendable () -> Void = { [address, options] in
            while true {
                let turn = next.withLock { next in
                    next += 1
                    return next - 1
                }
                guard turn < trials.count else { return }
                let trial = trials[turn]
                let lens = Lens(trial.mutation) { try TCPStream(address) }
                let result = Conformance.Suite.runUntilFailure(trial.script, options, connect: lens.connector)
                results.withLock { $0.append((turn, result)) }
            }
        }
        try? concurrently(Array(repeating: body, count: min(jobs, trials.count)))
        return results.withLock { $0 }.sorted { $0.place < $1.place }.map { (trials[$0.place], $0.result) }
    }
}
