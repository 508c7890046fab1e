internal import COpenSSL

/// A certificate that may sign others, and its key.
package struct CertificateAuthority: ~Copyable {
    package let certificate: Certificate
    let key: PrivateKey

    /// How long what it signs counts, in days. `docs/certificates.md` says why.
    package enum Lifetime {
        package static let authority = 20 * 365 + 5
        /// Apple's systems refuse servers whose certificates last longer than 825; the backdating counts too.
        package static let server = 824
        package static let device = 3652
        package static let revocationList = 365
    }

    /// How far back everything begins to count, seconds: clocks differ.
    private static let backdating: Int64 = 3600

    /// What a certificate is for.
    private enum Purpose {
        case server([ServerName])
        case client
    }

    /// Throws where the key is not the certificate's, or the certificate may not sign others.
    package init(certificate: Certificate, key: consuming PrivateKey) throws(CertificateError) {
        guard certificate.isAuthority else { throw .refused("the certificate is not an authority's") }
        guard try key.belongs(to: certificate) else { throw .refused("the key is not the certificate's") }
        self.certificate = certificate
        self.key = key
    }

    /// Makes an authority that signs itself, and no authorities below it. `commonName` nil: one that tells it from other
    /// Martlets' authorities.
    package static func make(
        commonName: String? = nil, key: consuming PrivateKey, now: UnixTime
    ) throws(CertificateError) -> CertificateAuthority {
        let serial = SerialNumber.random()
        let draft = try Draft(
            serial: serial, commonName: commonName ?? "Martlet CA \(serial.description.prefix(8))",
            from: UnixTime(seconds: now.seconds - backdating), until: now.adding(days: Lifetime.authority))
        try unsafe draft.setIssuer(unsafe X509_get_subject_name(draft.object.pointer))
        try draft.setKey(key.key)
        try draft.add(NID_basic_constraints, "critical,CA:TRUE,pathlen:0", issuer: draft.object)
        try draft.add(NID_key_usage, "critical,keyCertSign,cRLSign", issuer: draft.object)
        try draft.add(NID_subject_key_identifier, "hash", issuer: draft.object)
        let certificate = try draft.signed(by: key)
        return try CertificateAuthority(certificate: certificate, key: key)
    }

    /// A certificate for a server that is called by these names, of which there is at least one; the first is its CN too,
    /// where it fits.
    package func issueServer(
        names: [ServerName], key: borrowing PrivateKey, days: Int = Lifetime.server, now: UnixTime
    ) throws(CertificateError) -> Certificate {
        guard let first = names.first else { throw .refused("a server's certificate needs a name") }
        let name = first.description
        try requireSound(key.key)
        return try issue(name.count <= 64 ? name : "server", .server(names), key.key, days, now)
    }

    /// A certificate for a client of this name.
    package func issueClient(
        commonName: String, key: borrowing PrivateKey, days: Int = Lifetime.device, now: UnixTime
    ) throws(CertificateError) -> Certificate {
        try requireSound(key.key)
        return try issue(commonName, .client, key.key, days, now)
    }

    /// A certificate for a client that keeps its key to itself. Only the public key is taken from the request: neither
    /// what it wants to be called nor what it wants to be for.
    package func issueClient(
        commonName: String, request: borrowing CertificateRequest, days: Int = Lifetime.device, now: UnixTime
    ) throws(CertificateError) -> Certificate {
        try issue(commonName, .client, try request.publicKey(), days, now)
    }

    private func issue(
        _ commonName: String, _ purpose: Purpose, _ publicKey: borrowing Owned, _ days: Int, _ now: UnixTime
    ) throws(CertificateError) -> Certificate {
        guard (1...36_525).contains(days) else { throw .refused("a certificate lasts 1 to 36525 days") }
        guard now < certificate.notAfter else { throw .refused("the authority has expired at \(certificate.notAfter)") }
        let draft = try Draft(
            serial: .random(), commonName: commonName,
            from: UnixTime(seconds: now.seconds - Self.backdating),
            until: min(now.adding(days: days), certificate.notAfter))
        let authority = try certificate.object()
        try unsafe draft.setIssuer(unsafe X509_get_subject_name(authority.pointer))
        try draft.setKey(publicKey)
        try draft.add(NID_basic_constraints, "critical,CA:FALSE", issuer: authority)
        let isRSA = unsafe EVP_PKEY_get_base_id(publicKey.pointer) == EVP_PKEY_RSA
        switch purpose {
        case .server(let names):
            // Without keyEncipherment an RSA key would be of no use to TLS 1.2's oldest cipher suites.
            try draft.add(
                NID_key_usage, "critical,digitalSignature" + (isRSA ? ",keyEncipherment" : ""), issuer: authority)
            try draft.add(NID_ext_key_usage, "serverAuth", issuer: authority)
            try draft.add(
                NID_subject_alt_name, names.map(\.extensionText).joined(separator: ","), issuer: authority)
        case .client:
            try draft.add(NID_key_usage, "critical,digitalSignature", issuer: authority)
            try draft.add(NID_ext_key_usage, "clientAuth", issuer: authority)
        }
        try draft.add(NID_subject_key_identifier, "hash", issuer: authority)
        try draft.add(NID_authority_key_identifier, "keyid,issuer", issuer: authority)
        return try draft.signed(by: key)
    }
}

