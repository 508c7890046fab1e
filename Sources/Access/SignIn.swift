internal import Cryptography
package import MQTT

/// All that a client shows of itself when it connects.
package struct SignIn: Sendable {
    package var userName: [UInt8]?
    package var password: [UInt8]?
    /// The certificate that it has proved to own, and that an authority of the listener vouches for.
    package var certificate: ClientCertificate?
    /// The name of the pre-shared key that it has used.
    package var keyIdentity: [UInt8]?
    /// The listener it came through, by number.
    package var listener: Int

    package init(listener: Int) { self.listener = listener }
}

/// What counts of a client's certificate.
package struct ClientCertificate: Hashable, Sendable {
    /// The subject's only CN, UTF-8. Nil: it has none, several, or one with a NUL.
    package var commonName: [UInt8]?
    /// The whole subject as RFC 2253 writes it.
    package var subject: [UInt8]
    /// Upper-case hexadecimal, without leading zeros.
    package var serial: String
    /// SHA-256 of the whole certificate.
    package var fingerprint: [UInt8]
    /// Its extended key usage names clientAuth.
    package var isForClients: Bool

    package init(
        commonName: [UInt8]?, subject: [UInt8], serial: String, fingerprint: [UInt8], isForClients: Bool
    ) {
        self.commonName = commonName
        self.subject = subject
        self.serial = serial
        self.fingerprint = fingerprint
        self.isForClients = isForClients
    }
}

/// What comes of a sign-in.
package enum Admission: Sendable {
    case accepted(Principal)
    case refused(ConnectReturnCode)
    /// It depends on a password whose check takes long: to be done away from the connections.
    case unproven(PasswordCheck)
}

/// A password to hold against what is stored, and who it is if they match. Costs up to a second of a CPU. What comes
/// of it goes to `AccessControl.admission(after:proven:)`, for rights may have changed meanwhile.
package struct PasswordCheck: Sendable {
    package let principal: Principal
    /// The answer if it is not the password.
    package let refusal: ConnectReturnCode
    private let hash: PasswordHash
    private let password: [UInt8]
    /// There is nobody of that name; only the time is the same.
    private let isDecoy: Bool

    init(
        _ password: [UInt8], against hash: PasswordHash, of principal: Principal, refusal: ConnectReturnCode,
        isDecoy: Bool = false
    ) {
        self.principal = principal
        self.refusal = refusal
        self.hash = hash
        self.password = password
        self.isDecoy = isDecoy
    }

    /// Nil: not the password, or no memory to find out.
    package func run() -> Principal? {
        do throws(CryptographyError) {
            return try hash.matches(password) && !isDecoy ? principal : nil
        } catch {
            return nil
        }
    }

    /// About how long `run` takes, in microseconds.
    package var costMicroseconds: Int { hash.costMicroseconds }
    /// What waits in memory for its turn.
    package var bytes: Int { password.count }
    /// What it costs, whoever it is for: the same for a name that does not exist.
    var scheme: PasswordHash.Scheme { hash.scheme }
}
