import Conformance
import Foundation
import Glibc
import Testing

extension System {
    /// What administrators do over HTTP besides people and devices: invites, clients, retained messages, keys, import.
    @Suite struct `Administration over HTTP` {
        private let place: AdministeredMartlet

        init() throws { place = try AdministeredMartlet(["registration invite", "shards 2"]) }

        // MARK: - Who may

        @Test func `is for administrators`() throws {
            let ann = try place.person("ann@example.org")
            let requests = [
                ("GET", "invites"), ("POST", "invites"), ("DELETE", "invites/x"), ("GET", "clients"),
                ("DELETE", "clients/x"), ("GET", "retained"), ("DELETE", "retained/x"), ("GET", "keys"),
                ("POST", "keys/jwt"), ("POST", "devices/import"),
            ]
            for (method, path) in requests {
                #expect(try place.ask(method, "/api/admin/\(path)").status == 401, "\(method) \(path)")
                let answer = try place.ask(method, "/api/admin/\(path)", token: ann)
                #expect(answer.status == 403 && answer.code == "forbidden", "\(method) \(path)")
            }
            try place.stop()
        }

        // MARK: - Invites

        @Test func `invites one person with a code that counts once`() throws {
            let account = ["email": "ann@example.org", "password": "secret1"]
            #expect(try place.ask("POST", "/api/auth/register", account).code == "registration_closed")
            let wrong = account.merging(["inviteCode": "0123"]) { $1 }
            let refused = try place.ask("POST", "/api/auth/register", wrong)
            #expect(refused.status == 403 && refused.code == "invalid_invite")
            let made = try place.ask("POST", "/api/admin/invites", ["role": "admin"], token: place.admin)
            #expect(made.status == 201)
            let code = try #require(made.value["code"] as? String)
            let right = account.merging(["inviteCode": code]) { $1 }
            #expect(try place.ask("POST", "/api/auth/register", right).status == 201)
            let other = right.merging(["email": "bob@example.org"]) { $1 }
            #expect(try place.ask("POST", "/api/auth/register", other).code == "invalid_invite")
            let listed = try place.ask("GET", "/api/admin/invites", token: place.admin)
            let invites = try #require(listed.value["invites"] as? [[String: Any]])
            #expect(invites.first?["usedBy"] as? String == "ann@example.org" && invites.first?["code"] == nil)
            let ann = try place.logIn("ann@example.org", "secret1")
            let id = try #require(invites.first?["id"] as? String)
            #expect(try place.ask("DELETE", "/api/admin/invites/\(id)", token: ann).status == 200)
            #expect(try place.ask("DELETE", "/api/admin/invites/\(id)", token: ann).status == 404)
            try place.stop()
        }

        // MARK: - Clients and messages

        @Test func `sees clients and ends their connections`() throws {
            let watcher = try place.mqtt("watcher")
            try watcher.subscribe([("will/#", 0)])
            var clients: [RawClient] = []
            for number in 0..<7 { clients.append(try place.mqtt("odd/ü \(number)")) }
            let paths = (1...4).map { "/api/admin/clients?page=\($0)&limit=3" }
            let pages = try paths.map { try place.ask("GET", $0, token: place.admin).value }
            #expect(pages.map { $0["total"] as? Int } == [8, 8, 8, 8])
            #expect(pages.map { $0["count"] as? Int } == [3, 3, 2, 0])
            let all = pages.flatMap { $0["clients"] as? [[String: Any]] ?? [] }
            #expect(
                Set(all.compactMap { $0["clientId"] as? String }) == Set((0..<7).map { "odd/ü \($0)" } + ["watcher"]))
            #expect(all.allSatisfy { $0["address"] as? String == "127.0.0.1" && $0["port"] as? Int == Int(place.port) })
            let path = "/api/admin/clients/odd%2F%C3%BC%203"
            #expect(try place.ask("DELETE", path, token: place.admin).status == 200)
            #expect(clients[3].isClosed())
            #expect(try place.ask("DELETE", path, token: place.admin).code == "not_found")
            #expect(try place.ask("GET", paths[0], token: place.admin).value["total"] as? Int == 7)
            try place.stop()
        }

