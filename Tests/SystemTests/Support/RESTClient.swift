import Foundation
import Glibc
import Testing

/// Asks the REST interface, one request after the other over a connection that it keeps.
final class RESTClient {
    struct Answer {
        let status: Int
        let head: WebClient.Answer
        let body: [UInt8]

        var text: String { String(decoding: body, as: UTF8.self) }
        var members: [String: Any] {
            (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] ?? [:]
        }
        /// Of a problem.
        var code: String? { status < 400 ? nil : members["code"] as? String }

        subscript(_ names: String...) -> Any? {
            names.reduce(members as Any?) { ($0 as? [String: Any])?[$1] }
        }
    }

    let port: UInt16
    private var web: WebClient?

    init(port: UInt16) { self.port = port }

    /// `body`: JSON, or whatever else.
    func ask(
        _ method: String, _ path: String, token: String? = nil, body: String? = nil, fields: [String] = [],
        host: String? = nil
    ) throws -> Answer {
        try ask(method, path, token: token, bytes: body.map { Array($0.utf8) }, fields: fields, host: host)
    }

    /// `bytes`: JSON unless `fields` have another type.
    func ask(
        _ method: String, _ path: String, token: String? = nil, bytes: [UInt8]?, fields: [String] = [],
        host: String? = nil
    ) throws -> Answer {
        var text = "\(method) \(path) HTTP/1.1\r\nHost: \(host ?? "127.0.0.1:\(port)")\r\n"
        if let token { text += "Authorization: Bearer \(token)\r\n" }
        if let bytes {
            text += "Content-Length: \(bytes.count)\r\n"
            if !fields.contains(where: { $0.lowercased().hasPrefix("content-type:") }) {
                text += "Content-Type: application/json\r\n"
            }
        }
        for field in fields { text += "\(field)\r\n" }
        let web = try self.web ?? WebClient(port: port)
        self.web = nil
        try web.send(Array((text + "\r\n").utf8) + (bytes ?? []))
        let (head, received) = try web.wholeAnswer(toHead: method == "HEAD", within: 30)
        if head["Connection"]?.lowercased() != "close" { self.web = web }
        return Answer(status: head.status, head: head, body: received)
    }

    /// The next request opens another connection.
    func disconnect() { web = nil }

    /// The same, where nothing else than success is expected.
    @discardableResult
    func get(
        _ method: String, _ path: String, token: String? = nil, body: String? = nil
    ) throws -> Answer {
        let answer = try ask(method, path, token: token, body: body)
        guard (200..<300).contains(answer.status) else {
            throw Unexpected("\(method) \(path): \(answer.status) \(answer.text)")
        }
        return answer
    }
}

/// A broker with the REST interface, an administrator, two people, and one more administrator who has to change the password.
final class RESTMartlet {
    enum Role: String, CaseIterable { case nobody, owner, other, admin, newAdmin, blocked }

    static let password = "secret 1"

    let directory: TemporaryDirectory
    /// MQTT without TLS.
    let mqttPort: UInt16
    let port: UInt16
    let client: RESTClient
    /// Its disk and its clock, where a test asks for them.
    let faults: Faults?
    private(set) var program: Program
    private(set) var tokens: [Role: String] = [:]
    private(set) var ids: [Role: String] = [:]
    private(set) var firstPassword = ""
    private var serial = 0
    /// A device that is never updated.
    var bystander: String?

    var data: String { "\(directory.path)/data" }

    /// With these lines before the listeners. `people`: who is there besides the administrators.
    init(
        _ lines: [String] = [], withPeople: Bool = true, people: [Role] = [.owner, .other, .blocked],
        withFaults: Bool = false
    ) throws {
        directory = try TemporaryDirectory()
        faults = withFaults ? try Faults(for: "\(directory.path)/data") : nil
        (mqttPort, port) = (try freePort(), try freePort())
        var all = [
            "data_dir \(directory.path)/data", "registration open", "login_attempts 1000", "log_dest stderr",
            "log_type all",
        ]
        all = all.filter { line in !lines.contains { $0.hasPrefix(line.prefix { $0 != " " }) } }
        all += stayingRoot(lines) + ["listener \(mqttPort) 127.0.0.1", "allow_anonymous false"]
        all += ["listener \(port) 127.0.0.1", "protocol http"]
        try directory.write(all.joined(separator: "\n") + "\n", "martlet.conf")
        client = RESTClient(port: port)
        program = try Self.start(directory, faults)
        if withPeople { try addPeople(people) }
    }

    private static func start(_ directory: TemporaryDirectory, _ faults: Faults?) throws -> Program {
        let program = try Program(
            Martlet.binary, ["serve", "-c", "\(directory.path)/martlet.conf"], environment: faults?.environment ?? [:])
        try program.waitForLine(containing: "started (", within: 20)
        return program
    }

