package import Access

/// Somebody with a Client Identifier: whose a session is, and who has published what is retained. Shared by all that
/// refer to it, and never changed.
package final class Participant: Sendable {
    package let principal: Principal
    package let client: ClientIdentifier

    package init(_ principal: Principal, client: ClientIdentifier) {
        self.principal = principal
        self.client = client
    }
}

/// What a connection shows beside its packets.
package final class ConnectionProof: Sendable {
    /// The other end, as failed sign-ins are counted.
    package let source: SignInThrottle.Source
    package let certificate: ClientCertificate?
    package let keyIdentity: [UInt8]?

    package init(
        source: SignInThrottle.Source, certificate: ClientCertificate? = nil, keyIdentity: [UInt8]? = nil
    ) {
        self.source = source
        self.certificate = certificate
        self.keyIdentity = keyIdentity
    }
}
