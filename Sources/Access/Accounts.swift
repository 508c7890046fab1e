internal import MQTT

/// The devices, people and services that may sign in, as the store has them: kept in memory so that nobody waits for a
/// disk to connect.
package struct Accounts: Sendable, Equatable {
    package struct Device: Sendable, Equatable {
        /// Canonical: `[A-Z0-9_-]{1,64}`, not beginning with `ESP32_`.
        package var deviceId: String
        /// Nil: it signs in with a certificate only.
        package var secret: SecretDigest?
        package var isBlocked = false

        package init(deviceId: String, secret: SecretDigest?) {
            self.deviceId = deviceId
            self.secret = secret
        }
    }

    package enum Role: String, Sendable, Codable { case user, admin }

    package struct Person: Sendable, Equatable {
        /// UUIDv7.
        package var id: String
        /// In lower case.
        package var email: String
        /// `$scrypt$...`
        package var passwordHash: String
        package var role = Role.user
        package var isBlocked = false
        /// The password serves only for changing it.
        package var mustChangePassword = false
        /// The deviceIds of their devices: what `%o` stands for.
        package var devices: [String] = []

        package init(id: String, email: String, passwordHash: String) {
            self.id = id
            self.email = email
            self.passwordHash = passwordHash
        }
    }

    package struct Service: Sendable, Equatable {
        package var name: String
        package var secret: SecretDigest
        /// A file of `acl/`, without its ending.
        package var policy = "backend"
        package var isBlocked = false

        package init(name: String, secret: SecretDigest) {
            self.name = name
            self.secret = secret
        }
    }

    /// A log-in that counts.
    package struct Token: Sendable, Equatable {
        /// `jti`.
        package let id: String
        /// By id.
        package let person: String
        /// Milliseconds since 1970; whoever keeps the accounts takes it away then.
        package let expires: Int64
        let credential: Credential

        package init(id: String, person: String, expires: Int64) {
            self.id = id
            self.person = person
            self.expires = expires
            credential = .token(id)
        }
    }

    /// By `jti`.
    package var tokens: [String: Token] = [:] {
        didSet { tokenCredentials = Set(tokens.values.map(\.credential)) }
    }
    /// The same as `Principal` keeps them.
    private(set) var tokenCredentials: Set<Credential> = []
    /// What log-ins are signed with: the first makes new ones.
    package var tokenKeys: [TokenKey] = []
    /// By deviceId.
    package var devices: [String: Device] = [:]
    /// By e-mail.
    package var people: [String: Person] = [:]
    /// By name.
    package var services: [String: Service] = [:]
    /// Serial numbers of certificates that no longer count.
    package var revokedCertificates: Set<String> = [] {
        didSet { revokedCredentials = Set(revokedCertificates.map(Credential.certificate(serial:))) }
    }
    /// The same as `Principal` keeps them.
    private(set) var revokedCredentials: Set<Credential> = []

    package init() {}
}

extension Accounts {
    /// A log-in that has been signed here and not been called back since. Whether its time is over whoever keeps the accounts
    /// knows: then it is none of `tokens` any more.
    package func token(_ text: some StringProtocol) -> WebToken? {
        guard let token = try? WebToken(verifying: text, with: tokenKeys), counts(token) else { return nil }
        return token
    }

    /// The same of one whose signature was looked at before.
    package func counts(_ token: WebToken) -> Bool { tokens[token.id]?.person == token.subject }

    /// What somebody has to prove who logs in, in any case: the same work for a name that does not exist.
    package func passwordCheck(of email: String, _ password: [UInt8]) -> PasswordCheck {
        let name = Array(email.lowercased().utf8)
        guard let person = people[email.lowercased()],
            let hash = try? PasswordHash(parsing: person.passwordHash.utf8)
        else {
            let nobody = Principal(.user(name), userName: name, listener: 0, proof: .none)
            return PasswordCheck(
                password, against: .nobody, of: nobody, refusal: .badUserNameOrPassword, isDecoy: true)
        }
        let principal = Principal(.person(person.id), userName: name, listener: 0, proof: .hash(hash))
        return PasswordCheck(password, against: hash, of: principal, refusal: .badUserNameOrPassword)
    }
}

extension Accounts {
    /// Somebody's log-ins count no more, but for one.
    package mutating func endLogIns(of person: String, but kept: String? = nil) {
        guard tokens.values.contains(where: { $0.person == person && $0.id != kept }) else { return }
        tokens = tokens.filter { $0.value.person != person || $0.key == kept }
    }
}
