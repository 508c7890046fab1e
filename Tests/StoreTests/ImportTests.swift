import Access
import Cryptography
import JSON
import Management
import Store
import Testing

@Suite struct `Imported devices` {
    let place = TemporaryDirectory()
    let clock = SetClock()
    private let admin = Requester.local("test")
    private let code = "0123456789abcdef0123456789abcdef"

    private func management(attempts: Int = 10) throws -> Management {
        let directory = try place.open()
        return try Management(
            directory.store(), in: directory, milliseconds: { [clock] in clock.milliseconds },
            passwords: LenientDesk(attempts: attempts))
    }

    private func device(_ line: Int, _ deviceId: String, _ change: (inout ImportedDevice) -> Void = { _ in })
        -> ImportedDevice
    {
        var device = ImportedDevice(line: line, deviceId: deviceId)
        change(&device)
        return device
    }

    /// Somebody with an account, as they ask over HTTP.
    private func person(_ management: Management, _ email: String) async throws -> Requester {
        _ = try await management.perform(
            .registerUser(try Email(email), name: "", password: "secret", role: .user), for: admin)
        let person = try #require(await management.accounts.people[email])
        var requester = Requester(person, with: nil, from: "192.0.2.1")
        requester.source = SignInThrottle.Source(address: [192, 0, 2, 1])
        return requester
    }

    private func claim(
        _ management: Management, _ deviceId: String, _ code: String?, _ requester: Requester
    ) async throws(ManagementProblem) -> JSONValue? {
        try await management.perform(
            try ManagementCommand(
                "registerDevice",
                ["deviceId": .string(deviceId), "name": "mine", "claimCode": code.map { .string($0) } ?? .null]),
            for: requester)
    }

    private func refused(_ body: () async throws -> Void) async -> ManagementProblem.Code? {
        do { try await body() } catch { return (error as? ManagementProblem)?.code }
        return nil
    }

    @Test func `are made, or not, one by one, and each is told of`() async throws {
        let management = try management()
        _ = try await person(management, "ann@x")
        _ = try await management.perform(.addService(try ServiceName("node"), policy: "backend"), for: admin)
        let reports = try await management.importDevices(
            [
                device(2, "a1") { $0.name = "Lamp" }, device(3, "A2") { $0.claimCode = code },
                device(4, "a3") {
                    $0.owner = "Ann@X"
                    ($0.model, $0.macAddress, $0.tags) = ("m", "0c5d32dd2568", ["b", "a", "b"])
                },
                device(5, "A1"), device(6, "a b"), device(7, "A4") { $0.claimCode = "short" },
                device(8, "A5") { $0.owner = "who@x" }, device(9, "node"), device(10, "A6") { $0.model = ".m" },
                device(11, "A7") { ($0.owner, $0.claimCode) = ("ann@x", code) }, device(12, "A8") { $0.tags = [""] },
            ], for: admin)
        let values = reports.map(\.value)
        #expect(values.map { $0["line"]?.integer } == (2...12).map { $0 })
        #expect(values.prefix(4).map { $0["result"] } == ["imported", "imported", "imported", "exists"])
        #expect(values.dropFirst(4).allSatisfy { $0["result"] == "error" && $0["detail"]?.string?.isEmpty == false })
        #expect(
            values.dropFirst(4).map { $0["code"] } == [
                "invalid_device_id", "invalid_request", "not_found", "already_exists", "invalid_model",
                "invalid_request", "invalid_tag",
            ])
        // A code is told where it was made here, and where it is needed.
        #expect(values[0]["claimCode"]?.string?.utf8.count == 32)
        #expect(values[1]["claimCode"] == nil && values[2]["claimCode"] == nil)
        #expect(values.prefix(3).allSatisfy { $0["credentials"]?["password"]?.string?.utf8.count == 43 })

