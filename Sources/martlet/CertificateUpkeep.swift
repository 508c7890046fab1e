internal import Certificates
internal import Configuration
internal import Logging
internal import Server
internal import Transport

/// Keeps the certificates of a broker that runs: its own authority's renewed, and everybody's end announced.
actor CertificateUpkeep {
    /// Between two looks.
    private static let interval = Duration.seconds(3600)
    private static let fileBytes = 1 << 20

    private let server: BrokerServer
    /// The authority's files; nil where the configuration brings certificates of its own.
    private let directory: CertificateDirectory?
    private let logger: Logger
    private var latest: UnixTime?

    init(server: BrokerServer, directory: CertificateDirectory?, logger: Logger) {
        self.server = server
        self.directory = directory
        self.logger = logger
    }

    /// What a start needs: makes what is missing. Throws why that can't be done.
    static func prepare(_ directory: CertificateDirectory, _ logger: Logger) throws(CertificateError) {
        for step in try directory.prepare(names: ServerName.ofThisMachine(), now: .now) { tell(of: step, logger) }
    }

    private static func tell(of step: CertificateStep, _ logger: Logger) {
        switch step {
        case .couldNot, .keptServer, .clockIsWrong, .closed: logger.warning("\(step)")
        case .madeAuthority, .issuedServer, .signedRevocations: logger.info("\(step)")
        }
    }

    /// Until it is cancelled.
    func run() async {
        while !Task.isCancelled {
            await renew()
            await announce()
            do { try await Task.sleep(for: Self.interval) } catch { return }
        }
    }

    private func renew() async {
        guard let directory else { return }
        do {
            let steps = try directory.prepare(names: ServerName.ofThisMachine(), now: .now)
            for step in steps { Self.tell(of: step, logger) }
            if steps.contains(where: \.changesFiles) { try server.reloadTLS() }
        } catch {
            logger.error("the certificates can't be kept up", metadata: ["reason": "\(error)"])
        }
    }

    /// Each stage of each certificate is said once, and `$SYS` gets the first end.
    private func announce() async {
        let (now, entries) = (UnixTime.now, entries())
        for announcement in CertificateExpiry(entries).announcements(now: now, since: latest) {
            logger.warning("\(announcement)")
        }
        latest = now
        await server.setCertificateEnd(entries.map(\.notAfter.seconds).min())
    }

    private func entries() -> [CertificateExpiry.Entry] {
        do throws(CertificateError) {
            if let directory { return try directory.expiry().entries }
        } catch {
            logger.error("the certificates can't be read", metadata: ["reason": "\(error)"])
        }
        return server.certificateFiles.compactMap { path in
            // What can't be read was said when it was loaded.
            guard let text = try? contents(ofFile: path, atMost: Self.fileBytes),
                let certificate = try? Certificate(pem: text)
            else { return nil }
            return CertificateExpiry.Entry(subject: "the certificate in \(path)", notAfter: certificate.notAfter)
        }
    }
}

extension CertificateStep {
    /// Who connects from now on has to meet it.
    fileprivate var changesFiles: Bool {
        switch self {
        case .madeAuthority, .issuedServer, .signedRevocations: true
        case .closed, .keptServer, .couldNot, .clockIsWrong: false
        }
    }
}
