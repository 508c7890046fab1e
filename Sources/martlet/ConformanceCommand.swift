internal import ArgumentParser
internal import Conformance
internal import Glibc
internal import Transport

/// `martlet conformance --host HOST --port PORT`
struct ConformanceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conformance",
        abstract: "Try a broker against every normative statement of MQTT 3.1.1.",
        discussion: """
            Connects without user name and password, and leaves nothing behind on the broker. Ends with status 0 if \
            no case failed, 1 if one did.

            With --fuzz it sends mutated packets until something is found, a bound is met or it is interrupted: for \
            brokers that nobody depends on. A finding is printed as an entry for the corpus; the status is 1 then.
            """)

    @Option(help: "The broker.")
    var host = "127.0.0.1"

    @Option(name: .shortAndLong, help: "Its port.")
    var port: UInt16 = 1883

    @Flag(help: "Over TLS. The broker's certificate has to be for the host.")
    var tls = false

    @Option(
        name: .customLong("cafile"), help: "With --tls: the authorities that it may be from, PEM; else the system's.")
    var authorities: String?

    @Option(name: .customLong("cert"), help: "With --tls: the certificate to show, PEM.")
    var certificate: String?

    @Option(help: "With --tls: the key of that certificate, PEM.")
    var key: String?

    @Flag(name: .customLong("websocket"), help: "Over WebSocket, at the path /mqtt; with --tls over TLS.")
    var isOverWebSocket = false

    @Option(help: "Only this case, statement, section (3.1) or file; may be given several times.")
    var only: [String] = []

    @Flag(help: "List the cases, or those that --only names, without running them.")
    var list = false

    @Option(help: "Read the suite from this directory instead of the binary.")
    var cases: String?

    @Option(help: "Write the results as JSON to this file.")
    var json: String?

    @Option(help: "Write the results as JUnit XML to this file.")
    var junit: String?

    @Option(help: "Write the table of statements, results and cases as Markdown to this file.")
    var table: String?

    @Option(help: "Cases at once, 1 to 256.")
    var jobs = 32

    @Option(help: "Multiplies every time limit, 1 to 100: for a broker that is far away or slow.")
    var patience = 1

    @Option(help: "How the broker is set up (acl, full-disk, session-expiry), for cases that need it; see LANGUAGE.md.")
    var capable: [String] = []

    @Option(help: "A shell command that restarts the broker and returns once it listens, for cases that need it.")
    var restart: String?

    @Option(help: "The same, by kill -9.")
    var crash: String?

    @Flag(help: "Instead of the cases: mutated packets, without end unless --rounds or --seconds bounds them.")
    var fuzz = false

    @Option(help: "With --fuzz: decides every byte; a random one unless given.")
    var seed: UInt64?

    @Option(help: "With --fuzz: the number of the first round.")
    var round = 0

    @Option(help: "With --fuzz: ends after so many rounds.")
    var rounds: Int?

    @Option(help: "With --fuzz: ends after so many seconds.")
    var seconds: Double?

    func validate() throws {
        guard fuzz || (seed == nil && round == 0 && rounds == nil && seconds == nil) else {
            throw ValidationError("--seed, --round, --rounds and --seconds go with --fuzz")
        }
        guard !fuzz || (only.isEmpty && json == nil && junit == nil && table == nil) else {
            throw ValidationError("--fuzz runs no cases and writes no report")
        }
        guard (0...1_000_000_000).contains(round), rounds ?? 0 >= 0, (0...1e9).contains(seconds ?? 0) else {
            throw ValidationError("--round, --rounds and --seconds take numbers from 0 to 1000000000")
        }
        let unknown = capable.filter { !Suite.capabilities.contains($0) }
        guard unknown.isEmpty else {
            let known = Suite.capabilities.sorted().joined(separator: ", ")
            throw ValidationError("--capable takes \(known), not \(unknown[0])")
        }
        guard (1...256).contains(jobs) else { throw ValidationError("--jobs takes a number from 1 to 256") }
        guard (1...100).contains(patience) else { throw ValidationError("--patience takes a number from 1 to 100") }
        guard tls || (authorities == nil && certificate == nil && key == nil) else {
            throw ValidationError("--cafile, --cert and --key go with --tls")
        }
        guard (certificate == nil) == (key == nil) else { throw ValidationError("--cert and --key go together") }
        guard port > 0 else { throw ValidationError("--port takes a port from 1 to 65535") }
    }

    func run() async throws {
        if fuzz { return try runFuzzer() }
        let suite = try readSuite()
        let chosen = try choose(suite)
        if list { return write(Self.listing(chosen), to: STDOUT_FILENO) }

        var options = Suite.Options()
        options.jobs = jobs
        options.patience = patience
        options.capabilities = Set(capable)
        for (kind, command) in [(Suite.Restart.restarts, restart), (.crashes, crash)] {
            guard let command else { continue }
            options.restarts[kind] = { unsafe system(command) == 0 }
        }
        signal(SIGPIPE, SIG_IGN)
        let lower = try lowerConnector()
        if isOverWebSocket {
            options.webSocket = { [host = hostField] in try .offering($0, lower(), host: host) }
        }
        let report = Report(suite, Suite.run(chosen, options, connect: try connector(over: lower)))
        print(report.text, terminator: "")
        try save(report)
        if !report.isPassed { throw ExitCode(Failure.Status.failed.rawValue) }
    }

    private func runFuzzer() throws {
        let corpus = try readCorpus()
        if list {
            return write(corpus.map { $0.text("of the corpus") }.joined(separator: "\n\n"), to: STDOUT_FILENO)
        }
        var options = Fuzzer.Options()
        options.seed = seed ?? UInt64.random(in: 0...UInt64.max)
        options.firstRound = round
        options.rounds = rounds
        options.duration = seconds.map { .milliseconds(Int64($0 * 1000)) }
        options.patience = .seconds(5 * patience)
        let connect = try connector(over: lowerConnector())
        let interruption = Interruption()
        Signals(requests: []).whenAskedToStop { interruption.note() }
        write("seed \(options.seed), \(corpus.count) sequences to begin with", to: STDERR_FILENO)
        let fuzzer = Fuzzer(corpus: corpus, options: options, connect: connect)
        let (progress, finding) = fuzzer.run(
            isOver: { interruption.isNoted }, report: { write("\($0)", to: STDERR_FILENO) })
        write("\(progress), \(finding == nil ? "nothing found" : "a finding")", to: STDERR_FILENO)
        guard let finding else { return }
        print(finding)
        throw ExitCode(Failure.Status.failed.rawValue)
    }

    private func readCorpus() throws(Failure) -> [FuzzSequence] {
        do throws(SuiteError) {
            guard let cases else { return try FuzzSequence.embeddedCorpus() }
            return try FuzzSequence.corpus(files: readDirectory(cases))
        } catch {
            throw Failure(.failed, error)
        }
    }

    private func choose(_ suite: Suite) throws(Failure) -> [Case] {
        do throws(UnknownName) {
            return try suite.only(only)
        } catch {
            throw Failure(.usage, error)
        }
    }

    private func readSuite() throws(Failure) -> Suite {
        do throws(SuiteError) {
            guard let cases else { return try .embedded() }
            return try Suite(files: readDirectory(cases))
        } catch {
            throw Failure(.failed, error)
        }
    }

    /// Where the cases' packets go.
    private func connector(over lower: @escaping Connector) throws(Failure) -> Connector {
        guard isOverWebSocket else { return lower }
        let connect: Connector = { [host = hostField] in try WebSocketStream.open(lower(), host: host) }
        do {
            try connect().reset()
        } catch {
            throw Failure(.failed, "\(host) port \(port): \(error)")
        }
        return connect
    }

    /// As HTTP writes it.
    private var hostField: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// TCP, or TLS over it.
    private func lowerConnector() throws(Failure) -> Connector {
        let addresses: [SocketAddress]
        do throws(ResolutionError) {
            addresses = try SocketAddress.resolve(host, port: port)
        } catch {
            throw Failure(.failed, error)
        }
        // The first that answers; a name may have addresses where nobody listens.
        guard let address = addresses.first(where: { (try? TCPStream($0)) != nil }) else {
            throw Failure(.failed, "nobody accepts connections at \(host) port \(port)")
        }
        guard tls else { return { try TCPStream(address) } }
        do {
            let client = try TLSClient(host: host, authorities: authorities, certificate: certificate, key: key)
            _ = try client.secure(TCPStream(address))
            return { try client.secure(TCPStream(address)) }
        } catch {
            throw Failure(.failed, "\(host) port \(port): \(error)")
        }
    }

    private func save(_ report: Report) throws {
        if let json { try replace(json, with: report.json()) }
        if let junit { try replace(junit, with: Array(report.junit.utf8)) }
        if let table { try replace(table, with: Array(report.traceability.utf8)) }
    }

    private static func listing(_ cases: [Case]) -> String {
        cases.map { "\($0.name)  \($0.proves.joined(separator: ","))  \($0.title)" }.joined(separator: "\n")
    }
}
