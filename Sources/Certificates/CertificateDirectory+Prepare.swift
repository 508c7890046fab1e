internal import Glibc

/// Something that `prepare` has done or found, a sentence for the log.
package enum CertificateStep: Hashable, Sendable, CustomStringConvertible {
    /// What is there belongs to its owner alone from now on.
    case closed(String)
    /// A new authority: every device needs its certificate.
    case madeAuthority(Certificate)
    /// A new certificate for the server, from the same authority.
    case issuedServer(Certificate, because: String)
    /// The server's certificate is somebody else's work, and stays as it is.
    case keptServer(Certificate, because: String)
    /// The list of revoked certificates was signed anew.
    case signedRevocations(count: Int)
    /// Something that should be done can't be.
    case couldNot(String, because: String)
    /// The machine's clock can't be right; this moment was taken instead.
    case clockIsWrong(UnixTime, instead: UnixTime)

    package var description: String {
        switch self {
        case .closed(let path): "\(path) was open to others and is closed to them now"
        case .madeAuthority(let certificate): "a certificate authority was made: \(certificate.subject)"
        case .issuedServer(let certificate, let reason):
            "the server has a new certificate until \(certificate.notAfter) (\(reason)), for "
                + certificate.names.map(\.description).joined(separator: ", ")
        case .keptServer(let certificate, let reason):
            "the server's certificate is kept as it is (\(reason)); it ends at \(certificate.notAfter)"
        case .signedRevocations(let count): "the list of revoked certificates was signed, \(count) entries"
        case .couldNot(let what, let reason): "\(what): not possible, \(reason)"
        case .clockIsWrong(let now, let instead): "the clock says \(now); certificates count from \(instead)"
        }
    }
}

extension CertificateDirectory {
    /// A machine without a clock of its own starts in 1970; what is made then would have expired once the time is known.
    static let earliest = UnixTime(seconds: 1_767_225_600)  // 2026

    /// The most names of a server.
    package static let mostNames = 64
    /// A server's certificate is renewed this many days before its end.
    package static let renewalDays = 30

    /// Makes what is missing, and renews what has to be: on the first start the authority and a server certificate for
    /// `names` and those of the file `names`; later the server certificate where it lacks one of them, or ends within 30
    /// days, and the list of revoked certificates. A server certificate that this directory has not issued is never
    /// replaced. Throws `.damaged` where a file is malformed, or not the counterpart of another; nothing is overwritten
    /// then. Also for a broker at work, once a day.
    package func prepare(
        names: [ServerName], now: UnixTime, kind: KeyKind = .p256
    ) throws(CertificateError) -> [CertificateStep] {
        try prepare(names: names, now: now, kind: kind, isForced: false)
    }

    /// As `prepare`, and the server certificate and the list are signed anew in any case.
    package func renew(
        names: [ServerName], now: UnixTime, kind: KeyKind = .p256
    ) throws(CertificateError) -> [CertificateStep] {
        _ = try lockExisting()
        return try prepare(names: names, now: now, kind: kind, isForced: true)
    }

    /// Names that the server has besides those of the machine, for good.
    package func add(names: [ServerName]) throws(CertificateError) {
        try makeDirectory(path)
        let lock = try FileLock("\(path)/lock")
        let present = try furtherNames()
        let all = present + names.filter { !present.contains($0) }
        guard all.count <= Self.mostNames else { throw .refused("a server has at most \(Self.mostNames) names") }
        guard all.count > present.count else { return }
        try replace(namesFile, with: Array(all.map { "\($0)\n" }.joined().utf8), mode: 0o644)
        _ = consume lock
    }

