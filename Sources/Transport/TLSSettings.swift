/// What a TLS context is made from. Files are read when it is made.
package struct TLSSettings: Sendable {
    package enum Version: Sendable, CaseIterable { case tls11, tls12, tls13 }

    /// What becomes of client certificates.
    package enum ClientCertificates: UInt8, Sendable {
        /// Nobody is asked for one.
        case none
        /// Everybody is asked; who shows none may come, who shows a bad one may not.
        case optional
        /// Nobody comes without one.
        case required
    }

    /// The key that an identity stands for, 1 to 256 bytes; nil where nobody has that name. From any thread.
    package typealias PreSharedKeys = @Sendable (_ identity: [UInt8]) -> [UInt8]?

    /// The server's certificate and what links it to its authority, PEM. Nil: pre-shared keys only.
    package var certificateFile: String?
    /// Its private key, PEM.
    package var keyFile: String?
    /// The authorities whose client certificates count: a file, PEM, and a directory hashed by `openssl rehash`.
    package var authorityFile: String?
    package var authorityDirectory: String?
    /// Revoked client certificates, PEM. With it, a client certificate without a list of its authority is refused.
    package var revocationFile: String?
    package var clientCertificates = ClientCertificates.none
    /// Client certificates and revocation lists count whatever their dates.
    package var ignoresCertificateDates = false
    package var oldestVersion = Version.tls12
    /// OpenSSL's list for TLS 1.2. Nil: OpenSSL's own, without what is weak.
    package var ciphers: String?
    /// OpenSSL's list for TLS 1.3.
    package var cipherSuites: String?
    /// Parameters for Diffie-Hellman, PEM. Nil: OpenSSL chooses.
    package var parameterFile: String?
    /// Shown to clients with pre-shared keys before they name theirs.
    package var keyHint: String?
    package var keys: PreSharedKeys?

    package init() {}
}