        @Test func `clears what is retained, for good`() throws {
            let client = try place.mqtt("publisher")
            for topic in ["a/b/c", "a/x", "b", "/"] { try client.publishRetained(topic, "hello") }
            var listed = try place.ask("GET", "/api/admin/retained?topic=a/%23&limit=1&page=2", token: place.admin)
                .value
            let entry = (listed["retained"] as? [[String: Any]])?.first
            #expect(listed["total"] as? Int == 2 && entry?["topic"] as? String == "a/x")
            #expect(entry?["payload"] as? String == "aGVsbG8=" && entry?["clientId"] as? String == "publisher")
            try client.subscribe([("b", 0)])
            #expect(try client.receive().text == "hello")
            for topic in ["a%2Fb%2Fc", "b", "%2F"] {
                #expect(try place.ask("DELETE", "/api/admin/retained/\(topic)", token: place.admin).status == 200)
                #expect(try place.ask("DELETE", "/api/admin/retained/\(topic)", token: place.admin).status == 404)
            }
            #expect(try client.receive().text.isEmpty, "subscribers learn that it is gone")
            #expect(try place.ask("DELETE", "/api/admin/retained/%24SYS%2Fx", token: place.admin).status == 403)
            #expect(try place.ask("GET", "/api/admin/retained?topic=a%23", token: place.admin).status == 400)
            try place.restart()
            listed = try place.ask("GET", "/api/admin/retained", token: place.admin).value
            #expect((listed["retained"] as? [[String: Any]])?.compactMap { $0["topic"] as? String } == ["a/x"])
            try place.stop()
            // And the same without a broker.
            #expect(try place.command("retained", "list").output.contains("\na/x "))
            #expect(try place.command("retained", "remove", "a/x").end == .exited(0))
            #expect(try place.command("retained", "remove", "a/x").end == .exited(1))
            #expect(try !place.command("retained", "list").output.contains("a/x"))
        }

        // MARK: - Keys

        @Test func `rotates keys, and those who are logged in stay so`() throws {
            let before = try place.ask("GET", "/api/admin/keys", token: place.admin).value["keys"] as? [[String: Any]]
            let made = try place.ask("POST", "/api/admin/keys/jwt", token: place.admin)
            #expect(made.status == 201)
            let all = try place.ask("GET", "/api/admin/keys", token: place.admin).value["keys"] as? [[String: Any]]
            let keys = all?.filter { $0["purpose"] as? String == "jwt" }
            #expect(keys?.count == 2 && keys?.last?["id"] as? String == before?.first?["id"] as? String)
            #expect(keys?.map { $0["inUse"] as? Bool } == [true, false])
            try place.restart()
            #expect(try place.ask("GET", "/api/auth/me", token: place.admin).status == 200)
            try place.stop()
        }

        // MARK: - Import

        @Test func `imports devices, which are claimed`() throws {
            let ann = try place.person("ann@example.org")
            let text = "\u{FEFF}deviceId,name,claimCode\r\nd1,\"Lamp, big\",\r\nd 2,,\r\nD1,,\r\nd3\r\n"
            let answer = try place.importing(text)
            #expect(answer.map { $0["result"] as? String } == ["imported", "error", "exists", "error", "summary"])
            #expect(answer.dropLast().map { $0["line"] as? Int } == [2, 3, 4, 5])
            #expect(answer.last?["complete"] as? Bool == true && answer.last?["errors"] as? Int == 2)
            let password = try #require((answer[0]["credentials"] as? [String: String])?["password"])
            let device = try place.mqtt("first", "D1", password)
            let code = try #require(answer[0]["claimCode"] as? String)
            #expect(try place.ask("GET", "/api/device/D1", token: ann).status == 404, "it is nobody's")
            let refused = try place.ask("POST", "/api/device/register", ["deviceId": "d1"], token: ann)
            #expect(refused.status == 403 && refused.code == "claim_code_required")
            let wrong = ["deviceId": "d1", "claimCode": String(code.reversed())]
            #expect(try place.ask("POST", "/api/device/register", wrong, token: ann).code == "wrong_claim_code")
            let right = ["deviceId": "d1", "claimCode": code]
            let claimed = try place.ask("POST", "/api/device/register", right, token: ann)
            #expect(claimed.status == 201)
            #expect(device.isClosed(), "whoever has the old secret does not speak for it any more")
            let new = try #require((claimed.value["credentials"] as? [String: String])?["password"])
            _ = try place.mqtt("second", "D1", new)
            #expect(try place.ask("GET", "/api/device/D1", token: ann).status == 200)
            try place.stop()
        }