    func stop() throws {
        program.signal(SIGTERM)
        let end = try program.waitForEnd(within: 10 * patience)
        #expect(end == .exited(0), "after SIGTERM; it said:\n\(program.output.suffix(2_000))")
    }

    func restart() throws {
        client.disconnect()
        program = try Self.start(directory, faults)
    }

    private func addPeople(_ people: [Role]) throws {
        let first = directory.text("data/first-admin").split(separator: "\n").map(String.init)
        guard first.count == 2 else { throw Unexpected("there is no first administrator") }
        firstPassword = first[1]
        tokens[.newAdmin] = try logIn(first[0], first[1])
        let added = try Program(
            "/bin/sh",
            [
                "-c", "printf %s \"$1\" | \"$2\" user add admin@x --admin --password-stdin --data \"$3\"", "sh",
                Self.password, Martlet.binary, data,
            ])
        guard try added.waitForEnd() == .exited(0) else { throw Unexpected(added.output) }
        tokens[.admin] = try logIn("admin@x")
        for role in people {
            ids[role] = try addPerson("\(role)@x")
            tokens[role] = try logIn("\(role)@x")
        }
        let users = try client.get("GET", "/api/admin/users", token: tokens[.admin])["users"] as? [[String: Any]]
        for (role, email) in [(Role.admin, "admin@x"), (.newAdmin, "admin@localhost")] {
            ids[role] = users?.first { $0["email"] as? String == email }?["id"] as? String
        }
        guard people.contains(.blocked) else { return }
        try client.get("POST", "/api/admin/user/blocked@x/block", token: tokens[.admin])
    }

    func token(_ role: Role) -> String? { tokens[role] }

    /// Of another log-in, where there can be one.
    func freshToken(_ role: Role) throws -> String? {
        switch role {
        case .nobody, .blocked: token(role)
        case .newAdmin: try logIn("admin@localhost", firstPassword)
        case .owner, .other, .admin: try logIn("\(role)@x")
        }
    }

    var admin: String { tokens[.admin] ?? "" }
    var owner: String { tokens[.owner] ?? "" }
    var other: String { tokens[.other] ?? "" }

    // MARK: - What tests need

    /// A number that was not there yet.
    func next() -> Int {
        serial += 1
        return serial
    }

    func logIn(_ email: String, _ password: String = RESTMartlet.password) throws -> String {
        let answer = try client.get(
            "POST", "/api/auth/login", body: #"{"email":"\#(email)","password":"\#(password)"}"#)
        guard let token = answer["token"] as? String else { throw Unexpected("no token: \(answer.text)") }
        return token
    }

    /// The id.
    func addPerson(_ email: String) throws -> String {
        let body = #"{"email":"\#(email)","password":"\#(Self.password)"}"#
        let answer = try client.get("POST", "/api/auth/register", body: body)
        guard let id = answer["userId"] as? String else { throw Unexpected("no id: \(answer.text)") }
        return id
    }

    /// One of the owner's, unless somebody else's token is given.
    func addDevice(token: String? = nil) throws -> (id: String, secret: String) {
        let id = "DEVICE-\(next())"
        let answer = try client.get(
            "POST", "/api/device/register", token: token ?? owner, body: #"{"deviceId":"\#(id)"}"#)
        guard let secret = answer["credentials", "password"] as? String else {
            throw Unexpected("no secret: \(answer.text)")
        }
        return (id, secret)
    }

    /// An MQTT connection, and the code of its CONNACK.
    func mqtt(
        _ userName: String, _ password: String, client identifier: String? = nil, cleanSession: Bool = true
    ) throws -> (client: RawClient, code: UInt8) {
        let client = try RawClient(port: mqttPort)
        let name = identifier ?? "client-\(next())"
        try client.send(Packet.connect(name, cleanSession: cleanSession, userName: userName, password: password))
        let answer = try client.receive(within: 20)
        guard answer.first == 0x20, answer.body.count == 2 else { throw Unexpected("CONNACK expected, not \(answer)") }
        return (client, answer.body[1])
    }

    /// One that is accepted.
    func signedIn(_ userName: String, _ password: String, client identifier: String? = nil) throws -> RawClient {
        let (client, code) = try mqtt(userName, password, client: identifier)
        guard code == 0 else { throw Unexpected("\(userName) is refused with \(code)") }
        return client
    }

    /// What the statements say of the broker's database, while it does not run or beside it.
    @discardableResult
    func sql(_ text: String) throws -> String {
        let run = try Program("sqlite3", ["-cmd", ".timeout 5000", "\(data)/fleet.db", text])
        guard try run.waitForEnd() == .exited(0) else { throw Unexpected(run.output) }
        return run.output
    }
}
