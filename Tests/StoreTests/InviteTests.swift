import Access
import JSON
import Locks
import Management
import Store
import Testing

/// Passwords are right, and some codes may be wrong.
final class LenientDesk: PasswordDesk {
    private let throttle: Lock<SignInThrottle>

    init(attempts: Int) { throttle = Lock(SignInThrottle(attempts: attempts)) }

    func prove(_ check: PasswordCheck, of name: [UInt8], from source: SignInThrottle.Source) async -> PasswordProof {
        .proven
    }
    func hash(_ password: [UInt8]) async -> PasswordHash? { try? .making(of: password, scheme: .forPeople) }
    func mayRegister(from source: SignInThrottle.Source) -> Bool { true }
    func permits(_ name: [UInt8], from source: SignInThrottle.Source) -> Bool {
        throttle.withLock { $0.permits(name, from: source, at: 1_000) }
    }
    func note(_ proof: PasswordProof, _ name: [UInt8], from source: SignInThrottle.Source) {
        throttle.withLock { throttle in
            switch proof {
            case .proven: throttle.succeeded(name, from: source, at: 1_000)
            case .wrong: _ = throttle.failed(name, from: source, at: 1_000)
            case .busy: throttle.abandoned(name, from: source)
            case .tooOften: break
            }
        }
    }
}

/// A clock that a test sets.
final class SetClock: Sendable {
    private let now = Lock<Int64>(1_700_000_000_000)
    var milliseconds: Int64 { now.withLock { $0 } }
    func advance(days: Int64) { now.withLock { $0 += days * 86_400_000 } }
}

@Suite struct `Invites` {
    let place = TemporaryDirectory()
    let clock = SetClock()
    private let here = SignInThrottle.Source(address: [192, 0, 2, 1])

    private func management(attempts: Int = 10) throws -> Management {
        let directory = try place.open()
        return try Management(
            directory.store(), in: directory, milliseconds: { [clock] in clock.milliseconds },
            passwords: LenientDesk(attempts: attempts))
    }

