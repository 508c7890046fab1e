internal import Access
internal import Glibc
internal import Logging
internal import Management
internal import Server
internal import Store

/// What a broker with a `data_dir` has open.
struct OpenData {
    let directory: DataDirectory
    let management: Management
    private let control: ControlSocket

    /// As the user that the process stays: root makes the directory for it, by `DataDirectory.make`, and nothing else.
    init(_ path: String, server: BrokerServer) throws(Failure) {
        do {
            directory = try DataDirectory(path)
            let store = try FleetStore(in: directory, version: martletVersion, now: currentMilliseconds())
            management = try Management(
                store, in: directory, reloadCertificates: { try server.reloadTLS() },
                onChange: { server.adopt($0) })
            control = try ControlSocket(
                at: directory.shortPath(of: ControlSocket.fileName), for: management, log: Logger(label: "martlet"))
        } catch let error as FleetStoreError {
            if case .newer = error { throw Failure(.badConfiguration, error) }
            throw Failure(.failed, error)
        } catch {
            throw Failure(.failed, "data_dir: \(error)")
        }
    }

    /// Before anybody connects: the accounts count, certificates that were issued or revoked meanwhile are noted, and
    /// where nobody manages there is a first administrator.
    func start(_ server: BrokerServer, _ logger: Logger) async throws {
        try await management.takeOverCertificates(for: .local("start"))
        server.adopt(await management.accounts)
        if let (email, password) = try await management.ensureFirstAdmin() {
            if isatty(STDERR_FILENO) != 0 {
                write(
                    "The first administrator is \(email), password \(password)\n"
                        + "It is shown this once, and has to be changed: martlet user passwd \(email)",
                    to: STDERR_FILENO)
            } else {
                try await management.writeFirstAdmin(email: email, password: password)
                let file = directory.path + "/" + Management.firstAdminFile
                logger.notice("the first administrator's password is in a file", metadata: ["file": "\(file)"])
            }
        }
        control.start()
    }

    /// The subcommands reach nobody from now on.
    func stop() { control.stop() }

    /// After `stop`. Lets the next process have it.
    func close() async throws { try await management.close() }
}
