package import Access
internal import Cryptography
internal import JSON
internal import Store

/// Who may look at a password now, and does: a few at a time, away from everybody else.
package protocol PasswordDesk: Sendable {
    /// `name`: what is counted when it is tried again and again.
    func prove(_ check: PasswordCheck, of name: [UInt8], from source: SignInThrottle.Source) async -> PasswordProof
    /// Nil: too many wait, or there is no memory.
    func hash(_ password: [UInt8]) async -> PasswordHash?
    /// Whether somebody whom nobody has invited may make an account now; if so, this counts as one.
    func mayRegister(from source: SignInThrottle.Source) -> Bool
    /// Whether a code, which whoever asks looks at, may be looked at now. If so, they `note` what came of it: `.busy`
    /// where that was nothing.
    func permits(_ name: [UInt8], from source: SignInThrottle.Source) -> Bool
    func note(_ proof: PasswordProof, _ name: [UInt8], from source: SignInThrottle.Source)
}

/// What came of a password.
package enum PasswordProof: Sendable, Equatable {
    case proven, wrong
    /// Not looked at: too many were wrong lately.
    case tooOften
    /// Not looked at: too many wait.
    case busy
}

/// What of the configuration decides here.
package struct ManagementSettings: Sendable {
    /// Milliseconds of a log-in.
    package var tokenLifetime: Int64 = 24 * 3_600_000
    package var maxDevicesPerUser = 1000
    /// Milliseconds, each.
    package var deviceOfflineAfter: Int64 = 60_000
    package var activityRetention: Int64 = 365 * 86_400_000
    package var healthRetention: Int64 = 30 * 86_400_000
    /// Seconds in which an address of firmware works.
    package var firmwareURLSeconds: Int64 = 3600
    /// Of one model, that are kept; 0: all.
    package var firmwareReleases = 0
    /// Scheme, host and port by which others reach this server; nil: those that they have asked.
    package var baseURL: String?
    /// Where HTTPS is served; nil: nowhere.
    package var httpsPort: UInt16?
    /// The same without TLS.
    package var httpPort: UInt16?

    package init() {}
}

extension Management {
    /// Log-ins of one person at once; past it the oldest end.
    static let logInsOfOne = 50

    /// The answer, and its time, are the same for a name that does not exist and for a wrong password.
    package func logIn(
        _ email: String, _ password: String, from source: SignInThrottle.Source, at address: String
    ) async throws(ManagementProblem) -> String {
        try await prove(email, password, from: source, at: address)
        guard let person = accounts.people[email.lowercased()] else { throw Self.wrongCredentials }
        guard !person.isBlocked else { throw ManagementProblem(.blocked, "this account is blocked") }
        return try saving { try makeToken(for: person, at: address) }
    }

    private static let wrongCredentials = ManagementProblem(
        .invalidCredentials, "e-mail address or password is wrong")

    private func prove(
        _ email: String, _ password: String, from source: SignInThrottle.Source, at address: String
    ) async throws(ManagementProblem) {
        let check = accounts.passwordCheck(of: email, Array(password.utf8))
        let name = Array(email.lowercased().utf8)
        switch await passwords?.prove(check, of: name, from: source) ?? .busy {
        case .proven:
            // Somebody may have changed it meanwhile.
            guard accounts.passwordCheck(of: email, []).principal == check.principal else {
                throw Self.wrongCredentials
            }
        case .wrong:
            let isKnown = accounts.people[email.lowercased()] != nil
            let failed = Activity(
                time: milliseconds(), actor: isKnown ? email.lowercased() : "unknown", address: address,
                kind: .loginFailed)
            try saving { try store.appendCounted(failed) }
            throw Self.wrongCredentials
        case .tooOften:
            throw ManagementProblem(.tooManyAttempts, "too many wrong passwords lately; try again later")
        case .busy: throw ManagementProblem(.busy, "too many log in at this moment; try again")
        }
    }

