/// Who may connect and what they may do: everything that is in force at one moment. A value; the server replaces it as
/// a whole when a file or an account changes.
package struct AccessControl: Sendable {
    /// What the configuration says about one listener.
    package struct Listener: Sendable {
        /// A CONNECT without a user name is accepted.
        package var allowsAnonymous = true
        /// The users of its `password_file`. Nil: it has none.
        package var passwordFile: PasswordFile?
        /// `use_identity_as_username`: who it is stands in the certificate's CN, or is the identity of the pre-shared key.
        package var usesCertificateName = false
        /// `use_subject_as_username`: the same with the certificate's whole subject.
        package var usesCertificateSubject = false
        /// `require_certificate`: nobody without one gets as far as a CONNECT.
        package var requiresCertificate = false
        /// The keys of its `psk_file`. Nil: it has none.
        package var keys: PreSharedKeys?
        /// Devices, people and services may sign in here.
        package var admitsAccounts = false
        /// It comes from a configuration file, and does as Mosquitto where both have an answer: a user name that needs no
        /// proof is taken at its word where anonymous clients are accepted and there is no `password_file`, and who is
        /// refused is "not authorized" (5). Else such a name is refused, and a wrong password is "bad user name or
        /// password" (4).
        package var followsMosquitto = true
        /// Its `acl_file`, for those who are anonymous or a name of a password file. Nil: they may do everything but
        /// manage.
        package var policy: Policy?

        package init() {}
    }

    /// By number.
    package var listeners: [Listener]
    /// Devices, people, services. Empty without a `data_dir`.
    package var accounts = Accounts()
    /// Policies for services beside the shipped ones, by name, in the dialect `.martlet`; one with the name of a shipped
    /// policy replaces it for services.
    package var policies: [String: Policy] = [:]

    package init(listeners: [Listener]) { self.listeners = listeners }

    /// Whether there is such an account at all, blocked or not; anybody else there always is.
    package func knows(_ identity: Identity) -> Bool {
        switch identity {
        case .anonymous, .user: true
        case .device(let deviceId): accounts.devices[deviceId] != nil
        case .person(let id): accounts.people.values.contains { $0.id == id }
        case .service(let name): accounts.services[name] != nil
        }
    }
}
