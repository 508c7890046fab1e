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

    /// Where it comes from, as failed sign-ins are counted: an IPv4 address, the first 64 bits of an IPv6 address, or
    /// 0 for a unix socket.
    package struct Address: Hashable, Sendable {
        package let bits: UInt64
        package init(bits: UInt64) { self.bits = bits }
    }

    package var address = Address(bits: 0)

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

/// A password to hold against what is stored, and who it is if they match. Costs up to a tenth of a second of a CPU.
package struct PasswordCheck: Sendable {
    package let principal: Principal

    /// Nil: not the password.
    package func run() -> Principal? { nil }
}