    private func makeToken(for person: Accounts.Person, at address: String) throws -> String {
        guard let key = accounts.tokenKeys.first else { preconditionFailure("ensureTokenKey() comes first") }
        let now = milliseconds()
        let expires = now / 1000 * 1000 + settings().tokenLifetime
        let record = TokenRecord(
            id: Secrets.identifier(at: now), user: person.id, key: key.id, issued: now, expires: expires)
        let requester = Requester(actor: person.email, address: address, receivesSecrets: true)
        try store.add(record, activity(.login, by: requester))
        // UUIDv7s are in the order of time.
        let theirs = accounts.tokens.values.filter { $0.person == person.id }.map(\.id).sorted()
        let overdue = Set(theirs.dropLast(Self.logInsOfOne - 1))
        for id in overdue { try store.delete(token: id, activity(.logout, by: requester)) }
        adopt { accounts in
            var tokens = accounts.tokens.filter { !overdue.contains($0.key) }
            tokens[record.id] = Accounts.Token(id: record.id, person: person.id, expires: expires)
            accounts.tokens = tokens
        }
        return WebToken(
            id: record.id, subject: person.id, email: person.email, role: person.role, issued: now / 1000,
            expires: expires / 1000
        ).signed(with: key)
    }

    package func logOut(_ token: WebToken, _ requester: Requester) throws(ManagementProblem) {
        try saving { try store.delete(token: token.id, activity(.logout, by: requester)) }
        adopt { $0.tokens[token.id] = nil }
    }

    /// Somebody's own. Their other log-ins end.
    package func changePassword(
        _ current: String, to new: String, _ token: WebToken, _ requester: Requester, from source: SignInThrottle.Source
    ) async throws(ManagementProblem) {
        let password = try Fields.password(new)
        try await prove(token.email, current, from: source, at: requester.address ?? "")
        guard password != current else { throw ManagementProblem(.invalidPassword, "the new password is the old one") }
        let proven = accounts.people[token.email]?.passwordHash
        let hash = try await hash(password)
        _ = try asTheyAreNow(requester)
        // Somebody may have set another meanwhile, to keep out whoever knows this one.
        guard let person = accounts.people[token.email], person.passwordHash == proven else {
            throw Self.wrongCredentials
        }
        try saving {
            try store.setPasswordHash(
                hash, user: person.id, keeping: token.id,
                activity(.passwordChanged, by: requester, ["email": .string(person.email)]))
            adopt {
                $0.people[person.email]?.passwordHash = hash
                $0.people[person.email]?.mustChangePassword = false
                $0.endLogIns(of: person.id, but: token.id)
            }
            try forgetFirstAdmin(person.email)
        }
    }

    /// An account that somebody makes for themselves. `source`: nil for somebody who may make any number. Returns its id.
    package func registerAccount(
        _ email: Email, name: String, password: String, from source: SignInThrottle.Source?, at address: String
    ) async throws(ManagementProblem) -> String {
        if let source, let passwords, !passwords.mayRegister(from: source) {
            throw ManagementProblem(.tooManyAttempts, "too many accounts were made from here lately; try again later")
        }
        try refuseTaken(email)
        let hash = try await hash(password)
        let requester = Requester(actor: email.text, address: address, receivesSecrets: true)
        return try saving {
            try addUser(email, name: name, passwordHash: hash, role: .user, invite: nil, requester).id
        }
    }

    /// Where passwords are looked at, so that nobody waits here for one.
    func hash(_ password: String) async throws(ManagementProblem) -> String {
        guard let passwords else {
            return try saving { try Secrets.hash(password: password) }
        }
        guard let hash = await passwords.hash(Array(password.utf8)) else {
            throw ManagementProblem(.busy, "too many passwords are waiting at this moment; try again")
        }
        return hash.text
    }

    /// Ends the log-ins whose time is over. Returns when to call it again, milliseconds since 1970; nil: nobody is logged in.
    @discardableResult
    package func endOverdueLogIns() throws -> Int64? {
        let now = milliseconds()
        if accounts.tokens.values.contains(where: { $0.expires <= now }) {
            // Whatever the disk says.
            adopt { $0.tokens = $0.tokens.filter { $0.value.expires > now } }
            try store.deleteTokens(until: now)
            try dropIdleKeys()
        }
        return accounts.tokens.values.map(\.expires).min()
    }

    func saving<Value>(_ body: () throws -> Value) throws(ManagementProblem) -> Value {
        do {
            return try body()
        } catch let problem as ManagementProblem {
            throw problem
        } catch {
            throw ManagementProblem(.storageFailed, "nothing was changed: \(error)")
        }
    }
}
