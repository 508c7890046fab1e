internal import MQTT

/// Who may connect and what they may do: everything that is in force at one moment. A value; the server replaces it as
/// a whole when a file or an account changes.
package struct AccessControl: Sendable {
    /// What the configuration says about one listener.
    package struct Listener: Sendable {
        /// A CONNECT without a user name is accepted.
        package var allowsAnonymous = true

        package init() {}
    }

    /// By number.
    package var listeners: [Listener]
    /// Devices, people, services. Empty without a `data_dir`.
    package var accounts = Accounts()

    package init(listeners: [Listener]) { self.listeners = listeners }

    /// Whether a client may connect, and as whom.
    package func admission(of signIn: SignIn) -> Admission {
        guard listeners[signIn.listener].allowsAnonymous else { return .refused(.notAuthorized) }
        return .accepted(.anonymous(listener: signIn.listener))
    }

    /// Whether somebody who has signed in would still be let in with the same proof.
    package func isCurrent(_ principal: Principal) -> Bool { true }

    /// Whether there is such an account at all, blocked or not; anybody else there always is.
    package func knows(_ identity: Identity) -> Bool {
        switch identity {
        case .anonymous, .user: true
        case .device(let deviceId): accounts.devices[deviceId] != nil
        case .person(let id): accounts.people.values.contains { $0.id == id }
        case .service(let name): accounts.services[name] != nil
        }
    }

    /// What somebody who has signed in may do now; nil when they may no longer be connected at all.
    package func rights(of principal: Principal, client: [UInt8]) -> Rights? { .everything }
}
