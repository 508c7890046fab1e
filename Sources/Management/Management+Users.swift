internal import Access
internal import HTTP
internal import JSON
internal import Store

extension Management {
    /// Makes the first administrator where there is none, with a password that has to be changed; nil where there is one.
    /// Whoever calls shows it, or calls `writeFirstAdmin`.
    package func ensureFirstAdmin() throws -> (email: String, password: String)? {
        let email = Self.firstAdminEmail
        guard !accounts.people.values.contains(where: { $0.role == .admin }), accounts.people[email] == nil else {
            return nil
        }
        let password = Secrets.makePassword()
        var user = newUser(
            email, name: "", passwordHash: try Secrets.hash(password: password), role: .admin)
        user.mustChangePassword = true
        try store(user, Requester(actor: "local:first start", receivesSecrets: true))
        return (email, password)
    }

    /// For an administrator who was not there to read it: two lines that only this user may read.
    package func writeFirstAdmin(email: String, password: String) throws {
        try directory.write(Array("\(email)\n\(password)\n".utf8), to: Self.firstAdminFile)
    }

    /// Nobody needs it any more.
    func forgetFirstAdmin(_ email: String) throws {
        let bytes = try directory.read(Self.firstAdminFile, atMost: 1024) ?? []
        guard bytes.prefix(while: { $0 != UInt8(ascii: "\n") }).elementsEqual(email.utf8) else { return }
        try directory.remove(Self.firstAdminFile)
    }

    // MARK: - Commands

    func registerUser(
        _ email: Email, name: String, password: String?, role: Accounts.Role, _ requester: Requester
    ) async throws(ManagementProblem) -> JSONValue? {
        try refuseTaken(email)
        let made = password == nil ? Secrets.makePassword() : nil
        let hash = try await hash(password ?? made ?? "")
        try refuseUnlessAdministrator(requester)
        let user = try saving {
            try addUser(email, name: name, passwordHash: hash, role: role, invite: nil, requester)
        }
        var answer: [String: JSONValue] = ["user": json(user)]
        if let made { answer["password"] = .string(made) }
        return .object(answer)
    }

    func refuseTaken(_ email: Email) throws(ManagementProblem) {
        guard accounts.people[email.text] == nil else {
            throw ManagementProblem(.alreadyExists, "there is a user \(email.text) already")
        }
    }

    /// At once: since its password was hashed somebody may have taken the name.
    func addUser(
        _ email: Email, name: String, passwordHash: String, role: Accounts.Role, invite: String?, _ requester: Requester
    ) throws -> UserRecord {
        try refuseTaken(email)
        let user = newUser(email.text, name: name, passwordHash: passwordHash, role: role)
        try store(user, invite: invite, requester)
        return user
    }

    private func newUser(_ email: String, name: String, passwordHash: String, role: Accounts.Role) -> UserRecord {
        let now = milliseconds()
        return UserRecord(
            id: Secrets.identifier(at: now), email: email, name: name, passwordHash: passwordHash, role: role,
            created: now)
    }

    private func store(_ user: UserRecord, invite: String? = nil, _ requester: Requester) throws {
        var detail: [String: JSONValue] = ["email": .string(user.email), "role": .string(user.role.rawValue)]
        if let invite { detail["invite"] = .string(invite) }
        guard try store.add(user, invite: invite, activity(.userRegistered, by: requester, detail)) else {
            throw Self.invalidInvite
        }
        var person = Accounts.Person(id: user.id, email: user.email, passwordHash: user.passwordHash)
        person.role = user.role
        person.mustChangePassword = user.mustChangePassword
        adopt { $0.people[person.email] = person }
    }

    func listUsers(_ request: ManagementCommand.PageRequest) throws -> JSONValue? {
        let page = try store.users(page: request.page, limit: request.limit)
        return list("users", page.elements.map(json), request, total: page.total)
    }

