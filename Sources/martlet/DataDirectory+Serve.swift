internal import Access
internal import Broker
internal import Configuration
internal import Durability
internal import Fleet
internal import Glibc
internal import HTTP
internal import Logging
internal import Management
internal import Server
internal import Store
internal import Transport

/// What a broker has open that keeps anything on the disk.
struct OpenData {
    let directory: DataDirectory
    /// Nil: the configuration asks for a disk with `persistence` alone, and there are no accounts.
    private let management: Management?
    private let control: ControlSocket?
    /// With `management`.
    private let feed: FleetFeed?
    private let keeper: FleetKeeper?
    private let scheduler: Scheduler?
    /// Nil: `durability memory`.
    private let broker: BrokerStore?

    /// As the user that the process stays: root makes the directory for it, by `DataDirectory.make`, and nothing else.
    init(_ path: String, _ configuration: Configuration, server: BrokerServer, logger: Logger) throws(Failure) {
        do {
            let directory = try DataDirectory(path, holdsSecrets: configuration.dataDirectory != nil)
            self.directory = directory
            broker =
                configuration.keepsMessages
                ? try BrokerStore(
                    in: directory, takeRetained: { server.takeUnsavedRetained() },
                    clock: { .now }, tell: { Self.tell($0, logger) }) : nil
            guard configuration.dataDirectory != nil else {
                (management, control, feed, keeper, scheduler) = (nil, nil, nil, nil, nil)
                return
            }
            let store = try FleetStore(in: directory, version: martletVersion, now: currentMilliseconds())
            let management = try Management(
                store, in: directory, broker: LiveBroker(server: server), passwords: server,
                verifier: server,
                settings: { server.managementSettings }, isServing: true, now: { .now },
                reloadCertificates: { try server.reloadTLS() },
                report: { logger.warning("firmware needs a look", metadata: ["why": "\($0)"]) },
                onChange: { server.adopt($0) })
            self.management = management
            let feed = FleetFeed { .now }
            self.feed = feed
            let keeper = try FleetKeeper(
                management, feed: feed, broker: LiveBroker(server: server), now: { .now },
                report: { logger.error("a disk fails", metadata: ["problem": "\($0)"]) })
            self.keeper = keeper
            scheduler = Self.scheduler(management, keeper, logger)
            control = try ControlSocket(
                at: directory.shortPath(of: ControlSocket.fileName), for: management, log: Logger(label: "martlet"))
        } catch let error as FleetStoreError {
            if case .newer = error { throw Failure(.badConfiguration, error) }
            throw Failure(.failed, error)
        } catch {
            throw Failure(.failed, "data_dir: \(error)")
        }
    }

    private static func scheduler(_ management: Management, _ keeper: FleetKeeper, _ logger: Logger) -> Scheduler {
        Scheduler(
            [
                .init("presence", every: .seconds(1)) { await keeper.tick() },
                // A failing disk ends them a second later, and nobody stays signed in on that account: their time is looked
                // at too.
                .init("log-ins", every: .seconds(1)) { _ = try await management.endOverdueLogIns() },
                .init("health", every: .seconds(600)) { while try await management.condenseHealth() {} },
                .init("retention", every: .seconds(3600)) {
                    while try await management.deleteOldRecords() {}
                    try await management.deleteOldReleases()
                },
                .init("database", every: .seconds(86_400)) { try await management.optimizeStore() },
            ],
            report: { job, problem in
                logger.error("a job failed", metadata: ["job": "\(job)", "problem": "\(problem)"])
            })
    }

    private static func tell(_ event: BrokerStore.Event, _ logger: Logger) {
        switch event {
        case .wasDamaged(let file, let kept):
            logger.error(
                "what was on the disk was damaged; what could be read is kept",
                metadata: [
                    "set aside": "\(file)", "retained": "\(kept.retained)", "sessions": "\(kept.sessions)",
                    "queued": "\(kept.queued)",
                ])
        case .logWasDamaged(let file, let pages):
            logger.error(
                "the log of what is on the disk was damaged; what came after that is dropped",
                metadata: ["set aside": "\(file)", "pages": "\(pages)"])
        case .fails(let reason):
            logger.error("what has to be on the disk is not acknowledged", metadata: ["reason": "\(reason)"])
        case .writes: logger.notice("the disk takes what has to be on it again")
        }
    }

    /// Before anybody connects: the accounts count, certificates that were issued or revoked meanwhile are noted, what the
    /// broker had is back, and where nobody manages there is a first administrator.
    func start(_ server: BrokerServer, _ configuration: Configuration, _ logger: Logger) async throws {
        if let management {
            try await management.takeOverCertificates(for: .local("start"))
            try await management.ensureTokenKey()
            try await management.ensureURLKey()
            try await management.endOverdueLogIns()
            server.adopt(await management.accounts)
            if let feed { server.tell(feed) }
            management.tellOfActivity { entries in
                server.publishOwn(entries.map { ("$SYS/activity", $0, false) })
            }
            if let scheduler { await management.setScheduler(scheduler) }
            let api = API(
                management, accounts: { server.accounts }, settings: { server.apiSettings },
                parseAddress: { SocketAddress.bytes(of: $0) }, isReady: { await server.isServing() },
                serverMetrics: { await server.metrics() },
                report: { logger.error("a request failed", metadata: ["request": "\($0)"]) })
            server.setHandler { await api.respond(to: $0) }
        }
        if let broker {
            await server.begin(storing: broker, with: try await broker.load(listeners: configuration.listeners.count))
        }
        guard let management else { return }
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
        control?.start()
    }

    /// Does what is done by itself, until it is cancelled; returns when all of it is over.
    func work() async {
        await withTaskGroup { group in
            group.addTask { await keeper?.run() }
            group.addTask { await scheduler?.run() }
        }
    }

    /// The subcommands reach nobody from now on.
    func stop() { control?.stop() }

    /// After `stop`. Writes what is left, and lets the next process have it.
    func close() async throws {
        defer { directory.release() }
        await keeper?.finish()
        // Both at once, for a slow disk has to be done with both before the process is ended.
        async let brokerIsClosed: Void? = broker?.close()
        async let managementIsClosed: Void? = management?.close()
        _ = try await (brokerIsClosed, managementIsClosed)
    }
}

extension Moment {
    /// The corresponding C function is `clock_gettime`.
    static var now: Moment { Moment(monotonic: BrokerServer.milliseconds, wall: currentMilliseconds()) }
}
