import Conformance
import Foundation
import Glibc
import Testing

/// A broker as somebody starts it who has configured nothing: `martlet serve -p PORT --data DIR`, with TLS on 8883, HTTP on
/// 8080 and 8443, which only one can have at a time.
final class StandardMartlet {
    static let securePort: UInt16 = 8883
    static let fixedPorts: [UInt16] = [securePort, 8080, 8443]

    let port: UInt16
    let directory: TemporaryDirectory
    let data: String
    let program: Program

    /// Checking a person's password may take long where others keep the machine busy.
    private static let patientVariables = ["MARTLET_CONNECT_TIMEOUT": "60s"]

    /// Starts it and waits until it serves. `data`: the name of the data directory in `directory`.
    init(
        in directory: TemporaryDirectory? = nil, data name: String = "data", environment: [String: String] = [:]
    ) throws {
        self.directory = try directory ?? TemporaryDirectory()
        data = "\(self.directory.path)/\(name)"
        port = try freePort()
        for port in Self.fixedPorts {
            guard eventually(within: 60, { !accepts(port) }) else { throw Unexpected("somebody else has port \(port)") }
        }
        program = try Program(
            Martlet.binary, ["serve", "-p", "\(port)", "--data", data],
            environment: Self.patientVariables.merging(environment) { $1 })
        try program.waitForLine(containing: "started (", within: 30)
    }

    func stop() throws {
        program.signal(SIGTERM)
        let end = try program.waitForEnd(within: 10)
        #expect(end == .exited(0), "after SIGTERM; it said:\n\(program.output.suffix(2_000))")
    }

    // MARK: - The command line

    /// A subcommand on its data, to its end. `input`: a line of standard input.
    func command(_ arguments: [String], input: String? = nil) throws -> (end: Program.End, output: String) {
        let all = arguments + ["--data", data]
        let program =
            if let input {
                try Program("/bin/sh", ["-c", "printf '%s\\n' \"$0\" | exec \"$@\"", input, Martlet.binary] + all)
            } else {
                try Program(Martlet.binary, all)
            }
        return (try program.waitForEnd(within: 60), program.output)
    }

    /// The same, where it has to succeed.
    @discardableResult
    func run(_ arguments: String..., input: String? = nil) throws -> String {
        let (end, output) = try command(arguments, input: input)
        guard end == .exited(0) else { throw Unexpected("martlet \(arguments): \(output)") }
        return output
    }

    /// The same with `--json`, and the password that it answers.
    func password(_ arguments: String...) throws -> String {
        let (end, output) = try command(arguments + ["--json"])
        let answer = try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
        let credentials = answer?["credentials"] as? [String: Any]
        guard end == .exited(0), let password = (credentials ?? answer)?["password"] as? String else {
            throw Unexpected("martlet \(arguments): \(output)")
        }
        return password
    }

    // MARK: - Clients

    /// What the CONNACK to a CONNECT on the loopback says, and the client.
    func connect(
        _ identifier: String, _ userName: String? = nil, _ password: String? = nil, cleanSession: Bool = true
    ) throws -> (code: UInt8, isPresent: Bool, client: RawClient) {
        var connect = Wire.Connect(clientIdentifier: Array(identifier.utf8))
        connect.keepAlive = 0
        connect.cleanSession = cleanSession
        connect.userName = userName.map { Array($0.utf8) }
        connect.password = password.map { Array($0.utf8) }
        let client = try RawClient(port: port)
        try client.send(Packet.packet(0x10, connect.body))
        let answer = try client.receive(within: 60)
        guard answer.first == 0x20, answer.body.count == 2 else { throw Unexpected("CONNACK expected, not \(answer)") }
        return (answer.body[1], answer.body[0] == 1, client)
    }

    /// A client that is accepted.
    func client(
        _ identifier: String, _ userName: String? = nil, _ password: String? = nil, cleanSession: Bool = true
    ) throws -> RawClient {
        let (code, _, client) = try connect(identifier, userName, password, cleanSession: cleanSession)
        guard code == 0 else { throw Unexpected("\(identifier) is refused with \(code)") }
        return client
    }

    var authority: String { "\(data)/certs/ca.pem" }

    /// Arguments of a mosquitto client that connects with TLS.
    var secure: [String] { ["-h", "localhost", "-p", "\(Self.securePort)", "--cafile", authority] }

    /// The status of a mosquitto_pub over TLS that sends one message: 0, or the return code that refused it.
    func publish(_ arguments: [String], topic: String = "a", _ message: String = "m") throws -> Program.End {
        let program = try Program("mosquitto_pub", secure + ["-q", "1", "-t", topic, "-m", message] + arguments)
        return try program.waitForEnd(within: 60)
    }

    /// Arguments that show the certificate that `certs device` made in the directory.
    func showing(_ name: String) -> [String] {
        ["--cert", "\(directory.path)/\(name).pem", "--key", "\(directory.path)/\(name).key"]
    }
}
