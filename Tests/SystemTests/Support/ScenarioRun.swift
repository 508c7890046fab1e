import Foundation
import Glibc

@testable import Conformance

/// A scenario with one of the brokers. Used on one thread.
final class ScenarioRun {
    private let scenario: Scenario
    private let broker: ScenarioBroker
    private var isStarted = false
    private var clients: [String: ScenarioClient] = [:]
    private var places: [String: ScenarioClient.Place] = [:]
    private var sources: [String: String] = [:]
    private var programs: [String: Program] = [:]
    private var linesTaken: [String: Int] = [:]

    init(_ scenario: Scenario, with kind: BrokerKind, certificates: String?) throws {
        self.scenario = scenario
        broker = try ScenarioBroker(kind, scenario, certificates: certificates)
    }

    /// What was observed at each step.
    func run() throws -> [[String]] {
        defer {
            programs = [:]
            clients = [:]
        }
        return try scenario.steps.map { step in
            do { return try perform(step).map(broker.normalised) } catch {
                let said = broker.program.map { "\nThe broker said:\n\($0.output.suffix(1_500))" } ?? ""
                throw Unexpected(
                    "\(scenario.file):\(step.line): `\(step.text)` with \(broker.kind.rawValue): \(error)\(said)")
            }
        }
    }

    private func perform(_ step: Scenario.Step) throws -> [String] {
        let text = broker.substituting(step.text)
        let words = text.split(separator: " ").map(String.init)
        let rest = words.dropFirst(2).joined(separator: " ")
        if words == ["broker", "fails"] {
            let program = try broker.launch()
            guard eventually(within: 10, { program.endIfOver() != nil || broker.isListening }) else {
                throw Unexpected("neither ends nor listens")
            }
            // Mosquitto reads its certificates when it listens already.
            if broker.kind == .mosquitto {
                _ = eventually(within: 2) { program.endIfOver() != nil || program.output.contains(" running") }
            }
            return [program.endIfOver().map { "broker \($0)" } ?? "broker runs"]
        }
        if !isStarted {
            isStarted = true
            try broker.start()
        }
        switch words[0] {
        case "$": return try shell(String(text.dropFirst(2)))
        case "&": return try background(words[1], rest)
        case "file":
            try broker.write(words[1], step.block)
            return []
        case "broker": return try broker(words[1], rest)
        case "log": return try log(String(text.dropFirst(4)))
        case "wait":
            poll(nil, 0, Int32((Double(words[1].dropLast()) ?? 0) * 1000))
            return []
        default: break
        }
        if words.count > 1, programs[words[0]] != nil { return try program(words[0], words[1], rest) }
        if words.count > 2, words[1] == "times", let count = Int(words[0]) {
            return try (1...count).flatMap { turn in
                try client(rest.replacingOccurrences(of: "{i}", with: "\(turn)"))
            }
        }
        return try client(text)
    }

    // MARK: The broker

    private func broker(_ verb: String, _ rest: String) throws -> [String] {
        guard let program = broker.program else { throw Unexpected("it isn't running") }
        switch verb {
        case "signal":
            let signals = [
                "HUP": SIGHUP, "USR1": SIGUSR1, "USR2": SIGUSR2, "TERM": SIGTERM, "INT": SIGINT, "KILL": SIGKILL,
            ]
            guard let signal = signals[rest] else { throw Unexpected("no signal \(rest)") }
            program.signal(signal)
            return []
        case "reloads":
            let before = reloads
            program.signal(SIGHUP)
            guard eventually(within: 3, { reloads > before }) else { throw Unexpected("it does not reload") }
            return []
        case "ends":
            let end = try program.waitForEnd(within: 10)
            return ["broker \(end)"]
        case "starts":
            try broker.start()
            return []
        default: throw Unexpected("the broker can't \(verb)")
        }
    }

