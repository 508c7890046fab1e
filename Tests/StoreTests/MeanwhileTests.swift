import Access
import JSON
import Locks
import Management
import Store
import Testing

/// Passwords are right, and while one is hashed something happens, once.
private final class SlowDesk: PasswordDesk {
    private let happening = Lock<(@Sendable () async -> Void)?>(nil)

    func whileHashing(_ body: @escaping @Sendable () async -> Void) { happening.withLock { $0 = body } }

    func prove(_ check: PasswordCheck, of name: [UInt8], from source: SignInThrottle.Source) async -> PasswordProof {
        .proven
    }

    func hash(_ password: [UInt8]) async -> PasswordHash? {
        let body = happening.withLock { body in
            defer { body = nil }
            return body
        }
        await body?()
        return try? .making(of: password, scheme: .forPeople)
    }

    func mayRegister(from source: SignInThrottle.Source) -> Bool { true }
    func permits(_ name: [UInt8], from source: SignInThrottle.Source) -> Bool { true }
    func note(_ proof: PasswordProof, _ name: [UInt8], from source: SignInThrottle.Source) {}
}

/// What was so when a request came in need not be so when its turn comes.
@Suite struct `Rights that end meanwhile` {
    private let place = TemporaryDirectory()
    private let desk = SlowDesk()
    private let here = SignInThrottle.Source(address: [192, 0, 2, 1])
    private let local = Requester.local("test")

    private func management() throws -> Management {
        let directory = try place.open()
        return try Management(directory.store(), in: directory, passwords: desk)
    }

    /// Somebody who has logged in.
    private func person(
        _ management: Management, _ email: String, _ role: Accounts.Role
    ) async throws -> (requester: Requester, token: WebToken) {
        try await management.ensureTokenKey()
        _ = try await management.perform(
            .registerUser(try Email(email), name: "", password: "secret", role: role), for: local)
        let text = try await management.logIn(email, "secret", from: here, at: "192.0.2.1")
        let accounts = await management.accounts
        let token = try #require(accounts.token(text))
        return (Requester(try #require(accounts.people[email]), with: token, from: "192.0.2.1"), token)
    }

    private func refused(_ body: () async throws -> Void) async -> ManagementProblem.Code? {
        do { try await body() } catch { return (error as? ManagementProblem)?.code }
        return nil
    }

    @Test func `are asked for again when it comes to the change`() async throws {
        let management = try management()
        let (ann, token) = try await person(management, "ann@x", .admin)
        let (bob, _) = try await person(management, "bob@x", .admin)
        let email = try Email("ann@x")
        _ = try await management.perform(.setUserRole(email, .user), for: bob)
        #expect(await refused { _ = try await management.perform(.setUserRole(email, .admin), for: ann) } == .forbidden)
        #expect(await refused { _ = try await management.importDevices([], for: ann) } == .forbidden)
        _ = try await management.perform(.setUserRole(email, .admin), for: bob)
        _ = try await management.perform(.listUsers(.init()), for: ann)
        try await management.logOut(token, ann)
        #expect(await refused { _ = try await management.perform(.listUsers(.init()), for: ann) } == .notAuthenticated)
        #expect(
            await refused { _ = try await management.perform(.blockUser(email, isBlocked: false), for: ann) }
                == .notAuthenticated)
    }

    @Test func `are asked for again when a password has been hashed`() async throws {
        let management = try management()
        let (ann, _) = try await person(management, "ann@x", .admin)
        let email = try Email("ann@x")
        _ = try await person(management, "bob@x", .admin)
        desk.whileHashing { [local] in _ = try? await management.perform(.setUserRole(email, .user), for: local) }
        let eve = try Email("eve@x")
        #expect(
            await refused {
                _ = try await management.perform(
                    .registerUser(eve, name: "", password: "secret", role: .admin), for: ann)
            } == .forbidden)
        #expect(await management.accounts.people["eve@x"] == nil)
    }

    @Test func `do not let an old password undo that another was set`() async throws {
        let management = try management()
        let (ann, token) = try await person(management, "ann@x", .user)
        let email = try Email("ann@x")
        desk.whileHashing { [local] in
            _ = try? await management.perform(.setUserPassword(email, password: "set by another"), for: local)
        }
        #expect(
            await refused {
                try await management.changePassword("secret", to: "of a thief", token, ann, from: here)
            } == .notAuthenticated)
        let hash = try #require(await management.accounts.people["ann@x"]?.passwordHash)
        #expect(try PasswordHash(parsing: hash.utf8).matches(Array("set by another".utf8)))
    }

    @Test func `take their invites with them`() async throws {
        let management = try management()
        let (ann, _) = try await person(management, "ann@x", .admin)
        _ = try await person(management, "bob@x", .admin)
        let email = try Email("ann@x")
        let invite = try await management.perform(try ManagementCommand("createInvite", ["role": "admin"]), for: ann)
        let code = try #require(invite?["code"]?.string)
        desk.whileHashing { [local] in
            _ = try? await management.perform(.blockUser(email, isBlocked: true), for: local)
        }
        let eve = try Email("eve@x")
        #expect(
            await refused {
                _ = try await management.registerAccount(
                    eve, name: "", password: "secret", invite: code, from: here, at: "192.0.2.1")
            } == .invalidInvite)
        #expect(await management.accounts.people["eve@x"] == nil)
    }

    @Test func `are not kept by a password that stays the same`() async throws {
        let management = try management()
        let (ann, token) = try await person(management, "ann@x", .user)
        #expect(
            await refused { try await management.changePassword("secret", to: "secret", token, ann, from: here) }
                == .invalidPassword)
    }
}