        let accounts = await management.accounts
        #expect(accounts.devices.keys.sorted() == ["A1", "A2", "A3"])
        #expect(accounts.people["ann@x"]?.devices == ["A3"])
        let secret = try #require(values[0]["credentials"]?["password"]?.string)
        #expect(accounts.devices["A1"]?.secret?.matches(Array(secret.utf8)) == true)
        let stored = try #require(try await management.perform(.getDevice(try DeviceId("A3")), for: admin)?["device"])
        #expect(
            stored["macAddress"] == "0C:5D:32:DD:25:68" && stored["tags"] == ["b", "a"] && stored["owner"] == "ann@x")
        let log = try await management.perform(.listActivity(.init(), .init()), for: admin)?["activity"]?.array
        #expect(log?.first?["kind"] == "DEVICES_IMPORTED", "one entry, not one each")
        #expect(log?.first?["detail"] == ["count": 3, "first": "A1", "last": "A3"])
        // What is in memory is what is on the disk.
        try await management.close()
        #expect(try place.open().store().accounts() == accounts)
    }

    @Test func `become somebody's by their code, once, and get another secret`() async throws {
        let management = try management()
        let (ann, bob) = (try await person(management, "ann@x"), try await person(management, "bob@x"))
        let reports = try await management.importDevices(
            [
                device(1, "A1") {
                    $0.claimCode = code
                    ($0.model, $0.tags) = ("m", ["t"])
                }
            ], for: admin)
        let old = try #require(reports[0].value["credentials"]?["password"]?.string)
        #expect(await refused { _ = try await claim(management, "a1", nil, ann) } == .claimCodeRequired)
        #expect(await refused { _ = try await claim(management, "a1", code.uppercased(), ann) } == .wrongClaimCode)
        #expect(await refused { _ = try await claim(management, "a2", code, ann) } == .wrongClaimCode)
        #expect(await refused { _ = try await claim(management, "A1", code, admin) } == .invalidRequest, "for whom?")
        let answer = try #require(try await claim(management, "a1", code, ann))
        #expect(answer["device"]?["name"] == "mine" && answer["device"]?["owner"] == "ann@x")
        #expect(answer["device"]?["model"] == "m" && answer["device"]?["tags"] == ["t"], "what is not said stays")
        let new = try #require(answer["credentials"]?["password"]?.string)
        let accounts = await management.accounts
        #expect(accounts.devices["A1"]?.secret?.matches(Array(new.utf8)) == true)
        #expect(accounts.devices["A1"]?.secret?.matches(Array(old.utf8)) == false)
        #expect(accounts.people["ann@x"]?.devices == ["A1"])
        for requester in [ann, bob] {
            #expect(await refused { _ = try await claim(management, "a1", code, requester) } == .alreadyExists)
            #expect(await refused { _ = try await claim(management, "a1", nil, requester) } == .alreadyExists)
        }
        let log = try await management.perform(.listActivity(.init(), .init()), for: admin)?["activity"]?.array
        #expect(log?.first?["kind"] == "DEVICE_REGISTERED" && log?.first?["deviceId"] == "A1")
        #expect(log?.first?["detail"] == ["claimed": true, "owner": "ann@x"])
        try await management.close()
        #expect(try place.open().store().accounts() == accounts)
        #expect(try place.open().store().claim(of: "A1") == nil)
    }

    @Test func `are not claimed by guessing, device by device and address by address`() async throws {
        let management = try management(attempts: 3)
        let ann = try await person(management, "ann@x")
        _ = try await management.importDevices(
            ["A1", "A2"].map { name in device(1, name) { $0.claimCode = code } }, for: admin)
        for _ in 0..<3 {
            #expect(await refused { _ = try await claim(management, "A1", "no", ann) } == .wrongClaimCode)
        }
        #expect(await refused { _ = try await claim(management, "A1", code, ann) } == .tooManyAttempts)
        _ = try await claim(management, "A2", code, ann)
        var elsewhere = ann
        elsewhere.source = SignInThrottle.Source(address: [192, 0, 2, 2])
        _ = try await claim(management, "A1", code, elsewhere)
    }

    @Test func `are as many as somebody may have, and go with their code when they are deleted`() async throws {
        let directory = try place.open()
        let management = try Management(
            directory.store(), in: directory, passwords: LenientDesk(attempts: 10),
            settings: {
                var settings = ManagementSettings()
                settings.maxDevicesPerUser = 1
                return settings
            })
        let ann = try await person(management, "ann@x")
        _ = try await management.importDevices(
            ["A1", "A2"].map { name in device(1, name) { $0.claimCode = code } }, for: admin)
        _ = try await claim(management, "A1", code, ann)
        let stale = await management.accounts.people["ann@x"]
        #expect(stale?.devices == ["A1"])
        #expect(await refused { _ = try await claim(management, "A2", code, ann) } == .tooMany)
        _ = try await management.perform(.deleteDevice(try DeviceId("A2")), for: admin)
        _ = try await management.importDevices([device(1, "A2")], for: admin)
        _ = try await management.perform(.deleteDevice(try DeviceId("A1")), for: ann)
        #expect(await refused { _ = try await claim(management, "A2", code, ann) } == .wrongClaimCode)
    }

    @Test func `are for administrators, a batch at a time, and by command as well`() async throws {
        let management = try management()
        let ann = try await person(management, "ann@x")
        #expect(await refused { _ = try await management.importDevices([device(1, "A")], for: ann) } == .forbidden)
        let publisher = Requester(actor: "mqtt", receivesSecrets: false)
        #expect(
            await refused { _ = try await management.importDevices([device(1, "A")], for: publisher) } == .forbidden)
        let many = (0...200).map { device($0, "A\($0)") }
        #expect(await refused { _ = try await management.importDevices(many, for: admin) } == .invalidRequest)
        #expect(await management.accounts.devices.isEmpty)
        let request =
            #"{"commands":[{"command":"importDevices","devices":[{"deviceId":"a"},{"deviceId":"b","line":7}]}]}"#
        let answer = JSONValue(parsing: await management.respond(to: Array(request.utf8), from: admin))
        let reports = answer?["responses"]?.array?.first?["data"]?["reports"]?.array
        #expect(reports?.map { $0["line"] } == [1, 7])
        #expect(await management.accounts.devices.count == 2)
        for bad in [
            "{}", #"{"devices":[]}"#, #"{"devices":[1]}"#, #"{"devices":[{}]}"#,
            #"{"devices":[{"deviceId":"a","x":1}]}"#,
        ] {
            let members = JSONValue(parsing: Array(bad.utf8))?.object ?? [:]
            #expect(throws: ManagementProblem.self) { try ManagementCommand("importDevices", members) }
        }
    }

    @Test(arguments: [
        ("a", "'a' is none"), ("name", "'deviceId' is missing"), ("deviceId,deviceId", "two columns"),
        ("deviceID", "is none"), ("deviceId,", "'' is none"),
    ])
    func `have columns that are known`(_ header: String, _ reason: String) throws {
        var reader = CSVReader()
        reader.push(Array(header.utf8))
        let record = try #require(try reader.record() ?? reader.last())
        let problem = #expect(throws: ManagementProblem.self) { try ImportColumns(record) }
        #expect(problem?.code == .invalidRequest && problem?.message.contains(reason) == true)
    }
}