        @Test func `refuses a file that is none, before anything is made`() throws {
            for (type, text, status) in [
                ("application/json", "deviceId\n", 415), ("text/csv", "", 400), ("text/csv", "x\n", 400),
                ("text/csv", "\"deviceId", 400), ("text/csv", "deviceId\r", 400),
            ] {
                #expect(try place.upload(text, type: type).status == status, "\(text)")
            }
            // Behind the first line it is told at the end, and what came before stays.
            let answer = try place.importing("deviceId\na\nb\nc\"\nd\n")
            #expect(answer.map { $0["result"] as? String } == ["imported", "imported", "summary"])
            #expect(answer.last?["complete"] as? Bool == false)
            #expect((answer.last?["detail"] as? String)?.contains("line 4") == true)
            try place.stop()
        }

        @Test func `holds up whoever sends lines and does not take what became of them`() throws {
            let client = try RawClient(port: place.webPort, receiveBufferBytes: 4 << 10)
            try client.send(place.importHead(length: nil))
            func chunk(_ text: String) -> [UInt8] { Array("\(String(text.utf8.count, radix: 16))\r\n\(text)\r\n".utf8) }
            try client.send(chunk("deviceId,name\n"))
            let before = place.martlet.residentMegabytes
            var (sent, isHeldUp) = (0, false)
            // Both sides' sockets have buffers of some megabytes.
            while sent < 1_000_000, !isHeldUp {
                let part = (sent..<sent + 500).map { "H\(10_000_000 + $0),some name that makes the line longer\n" }
                do {
                    try client.send(chunk(part.joined()), within: 2)
                    sent += 500
                } catch {
                    isHeldUp = true
                }
            }
            #expect(isHeldUp, "all of it was taken")
            #expect(place.martlet.residentMegabytes - before < 40)
            // Others are served meanwhile.
            #expect(try place.ask("GET", "/api/admin/devices?limit=1", token: place.admin).status == 200)
            try place.stop()
        }

        @Test func `forgets whoever ends in the middle of their lines, and keeps what was told`() throws {
            let (client, descriptor) = try halfClosable(place.webPort)
            try client.send(place.importHead(length: 100_000))
            try client.send(Array("deviceId\n".utf8) + (0..<300).flatMap { Array("E\($0)\n".utf8) })
            try #require(
                eventually {
                    (try? place.ask("GET", "/api/admin/devices", token: place.admin).value["total"] as? Int) == 200
                })
            shutdown(descriptor, Int32(SHUT_WR))
            #expect(client.isClosed())
            let devices = try place.ask("GET", "/api/admin/devices?limit=500", token: place.admin)
            #expect((200...300).contains(devices.value["total"] as? Int ?? 0))
            try place.stop()
        }

        @Test func `the command imports the same file`() throws {
            let file = temporaryFile("csv")
            defer { unlink(file) }
            let lines = (0..<450).map { "C\($0),\"say \"\"\($0)\"\"\"" }
            try "deviceId,name\n\(lines.joined(separator: "\n"))\nno id,x\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            let result = try place.command("device", "import", file)
            #expect(result.end == .exited(1), "one could not be made")
            let output = result.output.split(separator: "\n")
            #expect(output.first == "line,deviceId,result,username,password,claimCode,detail")
            #expect(output.count { $0.contains(",imported,C") } == 450)
            #expect(output.contains { $0.hasPrefix("452,no id,error,,,,\"a deviceId has") })
            let listed = try place.ask("GET", "/api/admin/devices?limit=1", token: place.admin).value
            #expect(listed["total"] as? Int == 450)
            try place.stop()
            #expect(try place.command("device", "import", file, "--json").output.contains("\"result\":\"exists\""))
        }
    }
}

/// A broker with REST beside MQTT, and its administrator.
private final class AdministeredMartlet {
    private let lines: [String]
    private let data = temporaryFile("data")
    let webPort: UInt16
    private(set) var martlet: Martlet
    private(set) var admin = ""

    var port: UInt16 { martlet.port }

    init(_ lines: [String]) throws {
        webPort = try freePort()
        self.lines = ["data_dir \(data)"] + lines + ["listener \(webPort) 127.0.0.1", "protocol http"]
        martlet = try Martlet(self.lines)
        try martlet.program.waitForLine(containing: "started (")
        let first = try String(contentsOfFile: "\(data)/first-admin", encoding: .utf8).split(separator: "\n").map(
            String.init)
        admin = try logIn(first[0], first[1])
        let change = ["currentPassword": first[1], "newPassword": "secret99"]
        guard try ask("POST", "/api/auth/password", change, token: admin).status == 200 else {
            throw Unexpected("the password is not changed")
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: data) }

