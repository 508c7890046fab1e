import Access
import Certificates
import Foundation
import Glibc
import JSON
import Management
import Seeded
import Store
import Synchronization
import Testing

@Suite struct `The management` {
    let place = TemporaryDirectory()
    private let requester = Requester.local("test")

    private func management(
        onChange: @escaping @Sendable (Accounts) -> Void = { _ in }
    ) throws -> Management {
        let directory = try place.open()
        return try Management(directory.store(), in: directory, milliseconds: { 1_700_000_000_000 }, onChange: onChange)
    }

    /// The first response, and the code of its error.
    private func ask(
        _ management: Management, _ command: String, from requester: Requester? = nil
    ) async throws -> (response: JSONValue, code: String?) {
        let bytes = await management.respond(
            to: Array("{\"commands\":[\(command)]}".utf8), from: requester ?? self.requester)
        let response = try #require(JSONValue(parsing: bytes)?["responses"]?.array?.first)
        return (response, response["error"]?["code"]?.string)
    }

    // MARK: - The envelope

    @Test func `answers each command, in order, with what it came with`() async throws {
        let management = try management()
        let request = """
            {"commands":[{"command":"registerDevice","deviceId":"a1","correlationData":"x"},{"command":"fly"},
            {"command":"blockDevice","deviceId":"A1"}]}
            """
        let answer = try #require(
            JSONValue(parsing: await management.respond(to: Array(request.utf8), from: requester)))
        let responses = try #require(answer["responses"]?.array)
        #expect(responses.count == 3)
        #expect(responses[0]["command"] == .string("registerDevice"))
        #expect(responses[0]["correlationData"] == .string("x"))
        #expect(responses[0]["data"]?["device"]?["deviceId"] == .string("A1"))
        #expect(responses[1]["error"]?["code"] == .string("unknown_command"))
        #expect(responses[2] == .object(["command": .string("blockDevice")]))
        #expect(await management.accounts.devices["A1"]?.isBlocked == true)
    }

    @Test(arguments: [
        ("", "invalid_request"), ("{", "invalid_request"), ("[]", "invalid_request"), ("{}", "invalid_request"),
        (#"{"commands":[]}"#, "invalid_request"), (#"{"commands":{}}"#, "invalid_request"),
        (#"{"commands":[1]}"#, "invalid_request"), (#"{"commands":[{"command":1}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"listUsers","correlationData":1}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"listUsers","pages":1}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"listUsers","page":0}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"listUsers","limit":501}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"listUsers","limit":"1"}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"blockDevice"}]}"#, "invalid_request"),
        (#"{"commands":[{"command":"blockDevice","deviceId":"A","blocked":1}]}"#, "invalid_request"),
        (String(repeating: "[", count: 100_000), "invalid_request"),
        ("{\"commands\":[" + Array(repeating: "{}", count: 33).joined(separator: ",") + "]}", "invalid_request"),
    ])
    func `refuses what is no request`(_ text: String, _ code: String) async throws {
        let answer = JSONValue(parsing: await (try management()).respond(to: Array(text.utf8), from: requester))
        #expect(answer?["responses"]?.array?.first?["error"]?["code"] == .string(code))
    }

    @Test func `survives whatever bytes come`() async throws {
        let seed: UInt64 = 5
        var random = SeededGenerator(seed: seed)
        let management = try management()
        let corpus = [
            #"{"commands":[{"command":"registerUser","email":"a@b","password":"secret","role":"admin"}]}"#,
            #"{"commands":[{"command":"registerDevice","deviceId":"ab-c","name":"\u00e4\n","model":"m","macAddress":"0c5d32dd2568"}]}"#,
            #"{"commands":[{"command":"listDevices","page":1,"limit":50},{"command":"listActivity","deviceId":"A"}]}"#,
            #"{"commands":[{"command":"addService","name":"s.1","policy":"backend","correlationData":"\\\""}]}"#,
        ]
        for _ in 0..<3_000 {
            var bytes = Array(corpus.randomElement(using: &random)!.utf8)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<max(bytes.count, 1), using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where !bytes.isEmpty: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1 where !bytes.isEmpty: bytes.removeSubrange(at..<min(at + 7, bytes.count))
                case 2:
                    bytes.insert(
                        contentsOf: Array("[{\"\\1e99".utf8).shuffled(using: &random), at: min(at, bytes.count))
                default: bytes.append(contentsOf: bytes.prefix(at))
                }
            }
            let answer = await management.respond(to: bytes, from: requester)
            #expect(JSONValue(parsing: answer)?["responses"]?.array?.isEmpty == false, "seed \(seed): \(bytes)")
            #expect(!answer.contains(UInt8(ascii: "\n")))
        }
        for deviceId in await management.accounts.devices.keys { #expect(try DeviceId(deviceId).text == deviceId) }
        let stored = await management.accounts
        try await management.close()
        let directory = try DataDirectory(place.path)
        #expect(try directory.store().accounts() == stored)
    }

    // MARK: - Rules

    @Test(arguments: [
        (#"{"command":"registerDevice","deviceId":""}"#, "invalid_device_id"),
        (#"{"command":"registerDevice","deviceId":"esp32_0C5D"}"#, "invalid_device_id"),
        (#"{"command":"registerDevice","deviceId":"a+b"}"#, "invalid_device_id"),
        (#"{"command":"registerDevice","deviceId":"a/b"}"#, "invalid_device_id"),
        (#"{"command":"registerDevice","deviceId":"a\u0000"}"#, "invalid_device_id"),
        (#"{"command":"registerDevice","deviceId":"ı"}"#, "invalid_device_id"),
        ("{\"command\":\"registerDevice\",\"deviceId\":\"\(String(repeating: "A", count: 65))\"}", "invalid_device_id"),
        (#"{"command":"registerDevice","deviceId":"there"}"#, "already_exists"),
        (#"{"command":"registerDevice","deviceId":"NODE-red"}"#, "already_exists"),
        (#"{"command":"registerDevice","deviceId":"N","owner":"who@x"}"#, "not_found"),
        (#"{"command":"registerDevice","deviceId":"N","model":".m"}"#, "invalid_model"),
        (#"{"command":"registerDevice","deviceId":"N","macAddress":"0C:5D"}"#, "invalid_mac_address"),
        (#"{"command":"registerDevice","deviceId":"N","name":"a\nb"}"#, "invalid_name"),
        (#"{"command":"blockDevice","deviceId":"NONE"}"#, "not_found"),
        (#"{"command":"rotateDeviceCredentials","deviceId":"NONE"}"#, "not_found"),
        (#"{"command":"deleteDevice","deviceId":"NONE"}"#, "not_found"),
        (#"{"command":"registerUser","email":"ann"}"#, "invalid_email"),
        (#"{"command":"registerUser","email":"a b@c"}"#, "invalid_email"),
        (#"{"command":"registerUser","email":"a/#@c"}"#, "invalid_email"),
        (#"{"command":"registerUser","email":"a@c..d"}"#, "invalid_email"),
        (#"{"command":"registerUser","email":"a@b@c"}"#, "invalid_email"),
        (#"{"command":"registerUser","email":"ADMIN@x"}"#, "already_exists"),
        (#"{"command":"registerUser","email":"n@x","password":"12345"}"#, "invalid_password"),
        (
            "{\"command\":\"registerUser\",\"email\":\"n@x\",\"password\":\"\(String(repeating: "é", count: 65))\"}",
            "invalid_password"
        ),
        (#"{"command":"registerUser","email":"n@x","role":"root"}"#, "invalid_role"),
        (#"{"command":"setUserRole","email":"admin@x"}"#, "invalid_request"),
        (#"{"command":"setUserRole","email":"admin@x","role":"user"}"#, "last_admin"),
        (#"{"command":"blockUser","email":"admin@x"}"#, "last_admin"),
        (#"{"command":"deleteUser","email":"admin@x"}"#, "last_admin"),
        (#"{"command":"deleteUser","email":"who@x"}"#, "not_found"),
        (#"{"command":"setUserPassword","email":"who@x","password":"secret"}"#, "not_found"),
        (#"{"command":"addService","name":"Node"}"#, "invalid_name"),
        (#"{"command":"addService","name":"esp32_x"}"#, "invalid_name"),
        (#"{"command":"addService","name":"there"}"#, "already_exists"),
        (#"{"command":"addService","name":"node-red"}"#, "already_exists"),
        (#"{"command":"addService","name":"n","policy":"owner"}"#, "invalid_policy"),
        (#"{"command":"removeService","name":"none"}"#, "not_found"),
        (#"{"command":"rotateServiceCredentials","name":"none"}"#, "not_found"),
    ])
    func `refuses what breaks a rule, and changes nothing`(_ command: String, _ code: String) async throws {
        let management = try management()
        for command in [
            #"{"command":"registerUser","email":"admin@x","role":"admin"}"#,
            #"{"command":"registerDevice","deviceId":"there"}"#, #"{"command":"addService","name":"node-red"}"#,
        ] {
            #expect(try await ask(management, command).code == nil)
        }
        let before = await management.accounts
        #expect(try await ask(management, command).code == code)
        #expect(await management.accounts == before)
    }

    @Test func `keeps an administrator who can sign in`() async throws {
        let management = try management()
        for email in ["a@x", "b@x"] {
            _ = try await ask(management, #"{"command":"registerUser","email":"\#(email)","role":"admin"}"#)
        }
        #expect(try await ask(management, #"{"command":"blockUser","email":"b@x"}"#).code == nil)
        #expect(
            try await ask(management, #"{"command":"setUserRole","email":"a@x","role":"user"}"#).code == "last_admin")
        #expect(try await ask(management, #"{"command":"deleteUser","email":"b@x"}"#).code == nil)
        #expect(try await ask(management, #"{"command":"deleteUser","email":"a@x"}"#).code == "last_admin")
    }

    @Test func `lets nobody block themselves, nor get a secret by an open way`() async throws {
        let management = try management()
        for email in ["a@x", "b@x"] {
            _ = try await ask(management, #"{"command":"registerUser","email":"\#(email)","role":"admin"}"#)
        }
        let ann = Requester(actor: "a@x", person: "a@x", receivesSecrets: false)
        #expect(try await ask(management, #"{"command":"blockUser","email":"A@x"}"#, from: ann).code == "own_account")
        #expect(
            try await ask(management, #"{"command":"registerDevice","deviceId":"A"}"#, from: ann).code == "forbidden")
        #expect(
            try await ask(management, #"{"command":"setUserPassword","email":"b@x"}"#, from: ann).code == "forbidden")
        #expect(try await ask(management, #"{"command":"blockUser","email":"b@x"}"#, from: ann).code == nil)
    }

    // MARK: - What changes

    @Test func `keeps in memory what the store has, through every command`() async throws {
        let changes = Changes()
        let management = try management { changes.add($0) }
        for command in [
            #"{"command":"registerUser","email":"Ann@X","role":"admin"}"#,
            #"{"command":"registerUser","email":"bob@x","name":"Bob","password":"secret"}"#,
            #"{"command":"setUserRole","email":"bob@x","role":"admin"}"#,
            #"{"command":"blockUser","email":"bob@x"}"#,
            #"{"command":"setUserPassword","email":"bob@x","password":"secret2"}"#,
            #"{"command":"registerDevice","deviceId":"b","owner":"bob@x"}"#,
            #"{"command":"registerDevice","deviceId":"a","owner":"bob@x"}"#,
            #"{"command":"registerDevice","deviceId":"c","owner":"bob@x"}"#,
            #"{"command":"blockDevice","deviceId":"a"}"#, #"{"command":"blockDevice","deviceId":"a","blocked":false}"#,
            #"{"command":"rotateDeviceCredentials","deviceId":"a"}"#, #"{"command":"deleteDevice","deviceId":"b"}"#,
            #"{"command":"addService","name":"s","policy":"admin"}"#, #"{"command":"addService","name":"t"}"#,
            #"{"command":"blockService","name":"s"}"#, #"{"command":"rotateServiceCredentials","name":"s"}"#,
            #"{"command":"removeService","name":"t"}"#, #"{"command":"deleteUser","email":"ann@x"}"#,
        ].dropLast() {
            let before = changes.last
            #expect(try await ask(management, command).code == nil, "\(command)")
            #expect(changes.last != before, "\(command)")
            #expect(await management.accounts == changes.last)
        }
        let stored = await management.accounts
        #expect(stored.people["bob@x"]?.devices == ["A", "C"])
        try await management.close()
        #expect(try DataDirectory(place.path).store().accounts() == stored)
    }

    @Test func `removes a device also where its certificate can't be put on the list`() async throws {
        let management = try management()
        let certificates = CertificateDirectory(dataDirectory: place.path)
        _ = try certificates.prepare(names: [.host("localhost")], now: .now)
        // Issued behind the broker's back.
        let serial = try certificates.issueDevice("A", now: .now).certificate.serial.description
        try FileManager.default.removeItem(atPath: certificates.authorityKeyFile)
        _ = try await ask(management, #"{"command":"registerDevice","deviceId":"a"}"#)
        #expect(try await ask(management, #"{"command":"deleteDevice","deviceId":"a"}"#).code == "failed")
        #expect(await management.accounts.devices.isEmpty)
        #expect(await management.accounts.revokedCertificates == [serial])
        try await management.close()
        #expect(try DataDirectory(place.path).store().accounts().revokedCertificates == [serial])
    }

    @Test func `says nothing where nothing changes`() async throws {
        let changes = Changes()
        let management = try management { changes.add($0) }
        _ = try await ask(management, #"{"command":"registerDevice","deviceId":"a"}"#)
        _ = try await ask(management, #"{"command":"blockDevice","deviceId":"a","blocked":false}"#)
        _ = try await ask(management, #"{"command":"listDevices"}"#)
        #expect(changes.count == 1)
    }

    @Test func `gives each a secret of its own, which only its digest outlives`() async throws {
        let management = try management()
        var secrets: Set<String> = []
        for deviceId in ["A", "B"] {
            let (answer, _) = try await ask(management, #"{"command":"registerDevice","deviceId":"\#(deviceId)"}"#)
            let credentials = try #require(answer["data"]?["credentials"])
            #expect(credentials["username"] == .string(deviceId))
            let secret = try #require(credentials["password"]?.string)
            #expect(secret.utf8.count == 43)
            secrets.insert(secret)
        }
        #expect(secrets.count == 2)
        try await management.close()
        let bytes = try #require(FileManager.default.contents(atPath: "\(place.path)/fleet.db"))
        for secret in secrets { #expect(bytes.range(of: Data(secret.utf8)) == nil) }
    }

    @Test func `hashes passwords with scrypt and never shows the hash`() async throws {
        let management = try management()
        _ = try await ask(management, #"{"command":"registerUser","email":"a@x","password":"secret"}"#)
        let hash = try #require(await management.accounts.people["a@x"]?.passwordHash)
        #expect(hash.wholeMatch(of: #/\$scrypt\$ln=14,r=8,p=5\$[A-Za-z0-9+\/]{22}\$[A-Za-z0-9+\/]{43}/#) != nil)
        let (answer, _) = try await ask(management, #"{"command":"listUsers"}"#)
        #expect(!answer.text.contains("scrypt"))
        #expect(answer["data"]?["users"]?.array?.first?["email"] == .string("a@x"))
    }

    @Test func `lists in pages`() async throws {
        let management = try management()
        for index in 0..<5 { _ = try await ask(management, #"{"command":"registerDevice","deviceId":"D\#(index)"}"#) }
        let (answer, _) = try await ask(management, #"{"command":"listDevices","page":2,"limit":2}"#)
        let data = try #require(answer["data"])
        #expect(data["devices"]?.array?.map { $0["deviceId"]?.string } == ["D2", "D3"])
        #expect([data["page"], data["limit"], data["count"], data["total"]] == [2, 2, 2, 5].map { .integer($0) })
        #expect(data["devices"]?.array?.first?["registeredAt"] == .string("2023-11-14T22:13:20.000Z"))
        let (activity, _) = try await ask(management, #"{"command":"listActivity","deviceId":"d3"}"#)
        let entry = try #require(activity["data"]?["activity"]?.array?.first)
        #expect(entry["kind"] == .string("DEVICE_REGISTERED") && entry["actor"] == .string("local:test"))
    }

    /// What one change costs stands in the output; nothing is asserted about time.
    @Test func `changes one of ten thousand devices, and no other`() async throws {
        let management = try management { _ in }
        for start in stride(from: 0, to: 10_000, by: 32) {
            let commands = (start..<min(start + 32, 10_000)).map {
                #"{"command":"registerDevice","deviceId":"D\#($0)"}"#
            }
            _ = await management.respond(
                to: Array("{\"commands\":[\(commands.joined(separator: ","))]}".utf8), from: requester)
        }
        #expect(await management.accounts.devices.count == 10_000)
        let start = ContinuousClock.now
        for index in 0..<20 { _ = try await ask(management, #"{"command":"blockDevice","deviceId":"D\#(index)"}"#) }
        print("a change among 10,000 devices: \((ContinuousClock.now - start) / 20)")
        let blocked = await management.accounts.devices.values.filter(\.isBlocked).map(\.deviceId)
        #expect(Set(blocked) == Set((0..<20).map { "D\($0)" }))
    }

    // MARK: - The first administrator

    @Test func `makes the first administrator once, and forgets the password's file when it is changed`() async throws {
        let management = try management()
        let first = try #require(try await management.ensureFirstAdmin())
        #expect(first.email == "admin@localhost" && first.password.utf8.count == 16)
        let person = await management.accounts.people["admin@localhost"]
        #expect(person?.mustChangePassword == true && person?.role == .admin)
        try await management.writeFirstAdmin(email: first.email, password: first.password)
        #expect(place.mode("first-admin") == 0o600)
        #expect(
            try String(contentsOfFile: "\(place.path)/first-admin", encoding: .utf8)
                == "\(first.email)\n\(first.password)\n")
        #expect(try await management.ensureFirstAdmin() == nil)

        _ = try await ask(management, #"{"command":"registerUser","email":"b@x"}"#)
        _ = try await ask(management, #"{"command":"setUserPassword","email":"b@x"}"#)
        #expect(place.names.contains("first-admin"))
        _ = try await ask(management, #"{"command":"setUserPassword","email":"admin@localhost","password":"secret"}"#)
        #expect(!place.names.contains("first-admin"))
        #expect(await management.accounts.people["admin@localhost"]?.mustChangePassword == false)
    }
}

/// What was handed on.
private final class Changes: Sendable {
    private let values = Mutex<[Accounts]>([])

    func add(_ accounts: Accounts) { values.withLock { $0.append(accounts) } }
    var last: Accounts? { values.withLock { $0.last } }
    var count: Int { values.withLock { $0.count } }
}
