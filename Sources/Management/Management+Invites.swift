package import Access
internal import Cryptography
internal import JSON
internal import Store

extension Management {
    /// That can be used, or were lately.
    static let mostInvites = 1000
    /// Seconds that one counts: what may be asked for, and what it is without.
    static let inviteSeconds: ClosedRange<Int64> = 60...(90 * 86_400)
    static let usualInviteSeconds: Int64 = 7 * 86_400
    /// Milliseconds that one stays in the list when it has been used, or its time is over.
    private static let inviteMemory: Int64 = 30 * 86_400_000

    func createInvite(
        for email: Email?, role: Accounts.Role, seconds: Int64, _ requester: Requester
    ) throws -> JSONValue? {
        let now = milliseconds()
        if let email, accounts.people[email.text] != nil {
            throw ManagementProblem(.alreadyExists, "there is a user \(email.text) already")
        }
        guard try store.invites(since: now - Self.inviteMemory, page: 1, limit: 1).total < Self.mostInvites else {
            throw ManagementProblem(.tooMany, "there are \(Self.mostInvites) invites; delete some first")
        }
        let code = Secrets.makeCode()
        let invite = InviteRecord(
            id: Secrets.identifier(at: now), role: role, email: email?.text, maker: requester.actor, created: now,
            expires: now + seconds * 1000)
        let detail: [String: JSONValue] = [
            "invite": .string(invite.id), "role": .string(role.rawValue), "email": .optional(invite.email),
        ]
        try store.add(
            invite, digest: Secrets.digest(ofCode: code), forgetting: now - Self.inviteMemory,
            activity(.inviteCreated, by: requester, detail))
        return .object(["invite": json(invite), "code": .string(code)])
    }

    func listInvites(_ request: ManagementCommand.PageRequest) throws -> JSONValue? {
        let page = try store.invites(
            since: milliseconds() - Self.inviteMemory, page: request.page, limit: request.limit)
        return list("invites", page.elements.map(json), request, total: page.total)
    }

    func deleteInvite(_ id: String, _ requester: Requester) throws -> JSONValue? {
        guard try store.delete(invite: id, activity(.inviteDeleted, by: requester, ["invite": .string(id)])) else {
            throw ManagementProblem(.notFound, "there is no invite \(id.prefix(64))")
        }
        return nil
    }

    /// An account that somebody makes for themselves because they were invited. It gets the invite's role, whatever
    /// `registration` says: an invite is an administrator's word, and elsewhere too those who close the registration go on
    /// inviting. Returns its id.
    package func registerAccount(
        _ email: Email, name: String, password: String, invite code: String, from source: SignInThrottle.Source,
        at address: String
    ) async throws(ManagementProblem) -> String {
        // A NUL, for nobody can sign in with a name that has one.
        _ = try proving(Array("\0invite".utf8), from: source, else: Self.invalidInvite) {
            () throws(ManagementProblem) in try saving { try self.invite(code, for: email) }
        }
        try refuseTaken(email)
        let hash = try await hash(password)
        let requester = Requester(actor: email.text, address: address, receivesSecrets: true)
        return try saving {
            // Meanwhile its time may be over, or its maker have lost their rights.
            guard let invite = try invite(code, for: email) else { throw Self.invalidInvite }
            return try addUser(
                email, name: name, passwordHash: hash, role: invite.role, invite: invite.id, requester
            ).id
        }
    }

    static let invalidInvite = ManagementProblem(
        .invalidInvite, "this invite does not count: it is wrong, for somebody else, used, or its time is over")

    /// Nil where it does not count. One that an administrator has made goes with their rights.
    private func invite(_ code: String, for email: Email) throws -> InviteRecord? {
        guard let invite = try store.invite(digest: Secrets.digest(ofCode: code)), invite.used == nil,
            invite.expires > milliseconds(), invite.email ?? email.text == email.text
        else { return nil }
        if invite.maker.hasPrefix("local:") { return invite }  // Somebody at the machine itself.
        guard let maker = accounts.people[invite.maker], maker.role == .admin, !maker.isBlocked else { return nil }
        return invite
    }

    /// Looks at a secret that somebody shows, unless too many were wrong lately; then, and where it is wrong, throws. `name`:
    /// what is counted when it is tried again and again. `source`: nil for somebody who need not guess.
    func proving<Value>(
        _ name: [UInt8], from source: SignInThrottle.Source?, else wrong: ManagementProblem,
        _ look: () throws(ManagementProblem) -> Value?
    ) throws(ManagementProblem) -> Value {
        guard let source, let passwords else {
            guard let value = try look() else { throw wrong }
            return value
        }
        guard passwords.permits(name, from: source) else {
            throw ManagementProblem(.tooManyAttempts, "too many wrong codes lately; try again later")
        }
        do throws(ManagementProblem) {
            let value = try look()
            passwords.note(value == nil ? .wrong : .proven, name, from: source)
            guard let value else { throw wrong }
            return value
        } catch {
            if error != wrong { passwords.note(.busy, name, from: source) }
            throw error
        }
    }

    private func json(_ invite: InviteRecord) -> JSONValue {
        .object([
            "id": .string(invite.id), "_id": .string(invite.id), "role": .string(invite.role.rawValue),
            "email": .optional(invite.email), "createdBy": .string(invite.maker),
            "createdAt": timestamp(invite.created),
            "expiresAt": timestamp(invite.expires), "usedAt": invite.used.map(timestamp) ?? .null,
            "usedBy": .optional(invite.usedBy),
        ])
    }
}
