package import Access

/// Somebody with a Client Identifier: whose a session is, and who has published what is retained. Shared by all that
/// refer to it, and never changed.
package final class Participant: Sendable {
    package let principal: Principal
    package let client: ClientIdentifier

    init(_ principal: Principal, client: ClientIdentifier) {
        self.principal = principal
        self.client = client
    }
}

/// What a connection shows beside its packets.
package final class ConnectionProof: Sendable {
    /// Of the other end, as something to count failed sign-ins by.
    package let address: SignIn.Address
    package let certificate: ClientCertificate?
    package let keyIdentity: [UInt8]?

    package init(
        address: SignIn.Address, certificate: ClientCertificate? = nil, keyIdentity: [UInt8]? = nil
    ) {
        self.address = address
        self.certificate = certificate
        self.keyIdentity = keyIdentity
    }
}