    func blockUser(_ email: Email, _ isBlocked: Bool, _ requester: Requester) throws -> JSONValue? {
        let person = try person(email)
        if isBlocked {
            guard requester.person != person.email else {
                throw ManagementProblem(.ownAccount, "nobody blocks themselves")
            }
            try keepAnAdmin(besides: person, "blocked")
        }
        guard person.isBlocked != isBlocked else { return nil }
        let kind: Activity.Kind = isBlocked ? .userBlocked : .userUnblocked
        try store.setBlocked(
            isBlocked, user: person.id, activity(kind, by: requester, ["email": .string(person.email)]))
        adopt {
            $0.people[person.email]?.isBlocked = isBlocked
            if isBlocked { $0.endLogIns(of: person.id) }
        }
        return nil
    }

    func setUserPassword(
        _ email: Email, _ password: String?, _ requester: Requester
    ) async throws(ManagementProblem) -> JSONValue? {
        _ = try person(email)
        let made = password == nil ? Secrets.makePassword() : nil
        let hash = try await hash(password ?? made ?? "")
        try refuseUnlessAdministrator(requester)
        try saving { try setPasswordHash(hash, of: email, requester) }
        return made.map { .object(["password": .string($0)]) }
    }

    private func setPasswordHash(_ hash: String, of email: Email, _ requester: Requester) throws {
        let person = try person(email)
        try store.setPasswordHash(
            hash, user: person.id, activity(.passwordChanged, by: requester, ["email": .string(person.email)]))
        adopt {
            $0.people[person.email]?.passwordHash = hash
            $0.people[person.email]?.mustChangePassword = false
            $0.endLogIns(of: person.id)
        }
        try forgetFirstAdmin(person.email)
    }

    func setUserRole(_ email: Email, _ role: Accounts.Role, _ requester: Requester) throws -> JSONValue? {
        let person = try person(email)
        guard person.role != role else { return nil }
        if role == .user { try keepAnAdmin(besides: person, "demoted") }
        let detail: [String: JSONValue] = ["email": .string(person.email), "role": .string(role.rawValue)]
        try store.setRole(role, user: person.id, activity(.roleChanged, by: requester, detail))
        adopt { $0.people[person.email]?.role = role }
        return nil
    }

    func deleteUser(_ email: Email, _ requester: Requester) throws -> JSONValue? {
        let person = try person(email)
        try keepAnAdmin(besides: person, "deleted")
        try store.delete(
            user: person.id, activity(.userDeleted, by: requester, ["email": .string(person.email)]))
        adopt {
            $0.people[person.email] = nil
            $0.endLogIns(of: person.id)
        }
        try forgetFirstAdmin(person.email)
        return nil
    }

    // MARK: - Rules

    func person(_ email: Email) throws(ManagementProblem) -> Accounts.Person {
        guard let person = accounts.people[email.text] else {
            throw ManagementProblem(.notFound, "there is no user \(email.text)")
        }
        return person
    }

    /// Somebody stays who can sign in and let the others in again.
    private func keepAnAdmin(besides person: Accounts.Person, _ participle: String) throws(ManagementProblem) {
        guard person.role == .admin, !person.isBlocked else { return }
        let others = accounts.people.values.contains { $0.role == .admin && !$0.isBlocked && $0.id != person.id }
        guard others else { throw ManagementProblem(.lastAdmin, "the last administrator can't be \(participle)") }
    }

    nonisolated func json(_ user: UserRecord) -> JSONValue {
        .object([
            "id": .string(user.id), "_id": .string(user.id), "username": .string(user.name),
            "email": .string(user.email), "name": .string(user.name),
            "role": .string(user.role.rawValue), "blocked": .bool(user.isBlocked),
            "mustChangePassword": .bool(user.mustChangePassword), "createdAt": timestamp(user.created),
        ])
    }

    // MARK: - Answers

    nonisolated func list(
        _ name: String, _ elements: [JSONValue], _ request: ManagementCommand.PageRequest, total: Int
    ) -> JSONValue {
        .object([
            name: .array(elements), "page": .integer(Int64(request.page)), "limit": .integer(Int64(request.limit)),
            "count": .integer(Int64(elements.count)), "total": .integer(Int64(total)),
        ])
    }

    /// RFC 3339, UTC.
    nonisolated func timestamp(_ milliseconds: Int64) -> JSONValue { .string(internetTime(milliseconds)) }
}
