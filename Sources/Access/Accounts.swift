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