    private var reloads: Int { broker.program?.lines.filter { $0.contains(#/[Rr]eload/#) }.count ?? 0 }

    /// `/A/`, or `/A/ before /B/`: waits for the last of them.
    private func log(_ text: String) throws -> [String] {
        let parts = text.components(separatedBy: "/ before /")
        guard text.hasPrefix("/"), text.hasSuffix("/"), parts.count < 3 else { throw Unexpected("no log step") }
        let patterns = try parts.map { try Regex($0.trimmingCharacters(in: ["/"])) }
        let file = FileManager.default.fileExists(atPath: "\(broker.directory)/log")
        func place(_ pattern: Regex<AnyRegexOutput>) -> String.Index? {
            let all =
                file
                ? (try? String(contentsOfFile: "\(broker.directory)/log", encoding: .utf8)) ?? ""
                : broker.program?.output ?? ""
            return all.firstMatch(of: pattern)?.range.lowerBound
        }
        let isThere = eventually(within: 3) { place(patterns[patterns.count - 1]) != nil }
        guard parts.count == 2 else { return [isThere ? "is in the log" : "is not in the log"] }
        guard isThere, let last = place(patterns[1]) else { throw Unexpected("the second one never comes") }
        guard let first = place(patterns[0]), first < last else { return ["is not in the log"] }
        return ["is in the log"]
    }

    // MARK: Programs

    /// The tools of Mosquitto are told where the broker is, unless the line says it.
    private func completed(_ command: String, isFollowed: Bool = false) -> String {
        guard !["-h ", "-p ", "--unix", "-L "].contains(where: command.contains) else { return command }
        return command.replacing(#/\b(mosquitto_(pub|sub|rr)) /#) {
            "\($0.output.1) -h 127.0.0.1 -p \(broker.port) "
        }
    }

    private func start(_ command: String) throws -> Program {
        try Program(
            "/bin/sh", ["-c", "cd \(broker.directory)\n\(command)"],
            environment: ["HOME": broker.directory, "XDG_CONFIG_HOME": broker.directory])
    }

    private func shell(_ command: String) throws -> [String] {
        let program = try start(completed(command))
        let end = try program.waitForEnd(within: 15)
        return said(program) + (end == .exited(0) ? [] : ["\(end)"])
    }

    /// A tool that subscribes is there once the broker has said so.
    private func background(_ name: String, _ command: String) throws -> [String] {
        let subscribes = command.hasPrefix("mosquitto_sub") || command.hasPrefix("mosquitto_rr")
        let program = try start("exec stdbuf -oL \(completed(command))\(subscribes ? " -d" : "")")
        programs[name] = program
        linesTaken[name] = 0
        if subscribes { try program.waitForLine(containing: " received SUBACK") }
        return []
    }

    private func program(_ name: String, _ verb: String, _ rest: String) throws -> [String] {
        guard let program = programs[name] else { return [] }
        switch verb {
        case "says":
            let count = (linesTaken[name] ?? 0) + (Int(rest) ?? 1)
            guard eventually(within: 8, { said(program).count >= count }) else {
                throw Unexpected("it said only \(said(program))")
            }
            return takeLines(of: name, upTo: count)
        case "ends":
            let end = try program.waitForEnd(within: 15)
            if rest == "in brief" {
                let lines = said(program)
                return ["\(name): \(lines.count) lines, from \(lines.first ?? "") to \(lines.last ?? ""), \(end)"]
            }
            return takeLines(of: name, upTo: .max) + (end == .exited(0) ? [] : ["\(name) \(end)"])
        case "signal":
            program.signal(rest == "KILL" ? SIGKILL : SIGTERM)
            _ = try program.waitForEnd()
            return []
        default: throw Unexpected("a program can't \(verb)")
        }
    }

    private func takeLines(of name: String, upTo count: Int) -> [String] {
        guard let program = programs[name] else { return [] }
        let lines = said(program)
        let from = linesTaken[name] ?? 0
        linesTaken[name] = min(count, lines.count)
        return lines[from..<max(from, min(count, lines.count))].map { "\(name): \($0)" }
    }

    /// Without what `-d` says, and what OpenSSL calls its errors from version to version.
    private func said(_ program: Program) -> [String] {
        // An incomplete line counts only once nothing can follow.
        var lines = program.output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if program.endIfOver() == nil || lines.last == "" { lines.removeLast() }
        return
            lines
            .filter { !$0.contains(#/^(Client \S* (sending|received) |Subscribed \(mid|OpenSSL Error\[)/#) }
    }

    // MARK: Clients

    private func client(_ text: String) throws -> [String] {
        let words = text.split(separator: " ").map(String.init)
        guard words.count > 1 else { throw Unexpected("no step") }
        let name = words[0]
        let rest = Array(words.dropFirst(2))
        switch words[1] {
        case "at":
            places[name] = rest[0] == "unix" ? .path(rest[1]) : .address(rest[0], UInt16(rest[1]) ?? 0)
            if rest.count > 3, rest[2] == "from" { sources[name] = rest[3] }
            return []
        case "holds":
            try existing(name).isHolding = true
            return []
        case "acknowledges":
            try existing(name).acknowledge(Int(rest.first ?? "1") ?? 1)
            return []
        case "sees": return try sees(try existing(name), rest)
        case "finds": return try finds(name, text)
        default: break
        }
        return try perform(try Script.step(text, Script.Scope(home: "", variables: [:])))
    }

    private func existing(_ name: String) throws -> ScenarioClient {
        guard let client = clients[name] else { throw Unexpected("there is no \(name)") }
        return client
    }

    private func opened(_ name: String) throws -> ScenarioClient {
        if let client = clients[name], !client.isOver { return client }
        let client = try ScenarioClient(
            name, to: places[name] ?? .address("127.0.0.1", broker.port), from: sources[name])
        clients[name] = client
        return client
    }

    private func taken(_ client: ScenarioClient) -> [String] {
        client.takeObserved().map { "\(client.name) < \($0)" }
    }

    /// `A sees`, `A sees 3`, `A sees 3 sorted`, `A sees -1 +3`, `A sees closed`.
    private func sees(_ client: ScenarioClient, _ words: [String]) throws -> [String] {
        if words == ["closed"] {
            try client.read { _ in false }
        } else {
            let (own, other) = broker.kind == .martlet ? ("+", "-") : ("-", "+")
            // Not as a signed number: -0 would be everybody's.
            let count =
                words.filter { !$0.hasPrefix(other) }
                .compactMap { Int($0.hasPrefix(own) ? $0.dropFirst() : $0[...]) }.first ?? 0
            while client.observed.count < count, !client.isOver { try client.read { _ in true } }
            try client.settle()
        }
        return words.contains("sorted") ? taken(client).sorted() : taken(client)
    }

    /// `A finds "topic" /payload/`: subscribes and waits for it.
    private func finds(_ name: String, _ text: String) throws -> [String] {
        guard let parts = text.wholeMatch(of: #/\S+ finds "([^"]*)" \/(.*)\//#) else { throw Unexpected("no step") }
        let client = try opened(name)
        let pattern = try Regex(String(parts.output.2))
        try client.send(
            bytes(of: Script.step("\(name) > SUBSCRIBE 9 \"\(parts.output.1)\" 0", .init(home: "", variables: [:]))))
        try client.read {
            if case .publish(let publication) = $0 {
                return String(decoding: publication.payload, as: UTF8.self).wholeMatch(of: pattern) != nil
            }
            return false
        }
        _ = client.takeObserved()
        client.send(Frame(.unsubscribe, [0, 8] + Wire.string(Array(parts.output.1.utf8))).bytes())
        try client.read { if case .reply(.unsuback, 8) = $0 { true } else { false } }
        _ = client.takeObserved()
        return ["\(name) < found"]
    }

    private func bytes(of step: Script.Step) -> [UInt8] {
        if case .send(_, let bytes, _) = step { bytes } else { [] }
    }

    /// Steps of the conformance language that do something; what comes is observed, not expected.
    private func perform(_ step: Script.Step) throws -> [String] {
        switch step {
        case .send(let name, let bytes, _):
            try opened(name).send(bytes)
            return []
        case .connect(let name, let bytes, _):
            let client: ScenarioClient
            do { client = try opened(name) } catch { return ["\(name) < \(error)"] }
            client.send(bytes)
            try client.read { if case .connack = $0 { true } else { false } }
            return taken(client)
        case .subscribe(let name, let subscriptions):
            let client = try existing(name)
            client.send(
                Frame(.subscribe, Wire.uint16(client.freshIdentifier()) + Wire.body(of: subscriptions)).bytes())
            try client.read { if case .suback = $0 { true } else { false } }
            return taken(client)
        case .unsubscribe(let name, let filters):
            let client = try existing(name)
            let body = Wire.uint16(client.freshIdentifier()) + filters.flatMap { Wire.string($0) }
            client.send(Frame(.unsubscribe, body).bytes())
            try client.read { if case .reply(.unsuback, _) = $0 { true } else { false } }
            return taken(client)
        case .publish(let name, let publication): return try publish(try existing(name), publication)
        case .ping(let name):
            let client = try existing(name)
            client.send(Frame(.pingreq).bytes())
            try client.read { $0 == .pingresp }
            return taken(client)
        case .disconnect(let name):
            let client = try existing(name)
            client.send(Frame(.disconnect).bytes())
            return try finish(client)
        case .close(let name): return try finish(try existing(name))
        case .reset(let name):
            try existing(name).reset()
            clients[name] = nil
            return []
        default: throw Unexpected("this step is not for scenarios")
        }
    }

    private func publish(_ client: ScenarioClient, _ wanted: Conformance.Packet.Publication) throws -> [String] {
        var publication = wanted
        if publication.qos > 0, publication.identifier == 0 { publication.identifier = client.freshIdentifier() }
        client.send(Wire.frame(of: publication).bytes())
        switch publication.qos {
        case 0:
            client.send(Frame(.pingreq).bytes())
            try client.read { $0 == .pingresp }
        case 1: try client.read { if case .reply(.puback, _) = $0 { true } else { false } }
        default:
            try client.read { if case .reply(.pubrec, _) = $0 { true } else { false } }
            client.send(Frame(.pubrel, Wire.uint16(publication.identifier)).bytes())
            try client.read { if case .reply(.pubcomp, _) = $0 { true } else { false } }
        }
        return taken(client)
    }

    /// Our side is closed; the broker closes its own.
    private func finish(_ client: ScenarioClient) throws -> [String] {
        client.finish()
        try client.read { _ in false }
        return taken(client).filter { !$0.hasSuffix(" < closed") }
    }
}
