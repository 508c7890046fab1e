internal import Dispatch
internal import Locks

/// The catalogue of statements and the cases that prove them.
package struct Suite: Sendable {
    package let statements: [Statement]
    package let cases: [Case]

    package init(statements: [Statement], cases: [Case]) throws(SuiteError) {
        self.statements = statements
        self.cases = cases
        var names = Set<String>()
        let known = Set(statements.map(\.id))
        for script in cases {
            func refuse(_ reason: String) -> SuiteError { SuiteError(file: script.file, line: 1, reason: reason) }
            guard names.insert(script.name).inserted else { throw refuse("\(script.name) is there twice") }
            for id in script.proves where !known.contains(id) { throw refuse("\(script.name) proves \(id), unknown") }
        }
    }

    /// From files: `statements.txt`, and any number that end in `.cases`.
    package init(files: [(name: String, text: String)]) throws(SuiteError) {
        guard let catalogue = files.first(where: { $0.name == "statements.txt" }) else {
            throw SuiteError(file: "statements.txt", line: 0, reason: "missing")
        }
        var cases: [Case] = []
        for file in files where file.name.hasSuffix(".cases") {
            cases += try Case.cases(in: file.text, file: file.name)
        }
        try self.init(statements: Statement.catalogue(catalogue.text, file: catalogue.name), cases: cases)
    }

    /// Only what is named: cases, statements, sections (`3.1`), files; all if nothing is. Throws with the first name that
    /// nothing has. A statement is also known by the usual spelling where the standard's is odd (3.8.3-4, 3.1.2-7).
    package func only(_ names: [String]) throws(UnknownName) -> [Case] {
        var chosen = Set<String>()
        for name in names {
            let numbers = Self.numbers(of: name)
            let ids = statements.filter { $0.section == name || Self.numbers(of: $0.id) == numbers }.map(\.id)
            let found = cases.filter { script in
                script.name == name || script.file == name || script.proves.contains { ids.contains($0) }
            }
            guard !found.isEmpty else { throw UnknownName(name: name) }
            chosen.formUnion(found.map(\.name))
        }
        return names.isEmpty ? cases : cases.filter { chosen.contains($0.name) }
    }

    /// `3.8.3.4` for `[MQTT-3-8.3-4]`, `ANNEX.3.1.4` for `ANNEX-3.1.4`.
    private static func numbers(of id: String) -> String {
        let plain = id.filter { $0 != "[" && $0 != "]" }
        let bare = plain.hasPrefix("MQTT-") ? plain.dropFirst(5) : plain[...]
        return String(bare.map { $0 == "-" ? "." : $0 })
    }
}

/// A name that is no case, statement, section or file of the suite.
package struct UnknownName: Error, CustomStringConvertible {
    package let name: String
    package var description: String { "nothing in the suite is called \(name)" }
}

extension Suite {
    /// What a case can do to the broker itself. Its name is the line's.
    package enum Restart: String, Sendable, CaseIterable {
        /// In order.
        case restarts
        /// By `kill -9`.
        case crashes

        /// What a case needs for it.
        package var capability: String { self == .restarts ? "restart" : "crash" }
    }

    /// Capabilities that the broker's set-up decides.
    package static let capabilities: Set = ["acl", "full-disk", "session-expiry"]

    /// Of a run over WebSocket.
    static let webSocket = "websocket"

    /// These, those of `Restart`, and that of the transport.
    static let knownCapabilities = capabilities.union(Restart.allCases.map(\.capability)).union([webSocket])

    package struct Options: Sendable {
        /// Cases at once.
        package var jobs = 32
        package var capabilities: Set<String> = []
        /// Multiplies every time limit and every wait before a probe: for a broker that is far away or slow, 1 to 100.
        package var patience = 1
        /// How the broker is made to stop and start again; returns once it accepts connections, true if it does.
        package var restarts: [Restart: @Sendable () -> Bool] = [:]
        /// Opens a WebSocket to the broker, offering these subprotocols; nil where the run goes over another transport.
        package var webSocket: (@Sendable (_ subprotocols: String?) throws -> WebSocketStream)?
        package init() {}

        /// What the run has of what a case may need.
        fileprivate func has(_ capability: String) -> Bool {
            capabilities.contains(capability) || restarts.keys.contains { $0.capability == capability }
                || (capability == Suite.webSocket && webSocket != nil)
        }
    }

