import Foundation
import Glibc

/// Mosquitto or Martlet with the files of a scenario, in a folder of its own. Used on one thread.
final class ScenarioBroker {
    let kind: BrokerKind
    let directory: String
    let ports: [(name: String, port: UInt16)]
    private let scenario: Scenario
    private let certificates: String?
    private(set) var program: Program?

    /// What is written down is what this version shows.
    static let mosquittoVersion = "2.0.11"

    /// Nil where that version is not at hand; `.tools` is where `Tests/Support/install test` puts it.
    static let mosquitto: String? = {
        let given = ProcessInfo.processInfo.environment["MOSQUITTO_BINARY"]
        let places = [given, "\(packageRoot)/.tools/bin/mosquitto", "/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
        return places.compactMap { $0 }.first { path in
            guard FileManager.default.isExecutableFile(atPath: path), let program = try? Program(path, ["-h"]),
                (try? program.waitForEnd(within: 5)) != nil
            else { return false }
            return program.lines.first == "mosquitto version \(mosquittoVersion)"
        }
    }()

    /// `certificates`: the folder that `certs/make-test-certificates` has filled, where the scenario needs it.
    init(_ kind: BrokerKind, _ scenario: Scenario, certificates: String?) throws {
        self.kind = kind
        self.certificates = certificates
        self.scenario = scenario
        // Short: the path of a unix socket has at most 107 bytes.
        directory = "/tmp/martlet-\(UUID().uuidString.prefix(12))"
        // Everybody may enter, for the broker may become another user.
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o777])
        ports = try ["{port}", "{port2}", "{port3}"].map { ($0, try freePort()) }
        for (name, lines) in scenario.files { try write(name, lines) }
        for command in scenario.preparations {
            let program = try Program("/bin/sh", ["-c", "cd \(directory)\n\(substituting(command))"])
            guard try program.waitForEnd(within: 15) == .exited(0) else { throw Unexpected(program.output) }
        }
    }

    deinit {
        program = nil
        try? FileManager.default.removeItem(atPath: directory)
    }

    var port: UInt16 { ports[0].port }

    private var command: [String] { kind == .martlet ? [Martlet.binary, "serve"] : [Self.mosquitto ?? "mosquitto"] }

    // MARK: Files

    func substituting(_ text: String) -> String {
        var text = text.replacingOccurrences(of: "{dir}", with: directory)
        text = text.replacingOccurrences(of: "{files}", with: "\(Scenario.folder)/files")
        if let certificates { text = text.replacingOccurrences(of: "{certs}", with: certificates) }
        text = text.replacingOccurrences(of: "{broker}", with: command.joined(separator: " "))
        for (name, port) in ports { text = text.replacingOccurrences(of: name, with: "\(port)") }
        return text
    }

    func write(_ name: String, _ lines: [String]) throws {
        let path = "\(directory)/\(name)"
        try FileManager.default.createDirectory(
            atPath: URL(filePath: path).deletingLastPathComponent().path, withIntermediateDirectories: true)
        let lines = name == "mosquitto.conf" ? completed(lines) : lines
        let text = lines.map { substituting($0) + "\n" }.joined()
        try text.write(toFile: path, atomically: true, encoding: .utf8)
    }

    /// What a scenario that isn't about them need not say.
    private func completed(_ lines: [String]) -> [String] {
        func says(_ keys: String...) -> Bool {
            lines.contains { line in keys.contains { line.split(separator: " ").first == $0[...] } }
        }
        var first: [String] = []
        if !says("per_listener_settings") {
            if getuid() == 0, !says("user") { first.append("user root") }
            if !says("log_dest") { first.append("log_dest stderr") }
            if !says("allow_anonymous") { first.append("allow_anonymous true") }
            if !says("listener", "port", "include_dir") { first.append("listener {port} 127.0.0.1") }
        }
        return first + lines
    }

    // MARK: Life

    /// Starts it and waits until it listens wherever its files say.
    func start() throws {
        let program = try launch()
        let isUp = eventually(within: 20) { isListening || program.endIfOver() != nil }
        guard isUp, program.endIfOver() == nil else {
            let output = program.output
            throw Unexpected("\(kind.rawValue) does not listen; it said:\n\(output.suffix(2_000))")
        }
    }

    func launch() throws -> Program {
        program = nil
        let arguments = scenario.arguments?.map(substituting) ?? ["-c", "\(directory)/mosquitto.conf"]
        let program = try Program(
            "/bin/sh", ["-c", "cd \"$1\" && shift && exec \"$@\"", "sh", directory] + command + arguments)
        self.program = program
        return program
    }

    /// Seen in the kernel's tables: a connection to try would count as a client.
    var isListening: Bool {
        let text = ((scenario.arguments ?? []) + scenario.files.flatMap(\.lines)).filter { !$0.hasPrefix("#") }
        let wanted = ports.enumerated().filter { index, entry in
            text.contains { $0.contains(entry.name) } || (index == 0 && usesDefaultListener)
        }.map(\.element.port)
        let sockets = text.compactMap { line -> String? in
            let words = line.split(separator: " ")
            return words.count == 3 && words[0] == "listener" && words[1] == "0" ? substituting(String(words[2])) : nil
        }
        let listening = ["tcp", "tcp6"].map { (try? String(contentsOfFile: "/proc/net/\($0)", encoding: .utf8)) ?? "" }
            .flatMap { $0.split(separator: "\n") }
            .compactMap { line -> UInt16? in
                let fields = line.split(separator: " ")
                guard fields.count > 3, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":") else { return nil }
                return UInt16(fields[1][colon...].dropFirst(), radix: 16)
            }
        return !(wanted.isEmpty && sockets.isEmpty) && Set(wanted).isSubset(of: listening)
            && sockets.allSatisfy { FileManager.default.fileExists(atPath: $0) }
    }

    private var usesDefaultListener: Bool {
        scenario.arguments == nil
            && !scenario.files.flatMap(\.lines).contains { $0.hasPrefix("listener ") || $0.hasPrefix("port ") }
    }

    // MARK: What it said

    /// Text in which what changes from run to run has the name that the scenario gave it, or a fixed one.
    func normalised(_ text: String) -> String {
        var text = text.replacingOccurrences(of: directory, with: "{dir}")
        if let certificates { text = text.replacingOccurrences(of: certificates, with: "{certs}") }
        for (name, port) in ports.reversed() { text = text.replacingOccurrences(of: "\(port)", with: name) }
        if let pid = program?.pid { text = text.replacing(#/\b\d+\b/#) { $0.output == "\(pid)" ? "{pid}" : $0.output } }
        let hex = #/[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}/#
        return text.replacing(hex, with: "{uuid}").replacing(#/mosq-[0-9A-Za-z]{18}/#, with: "mosq-{id}")
            .replacing(#/(127\.0\.0\.\d|::1):\d{4,5}\b/#) { "\($0.output.1):{peer}" }
    }
}