    private func furtherNames() throws(CertificateError) -> [ServerName] {
        guard let bytes = try contents(of: namesFile, limit: 1 << 16) else { return [] }
        var names: [ServerName] = []
        let lines = String(decoding: bytes, as: UTF8.self).split(
            omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        for (index, line) in lines.enumerated() {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard let text = words.first, text.first != "#" else { continue }
            guard words.count == 1, let name = ServerName(String(text)) else {
                throw .damaged(file: namesFile, "line \(index + 1) is neither a host name nor an address")
            }
            names.append(name)
        }
        return names
    }

    private func prepare(
        names: [ServerName], now clock: UnixTime, kind: KeyKind, isForced: Bool
    ) throws(CertificateError) -> [CertificateStep] {
        var steps: [CertificateStep] = []
        let now = max(clock, Self.earliest)
        if now != clock { steps.append(.clockIsWrong(clock, instead: now)) }
        try makeDirectory(path)
        for (file, mode) in [(path, 0o700), (authorityKeyFile, 0o600)] as [(String, mode_t)] {
            if try tighten(file, to: mode) { steps.append(.closed(file)) }
        }
        let lock = try FileLock("\(path)/lock")
        let further = try furtherNames()
        try requireSound()
        if try makeAuthority(kind, now: now), let certificate = try authorityCertificate() {
            steps.append(.madeAuthority(certificate))
        }
        let wanted = Array((names.filter { !further.contains($0) }).prefix(max(0, Self.mostNames - further.count)))
        try prepareServer(names: wanted + further, kind, now: now, isForced: isForced, &steps)
        try prepareRevocations(now: now, isForced: isForced, &steps)
        _ = consume lock
        return steps
    }

    /// Throws where a file is damaged, before anything is written because of another.
    private func requireSound() throws(CertificateError) {
        _ = try issued.load()
        _ = try serverCertificate()
        _ = try key(in: serverKeyFile)
        _ = try key(in: authorityKeyFile)
        guard let certificate = try authorityCertificate() else { return }
        _ = try authority()
        _ = try revocationList(by: certificate)
    }

    /// True where there was none, and there is one now. The key is put in place first: one without a certificate has never
    /// been used, and is where a first start was interrupted.
    private func makeAuthority(_ kind: KeyKind, now: UnixTime) throws(CertificateError) -> Bool {
        guard try authorityCertificate() == nil else { return false }
        guard try issued.load().isEmpty else {
            throw .damaged(
                file: authorityFile,
                "missing, although certificates were issued; put it back, or start anew in another directory")
        }
        if let key = try key(in: authorityKeyFile) {
            let made = try CertificateAuthority.make(key: key, now: now)
            try replace(authorityFile, with: Array(made.certificate.pem.utf8), mode: 0o644)
            return true
        }
        let key = try PrivateKey.generate(kind)
        try replace(authorityKeyFile, with: try key.pem(), mode: 0o600)
        let made = try CertificateAuthority.make(key: key, now: now)
        try replace(authorityFile, with: Array(made.certificate.pem.utf8), mode: 0o644)
        return true
    }

    private func prepareServer(
        names: [ServerName], _ kind: KeyKind, now: UnixTime, isForced: Bool, _ steps: inout [CertificateStep]
    ) throws(CertificateError) {
        let present = try serverCertificate()
        let records = try issued.load()
        let record = present.flatMap { present in
            records.first { $0.kind == .server && $0.serial == present.serial }
        }
        guard let authority = try authority() else {
            if let present { return steps.append(.keptServer(present, because: "ca.key is not here")) }
            return steps.append(.couldNot("a server certificate", because: "ca.key is not here"))
        }
        if let present {
            guard record != nil, try authority.certificate.hasSigned(present) else {
                guard let key = try key(in: serverKeyFile) else {
                    throw .damaged(file: serverKeyFile, "missing, although there is a server.pem")
                }
                guard try key.belongs(to: present) else {
                    throw .damaged(file: serverKeyFile, "not the key of server.pem")
                }
                return steps.append(.keptServer(present, because: "it was not issued here"))
            }
        }
        let isRevoked = record?.revoked != nil
        guard
            let reason = try reasonToIssue(
                present, isRevoked: isRevoked, names: names, now: now, isForced: isForced)
        else { return }
        guard now < authority.certificate.notAfter else {
            return steps.append(
                .couldNot(
                    "a server certificate", because: "the authority has expired at \(authority.certificate.notAfter)"))
        }
        // The key stays, so that there is only one file to put in place; not where its certificate was revoked.
        if isRevoked || access(serverKeyFile) == false {
            try replace(serverKeyFile, with: try PrivateKey.generate(kind).pem(), mode: 0o600)
        }
        guard let key = try key(in: serverKeyFile) else { throw .file(serverKeyFile, errno: ENOENT) }
        let certificate = try authority.issueServer(names: names, key: key, now: now)
        try remember(certificate, .server, certificate.commonName ?? "server", now: now)
        try replace(serverFile, with: Array(certificate.pem.utf8), mode: 0o644)
        steps.append(.issuedServer(certificate, because: reason))
    }

    private func access(_ path: String) -> Bool { unsafe Glibc.access(path, F_OK) == 0 }

    /// Nil: the present one is good for longer.
    private func reasonToIssue(
        _ present: Certificate?, isRevoked: Bool, names: [ServerName], now: UnixTime, isForced: Bool
    ) throws(CertificateError) -> String? {
        guard let present else { return "there was none" }
        if isRevoked { return "the last one was revoked" }
        guard let key = try key(in: serverKeyFile), try key.belongs(to: present) else {
            return "the last one was for another key"
        }
        let missing = names.filter { !present.names.contains($0) }
        if !missing.isEmpty { return "new names: " + missing.map(\.description).joined(separator: ", ") }
        if present.notAfter <= now { return "the last one had expired" }
        if present.notAfter <= now.adding(days: Self.renewalDays) { return "the last one was about to expire" }
        if present.notBefore > now { return "the last one did not count yet" }
        return isForced ? "asked for" : nil
    }

    private func prepareRevocations(
        now: UnixTime, isForced: Bool, _ steps: inout [CertificateStep]
    ) throws(CertificateError) {
        guard let authority = try authority() else {
            return steps.append(.couldNot("a new list of revoked certificates", because: "ca.key is not here"))
        }
        let before = try revocationList(by: authority.certificate)
        if let list = try signRevocations(by: authority, before: before, now: now, isForced: isForced) {
            steps.append(.signedRevocations(count: list.entries.count))
        }
    }
}