@Suite struct `Keys that log-ins are signed with` {
    let place = TemporaryDirectory()
    let clock = SetClock()
    private let source = SignInThrottle.Source(address: [192, 0, 2, 1])

    private func management() async throws -> Management {
        let directory = try place.open()
        let management = try Management(
            directory.store(), in: directory, milliseconds: { [clock] in clock.milliseconds },
            passwords: LenientDesk(attempts: 10))
        try await management.ensureTokenKey()
        return management
    }

    private func logIn(_ management: Management) async throws -> String {
        try await management.logIn("ann@x", "secret", from: source, at: "192.0.2.1")
    }

    private func keys(_ management: Management) async throws -> [JSONValue] {
        try #require(try await management.perform(.listKeys(.init()), for: .local("test"))?["keys"]?.array)
    }

    @Test func `stay while a log-in counts that they have signed`() async throws {
        var management = try await management()
        _ = try await management.perform(
            .registerUser(try Email("ann@x"), name: "", password: "secret", role: .user), for: .local("test"))
        let first = try await logIn(management)
        clock.advance(days: 0)
        _ = try await management.perform(.rotateKey, for: .local("test"))
        let second = try await logIn(management)
        // The one between has signed nothing.
        _ = try await management.perform(.rotateKey, for: .local("test"))
        _ = try await management.perform(.rotateKey, for: .local("test"))
        #expect(try await keys(management).count == 3)
        #expect(await management.accounts.token(first) != nil)
        #expect(await management.accounts.token(second) != nil)
        let listed = try await keys(management)
        #expect(listed.map { $0["inUse"] } == [true, false, false])
        #expect(await management.accounts.tokenKeys.map(\.id) == listed.compactMap { $0["id"]?.string })
        for key in listed {
            #expect(Set(key.object?.keys.map { $0 } ?? []) == ["id", "_id", "purpose", "createdAt", "inUse"])
        }
        // Over a restart too.
        let accounts = await management.accounts
        try await management.close()
        management = try await self.management()
        #expect(await management.accounts == accounts)
        #expect(await management.accounts.token(first) != nil)

        clock.advance(days: 2)
        try await management.endOverdueLogIns()
        #expect(try await keys(management).count == 1)
        #expect(await management.accounts.token(first) == nil)
        let third = try await logIn(management)
        #expect(await management.accounts.token(third) != nil)
        let log = try await management.perform(
            try ManagementCommand("listActivity", ["kind": "KEY_ROTATED"]), for: .local("test"))
        #expect(log?["total"] == 3)
    }

    @Test func `are not too many`() async throws {
        let management = try await management()
        _ = try await management.perform(
            .registerUser(try Email("ann@x"), name: "", password: "secret", role: .user), for: .local("test"))
        var texts = [try await logIn(management)]
        for _ in 0..<15 {
            _ = try await management.perform(.rotateKey, for: .local("test"))
            texts.append(try await logIn(management))
        }
        var code: ManagementProblem.Code?
        do { _ = try await management.perform(.rotateKey, for: .local("test")) } catch { code = error.code }
        #expect(code == .tooMany)
        for text in texts { #expect(await management.accounts.token(text) != nil) }
    }
}