    func stop() throws { try martlet.stop() }

    func restart() throws {
        try martlet.stop()
        martlet = try Martlet(lines)
        try martlet.program.waitForLine(containing: "started (")
    }

    func command(_ arguments: String...) throws -> (end: Program.End, output: String) {
        let program = try Program(Martlet.binary, arguments + ["--data", data])
        return (try program.waitForEnd(within: 60), program.output)
    }

    // MARK: - HTTP

    struct Reply {
        let status: Int
        let text: String

        var value: [String: Any] {
            (try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]) ?? [:]
        }
        var code: String? { value["code"] as? String }
    }

    func ask(_ method: String, _ path: String, _ body: [String: String]? = nil, token: String? = nil) throws -> Reply {
        let text = try body.map { String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self) }
        return try ask(method, path, text: text, type: "application/json", token: token)
    }

    private func ask(_ method: String, _ path: String, text: String?, type: String, token: String?) throws -> Reply {
        var arguments = ["-s", "-S", "-m", "60", "-X", method, "-w", "\\n%{http_code}"]
        if let token { arguments += ["-H", "Authorization: Bearer \(token)"] }
        let file = temporaryFile("body")
        defer { unlink(file) }
        if let text {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
            arguments += ["-H", "Content-Type: \(type)", "--data-binary", "@\(file)"]
        }
        let program = try Program("/usr/bin/curl", arguments + ["http://127.0.0.1:\(webPort)\(path)"])
        guard try program.waitForEnd(within: 90) == .exited(0) else { throw Unexpected(program.output) }
        let output = program.output
        guard let end = output.lastIndex(of: "\n"), let status = Int(output[output.index(after: end)...]) else {
            throw Unexpected(output)
        }
        return Reply(status: status, text: String(output[..<end]))
    }

    func logIn(_ email: String, _ password: String) throws -> String {
        let reply = try ask("POST", "/api/auth/login", ["email": email, "password": password])
        guard let token = reply.value["token"] as? String else { throw Unexpected(reply.text) }
        return token
    }

    /// Somebody with an account.
    func person(_ email: String) throws -> String {
        guard let code = try ask("POST", "/api/admin/invites", token: admin).value["code"] as? String else {
            throw Unexpected("there is no invite")
        }
        let account = ["email": email, "password": "secret1", "inviteCode": code]
        guard try ask("POST", "/api/auth/register", account).status == 201 else { throw Unexpected("no account") }
        return try logIn(email, "secret1")
    }

    func upload(_ text: String, type: String = "text/csv") throws -> Reply {
        try ask("POST", "/api/admin/devices/import", text: text, type: type, token: admin)
    }

    /// The lines of the answer.
    func importing(_ text: String) throws -> [[String: Any]] {
        let reply = try upload(text)
        guard reply.status == 200 else { throw Unexpected(reply.text) }
        return try reply.text.split(separator: "\n").map {
            try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] ?? [:]
        }
    }

    /// `length`: nil for chunks.
    func importHead(length: Int?) -> [UInt8] {
        let framing = length.map { "Content-Length: \($0)" } ?? "Transfer-Encoding: chunked"
        return Array(
            """
            POST /api/admin/devices/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(admin)\r\n\
            Content-Type: text/csv\r\n\(framing)\r\n\r\n
            """.utf8)
    }

    // MARK: - MQTT

    func mqtt(_ client: String, _ userName: String? = nil, _ password: String? = nil) throws -> RawClient {
        let connected = try RawClient(port: port)
        var connect = Wire.Connect(clientIdentifier: Array(client.utf8))
        connect.userName = userName.map { Array($0.utf8) }
        connect.password = password.map { Array($0.utf8) }
        try connected.send(Packet.packet(0x10, connect.body))
        guard try connected.receive(within: 30).body == [0, 0] else { throw Unexpected("\(client) is refused") }
        return connected
    }
}

extension RawClient {
    fileprivate func publishRetained(_ topic: String, _ payload: String) throws {
        try send(Packet.publish(topic, payload, qos: 1, retain: true))
        guard try receive().type == 4 else { throw Unexpected("PUBACK expected") }
    }
}

/// A client, and the descriptor that it closes.
private func halfClosable(_ port: UInt16) throws -> (client: RawClient, descriptor: Int32) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard withLoopback(port, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
        throw Unexpected(errno: errno, during: "connect")
    }
    return (RawClient(adopting: descriptor), descriptor)
}
