internal import Glibc

/// The certificates of a data directory, `{data_dir}/certs`: the authority, the server's certificate, what was issued and
/// revoked. Every change is made under a lock that all processes respect, and puts whole files in place; what is
/// malformed is reported and left alone. All functions block on the disk, and some on making a key (RSA: a second).
package struct CertificateDirectory: Sendable {
    package let path: String

    /// `{data_dir}/certs`, which need not exist yet.
    package init(dataDirectory: String) { path = "\(dataDirectory)/certs" }

    package var authorityFile: String { "\(path)/ca.pem" }
    package var authorityKeyFile: String { "\(path)/ca.key" }
    package var serverFile: String { "\(path)/server.pem" }
    package var serverKeyFile: String { "\(path)/server.key" }
    package var revocationFile: String { "\(path)/crl.pem" }
    /// Further names of the server, one a line.
    package var namesFile: String { "\(path)/names" }
    var issued: IssuedCertificates { IssuedCertificates(path: "\(path)/issued.jsonl") }
    private var issuedDirectory: String { "\(path)/issued" }

    // MARK: Issuing

    /// Makes a key and a certificate for a device of this name (its canonical deviceId).
    package func issueDevice(
        _ name: String, kind: KeyKind = .p256, days: Int = CertificateAuthority.Lifetime.device, now: UnixTime
    ) throws(CertificateError) -> ClientCredential {
        let now = max(now, Self.earliest)
        let key = try PrivateKey.generate(kind)  // Before the lock, for it may take a second.
        let lock = try lockExisting()
        let authority = try requireAuthority()
        let certificate = try authority.issueClient(commonName: name, key: key, days: days, now: now)
        try remember(certificate, .device, name, now: now)
        _ = consume lock
        return ClientCredential(certificate: certificate, key: try key.pem(), authority: authority.certificate)
    }

    /// Signs the public key of a request for a device of this name, whatever name the request has.
    package func sign(
        request pem: [UInt8], for name: String, days: Int = CertificateAuthority.Lifetime.device, now: UnixTime
    ) throws(CertificateError) -> Certificate {
        let now = max(now, Self.earliest)
        let request = try CertificateRequest(pem: pem)
        let lock = try lockExisting()
        let authority = try requireAuthority()
        let certificate = try authority.issueClient(commonName: name, request: request, days: days, now: now)
        try remember(certificate, .device, name, now: now)
        _ = consume lock
        return certificate
    }

    /// In the index before anybody has it: what is not there could not be revoked.
    func remember(
        _ certificate: Certificate, _ kind: IssuedCertificate.Kind, _ name: String, now: UnixTime
    ) throws(CertificateError) {
        try issued.append(
            IssuedCertificate(
                serial: certificate.serial, kind: kind, name: name, issued: now, notBefore: certificate.notBefore,
                notAfter: certificate.notAfter, fingerprint: certificate.fingerprint.map(twoDigits).joined()),
            now: now)
        try makeDirectory(issuedDirectory)
        try replace("\(issuedDirectory)/\(certificate.serial).pem", with: Array(certificate.pem.utf8), mode: 0o644)
    }

    // MARK: Revoking

    /// Revokes the certificate with this serial number, or else all of this device's that count, and signs a new list.
    /// Returns those that were revoked now; none where all had been before. Throws `.unknown` where there is none.
    package func revoke(_ which: String, now: UnixTime) throws(CertificateError) -> [IssuedCertificate] {
        let now = max(now, Self.earliest)
        let lock = try lockExisting()
        let all = try issued.load()
        let serial = SerialNumber(which)
        var chosen = all.filter { $0.serial == serial }
        if chosen.isEmpty { chosen = all.filter { $0.kind == .device && $0.name == which } }
        guard !chosen.isEmpty else { throw .unknown("no certificate has the serial number or the device \(which)") }
        let authority = try requireAuthority()
        // Before anything is written: a list that can't be read must not stand in the way afterwards.
        let before = try revocationList(by: authority.certificate)
        let revoked = chosen.filter { $0.revoked == nil }
        if !revoked.isEmpty { try issued.revoke(revoked.map(\.serial), now: now) }
        _ = try signRevocations(by: authority, before: before, now: now)
        _ = consume lock
        return revoked
    }

    // MARK: Reading

    /// All that were issued, in order; at most `IssuedCertificates.most`.
    package func list() throws(CertificateError) -> [IssuedCertificate] { try issued.load() }

    /// Nil: there is none. Throws `.damaged` for what is no certificate.
    package func authorityCertificate() throws(CertificateError) -> Certificate? { try certificate(in: authorityFile) }

    /// Nil: there is none. Throws `.damaged` for what is no certificate.
    package func serverCertificate() throws(CertificateError) -> Certificate? { try certificate(in: serverFile) }

    /// When the authority's and the server's certificate end, and the latest of each device's that count.
    package func expiry() throws(CertificateError) -> CertificateExpiry {
        var entries: [CertificateExpiry.Entry] = []
        if let authority = try authorityCertificate() {
            entries.append(.init(subject: "the certificate authority", notAfter: authority.notAfter))
        }
        if let server = try serverCertificate() {
            entries.append(.init(subject: "the server certificate", notAfter: server.notAfter))
        }
        var latest: [String: UnixTime] = [:]
        for certificate in try list() where certificate.kind == .device && certificate.revoked == nil {
            latest[certificate.name] = max(certificate.notAfter, latest[certificate.name] ?? certificate.notAfter)
        }
        entries += latest.sorted { $0.key < $1.key }.map {
            .init(subject: "the certificate of device \($0.key)", notAfter: $0.value)
        }
        return CertificateExpiry(entries)
    }

    // MARK: Files

    func lockExisting() throws(CertificateError) -> FileLock {
        guard isDirectory(path) else {
            throw .unknown("\(path): there are no certificates; `martlet certs init` makes them")
        }
        return try FileLock("\(path)/lock")
    }

    /// What stands in a file, or an error with its name.
    func named<Value: ~Copyable>(
        _ file: String, _ body: () throws(CertificateError) -> Value
    ) throws(CertificateError) -> Value {
        do throws(CertificateError) {
            return try body()
        } catch {
            if case .refused(let reason) = error { throw .damaged(file: file, reason) }
            throw error
        }
    }

    func certificate(in file: String) throws(CertificateError) -> Certificate? {
        guard let bytes = try contents(of: file, limit: Certificate.largestText) else { return nil }
        return try named(file) { () throws(CertificateError) in try Certificate(pem: bytes) }
    }

    func key(in file: String) throws(CertificateError) -> PrivateKey? {
        guard let bytes = try contents(of: file, limit: 1 << 16) else { return nil }
        return try named(file) { () throws(CertificateError) -> PrivateKey in try PrivateKey(pem: bytes) }
    }

    /// Nil: the certificate is there and its key is not, as where it is kept elsewhere.
    func authority() throws(CertificateError) -> CertificateAuthority? {
        guard let certificate = try authorityCertificate() else {
            throw .unknown("\(authorityFile): there is no authority; `martlet certs init` makes one")
        }
        guard let key = try key(in: authorityKeyFile) else { return nil }
        guard certificate.isAuthority else {
            throw .damaged(file: authorityFile, "the certificate is not an authority's")
        }
        guard try key.belongs(to: certificate) else {
            throw .damaged(file: authorityKeyFile, "not the key of ca.pem")
        }
        return try CertificateAuthority(certificate: certificate, key: key)
    }

    func requireAuthority() throws(CertificateError) -> CertificateAuthority {
        guard let authority = try authority() else {
            throw .unknown("\(authorityKeyFile): there is no key to sign with")
        }
        return authority
    }

    /// Nil: there is none. Throws `.damaged` where it is malformed, or another authority's.
    func revocationList(by authority: Certificate) throws(CertificateError) -> RevocationList? {
        guard let bytes = try contents(of: revocationFile, limit: RevocationList.largestText) else { return nil }
        let list = try named(revocationFile) { () throws(CertificateError) in try RevocationList(pem: bytes) }
        guard try list.isSigned(by: authority) else {
            throw .damaged(file: revocationFile, "not signed by the authority in ca.pem")
        }
        return list
    }

    /// Signs a new list where the present one is missing, is past half its time, or lacks what was revoked; what somebody
    /// has put on it by other means stays. Returns the new one.
    func signRevocations(
        by authority: borrowing CertificateAuthority, before: RevocationList?, now: UnixTime, isForced: Bool = false
    ) throws(CertificateError) -> RevocationList? {
        var entries = try issued.load().compactMap { certificate in
            certificate.revoked.map { RevocationList.Entry(serial: certificate.serial, date: $0) }
        }
        let known = Set(entries.map(\.serial))
        entries += (before?.entries ?? []).filter { !known.contains($0.serial) }
        if !isForced, let before, Set(before.entries.map(\.serial)) == Set(entries.map(\.serial)),
            before.thisUpdate <= now,
            let end = before.nextUpdate,
            end > now.adding(days: CertificateAuthority.Lifetime.revocationList / 2)
                || end >= authority.certificate.notAfter
        {
            return nil
        }
        // The time, so that numbers rise also where the last list has got lost.
        let number = max((before?.number ?? 0) + 1, now.seconds)
        let list = try authority.revocationList(entries, number: number, now: now)
        try replace(revocationFile, with: Array(list.pem.utf8), mode: 0o644)
        return list
    }
}

private func twoDigits(_ byte: UInt8) -> String {
    (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
}