    private func invite(
        _ management: Management, _ members: [String: JSONValue] = [:], by requester: Requester = .local("test")
    ) async throws -> (id: String, code: String) {
        let answer = try #require(
            try await management.perform(try ManagementCommand("createInvite", members), for: requester))
        return (
            try #require(answer["invite"]?["id"]?.string), try #require(answer["code"]?.string)
        )
    }

    private func register(_ management: Management, _ email: String, _ code: String) async throws(ManagementProblem) {
        _ = try await management.registerAccount(
            try Email(email), name: "", password: "secret", invite: code, from: here, at: "192.0.2.1")
    }

    private func listed(_ management: Management) async throws -> [JSONValue] {
        try #require(
            try await management.perform(.listInvites(.init()), for: .local("test"))?["invites"]?.array)
    }

    private func refused(_ body: () async throws -> Void) async -> ManagementProblem.Code? {
        do { try await body() } catch { return (error as? ManagementProblem)?.code }
        return nil
    }

    @Test func `let one person in, with their role, and say who it was`() async throws {
        let management = try management()
        let (id, code) = try await invite(management, ["role": "admin"])
        #expect(code.utf8.count == 32)
        try await register(management, "ann@x", code)
        #expect(await management.accounts.people["ann@x"]?.role == .admin)
        #expect(await refused { try await register(management, "bob@x", code) } == .invalidInvite)
        #expect(await management.accounts.people["bob@x"] == nil)
        let entry = try #require(try await listed(management).first)
        #expect(entry["id"] == .string(id) && entry["usedBy"] == "ann@x" && entry["createdBy"] == "local:test")
        #expect(entry["usedAt"]?.string?.hasPrefix("2023-11-14T") == true)
        let log = try await management.perform(.listActivity(.init(), .init()), for: .local("test"))?["activity"]?.array
        #expect(log?.map { $0["kind"] } == ["USER_REGISTERED", "INVITE_CREATED"])
        #expect(log?.first?["detail"]?["invite"] == .string(id))
        // Nothing has the code but whoever got it.
        try await management.close()
        let texts = try ["fleet.db", "fleet.db-wal"].compactMap {
            try DataDirectory(place.path).read($0, atMost: 9 << 20)
        }
        #expect(!texts.contains { String(decoding: $0, as: UTF8.self).contains(code) })
    }

    @Test func `count for the address that they name, and until their time is over`() async throws {
        let management = try management()
        let (_, code) = try await invite(management, ["email": "Ann@X", "expiresIn": .integer(86_400)])
        #expect(await refused { try await register(management, "bob@x", code) } == .invalidInvite)
        clock.advance(days: 1)
        #expect(await refused { try await register(management, "ann@x", code) } == .invalidInvite)
        let (_, other) = try await invite(management, ["email": "ann@x"])
        try await register(management, "ann@x", other)
        #expect(await refused { _ = try await invite(management, ["email": "ann@x"]) } == .alreadyExists)
        // Both are forgotten a month later.
        clock.advance(days: 29)
        #expect(try await listed(management).count == 2)
        clock.advance(days: 2)
        #expect(try await listed(management).isEmpty)
    }

    @Test func `end when they are deleted, and with the rights of who made them`() async throws {
        let management = try management()
        for email in ["root@x", "boss@x"] {
            _ = try await management.perform(
                .registerUser(try Email(email), name: "", password: "secret", role: .admin), for: .local("test"))
        }
        var boss = Requester(actor: "boss@x", person: "boss@x", receivesSecrets: true)
        boss.isLimited = false
        let (id, code) = try await invite(management)
        _ = try await management.perform(.deleteInvite(id), for: .local("test"))
        #expect(await refused { try await register(management, "ann@x", code) } == .invalidInvite)
        #expect(await refused { _ = try await management.perform(.deleteInvite(id), for: boss) } == .notFound)
        let (_, theirs) = try await invite(management, by: boss)
        _ = try await management.perform(.setUserRole(try Email("boss@x"), .user), for: .local("test"))
        #expect(await refused { try await register(management, "ann@x", theirs) } == .invalidInvite)
        _ = try await management.perform(.setUserRole(try Email("boss@x"), .admin), for: .local("test"))
        _ = try await management.perform(.blockUser(try Email("boss@x"), isBlocked: true), for: .local("test"))
        #expect(await refused { try await register(management, "ann@x", theirs) } == .invalidInvite)
        _ = try await management.perform(.blockUser(try Email("boss@x"), isBlocked: false), for: .local("test"))
        try await register(management, "ann@x", theirs)
    }

    @Test func `are not guessed, and not used up by an account that can't be made`() async throws {
        let management = try management(attempts: 3)
        let (_, code) = try await invite(management)
        _ = try await management.perform(
            .registerUser(try Email("ann@x"), name: "", password: "secret", role: .user), for: .local("test"))
        #expect(await refused { try await register(management, "ann@x", code) } == .alreadyExists)
        for _ in 0..<3 {
            #expect(await refused { try await register(management, "bob@x", "0000") } == .invalidInvite)
        }
        #expect(await refused { try await register(management, "bob@x", code) } == .tooManyAttempts)
        let elsewhere = SignInThrottle.Source(address: [192, 0, 2, 2])
        _ = try await management.registerAccount(
            try Email("bob@x"), name: "", password: "secret", invite: code, from: elsewhere, at: "192.0.2.2")
    }

    @Test(arguments: [
        (#"{"role":"root"}"#, ManagementProblem.Code.invalidRole), (#"{"email":"x"}"#, .invalidEmail),
        (#"{"expiresIn":59}"#, .invalidRequest), (#"{"expiresIn":7776001}"#, .invalidRequest),
        (#"{"expiresIn":"1"}"#, .invalidRequest), (#"{"days":1}"#, .invalidRequest),
    ])
    func `are asked for properly`(_ members: String, _ code: ManagementProblem.Code) {
        let members = JSONValue(parsing: Array(members.utf8))?.object ?? [:]
        let problem = #expect(throws: ManagementProblem.self) { try ManagementCommand("createInvite", members) }
        #expect(problem?.code == code)
    }

    @Test func `are not too many`() async throws {
        let management = try management()
        for _ in 0..<1_000 { _ = try await invite(management) }
        #expect(await refused { _ = try await invite(management) } == .tooMany)
    }
}