/// A certificate that nobody has signed yet.
private struct Draft: ~Copyable {
    let object: Owned

    /// The corresponding C functions are `X509_set_version`, `X509_set_serialNumber`, `X509_set_subject_name`,
    /// `X509_set1_notBefore` and `X509_set1_notAfter`.
    init(
        serial: SerialNumber, commonName: String, from: UnixTime, until: UnixTime
    ) throws(CertificateError) {
        let object = try unsafe Owned(X509_new(), from: "X509_new", free: X509_free)
        try require(unsafe X509_set_version(object.pointer, 2), "X509_set_version")
        let pointer = unsafe object.pointer
        try unsafe serial.withASN1 { number throws(CertificateError) in
            try require(unsafe X509_set_serialNumber(pointer, number), "X509_set_serialNumber")
        }
        let name = try distinguishedName(commonName: commonName)
        try require(unsafe X509_set_subject_name(object.pointer, name.pointer), "X509_set_subject_name")
        try unsafe from.withASN1 { time throws(CertificateError) in
            try require(unsafe X509_set1_notBefore(pointer, time), "X509_set1_notBefore")
        }
        try unsafe until.withASN1 { time throws(CertificateError) in
            try require(unsafe X509_set1_notAfter(pointer, time), "X509_set1_notAfter")
        }
        self.object = object
    }

    /// The corresponding C function is `X509_set_issuer_name`.
    func setIssuer(_ name: OpaquePointer?) throws(CertificateError) {
        try require(unsafe X509_set_issuer_name(object.pointer, name), "X509_set_issuer_name")
    }

    /// The corresponding C function is `X509_set_pubkey`.
    func setKey(_ key: borrowing Owned) throws(CertificateError) {
        try require(unsafe X509_set_pubkey(object.pointer, key.pointer), "X509_set_pubkey")
    }

    /// Adds an extension, its value as in OpenSSL's configuration. The corresponding C functions are
    /// `X509V3_EXT_conf_nid` and `X509_add_ext`.
    func add(_ identifier: CInt, _ value: String, issuer: borrowing Owned) throws(CertificateError) {
        var context = unsafe X509V3_CTX()
        unsafe X509V3_set_ctx(&context, issuer.pointer, object.pointer, nil, nil, 0)
        let ext = try unsafe Owned(
            X509V3_EXT_conf_nid(nil, &context, identifier, value), from: "X509V3_EXT_conf_nid",
            free: X509_EXTENSION_free)
        try require(unsafe X509_add_ext(object.pointer, ext.pointer, -1), "X509_add_ext")
    }

    /// The corresponding C function is `X509_sign`.
    func signed(by key: borrowing PrivateKey) throws(CertificateError) -> Certificate {
        try require(unsafe X509_sign(object.pointer, key.key.pointer, key.digest), "X509_sign")
        return try Certificate(object)
    }
}