    /// Runs the cases, those that must be alone after all others. Blocks.
    package static func run(_ cases: [Case], _ options: Options, connect: @escaping Connector) -> [CaseResult] {
        var runs = cases.flatMap { script in
            script.capability(missingFrom: options).map { _ in [] } ?? script.combinations.map { (script, $0) }
        }
        // Long ones first, so that nothing is left to wait for at the end.
        runs.sort { $0.0.timeLimit > $1.0.timeLimit }
        var ends: [String: [End]] = [:]
        for (isAlone, jobs) in [(false, options.jobs), (true, 1)] {
            for (name, end) in run(runs.filter { $0.0.isAlone == isAlone }, jobs, options, connect) {
                ends[name, default: []].append(end)
            }
        }
        return cases.map { $0.result(options, ends[$0.name] ?? []) }
    }

    /// One case, with every combination of its parameters.
    package static func run(_ script: Case, _ options: Options, connect: @escaping Connector) -> CaseResult {
        run([script], options, connect: connect)[0]
    }

    /// One case on this thread, up to the first combination of its parameters that fails.
    package static func runUntilFailure(
        _ script: Case, _ options: Options, connect: @escaping Connector
    ) -> CaseResult {
        guard script.capability(missingFrom: options) == nil else { return script.result(options, []) }
        var ends: [End] = []
        for values in script.combinations where ends.last?.failure == nil {
            ends.append(run(script, values, options, connect))
        }
        return script.result(options, ends)
    }

    private static func run(
        _ script: Case, _ values: Case.Values, _ options: Options, _ connect: @escaping Connector
    ) -> End {
        let start = ContinuousClock.now
        let run = CaseRun(script, values, home: Home.next(), options: options, connect: connect)
        let failure = run.run()
        let text = values.map { "\($0.name)=\($0.value)" }.joined(separator: " ")
        return End(values: text, failure: failure, duration: start.duration(to: .now))
    }

    /// How one combination of a case's parameters ended.
    fileprivate struct End: Sendable {
        let values: String
        let failure: Failure?
        let duration: Duration
    }

    private static func run(
        _ runs: [(script: Case, values: Case.Values)], _ jobs: Int, _ options: Options, _ connect: @escaping Connector
    ) -> [(name: String, end: End)] {
        let next = Lock(0)
        let ends = Lock<[(place: Int, end: End)]>([])
        let group = DispatchGroup()
        for job in 0..<min(jobs, runs.count) {
            // A serial queue has a thread of its own, which a case may block.
            DispatchQueue(label: "case \(job)").async(group: group) {
                while true {
                    let place = next.withLock { next in
                        next += 1
                        return next - 1
                    }
                    guard place < runs.count else { return }
                    let end = run(runs[place].script, runs[place].values, options, connect)
                    ends.withLock { $0.append((place, end)) }
                }
            }
        }
        group.wait()
        return ends.withLock { $0 }.sorted { $0.place < $1.place }.map { (runs[$0.place].script.name, $0.end) }
    }
}

extension Case {
    /// What the case needs and the run has not.
    fileprivate func capability(missingFrom options: Suite.Options) -> String? {
        needs.first { !options.has($0) }
    }

    fileprivate func result(_ options: Suite.Options, _ ends: [Suite.End]) -> CaseResult {
        let failed = ends.filter { $0.failure != nil }
        let outcome: Outcome
        if let missing = capability(missingFrom: options) {
            outcome = .waits(missing)
        } else if let failure = failed.first?.failure {
            let isChoice = kind == .choice && failed.allSatisfy { $0.failure?.evidence.isObserved == true }
            outcome = isChoice ? .differs(failure) : .failed(failure)
        } else {
            outcome = .passed
        }
        return CaseResult(
            script: self, outcome: outcome, failedValues: failed.map(\.values), runs: ends.count,
            duration: ends.reduce(.zero) { $0 + $1.duration })
    }
}

/// What `~` stands for: six letters and digits that no other run of a case has.
private enum Home {
    private static let alphabet = Array("0123456789abcdefghijklmnopqrstuvwxyz")
    private static let latest = Lock(UInt32.random(in: 0..<2_000_000_000))

    static func next() -> String {
        var number = latest.withLock { number in
            number = (number + 1) % 2_000_000_000
            return number
        }
        var text = ""
        for _ in 0..<6 {
            text.append(alphabet[Int(number % 36)])
            number /= 36
        }
        return text
    }
}
