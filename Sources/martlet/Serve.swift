internal import ArgumentParser
internal import Certificates
internal import Configuration
internal import Glibc
internal import Logging
internal import Logs
internal import Server
internal import Store

/// `martlet serve [-c FILE] [-p PORT] [-v] [-d]`
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run the broker (the default).")

    @Option(name: [.short, .customLong("config-file")], help: "A configuration file in the format of mosquitto.conf.")
    var configFile: String?

    @Option(name: .shortAndLong, help: "The port on the loopback, where the configuration has no listener (1883).")
    var port: UInt16?

    @OptionGroup var dataOption: DataOption

    @Flag(name: .shortAndLong, help: "Log everything, whatever log_type says.")
    var verbose = false

    @Flag(name: .shortAndLong, help: "Run in the background; returns once the broker listens.")
    var daemon = false

    /// Set for the process in the background that `-d` starts.
    @Option(name: .long, help: .hidden)
    var toldThrough: Int32?

    func validate() throws {
        if port == 0 { throw ValidationError("-p takes a port from 1 to 65535") }
    }

    func run() async throws {
        if daemon, toldThrough == nil { try Daemon.start() }
        if toldThrough != nil { Daemon.takeName() }
        let signals = Signals()
        let configuration = try effectiveConfiguration()
        let (user, userWarning) = try self.user(configuration)
        var destinations = LogDestinations(owner: user?.logOwner)
        do throws(LogFileError) {
            try destinations.adopt(configuration)
        } catch {
            throw Failure(.failed, error)
        }
        let log = Log(Log.Settings(configuration), destinations.writers)
        LoggingSystem.bootstrap { MosquittoLogHandler(label: $0, log: log) }
        defer { log.flush() }

        let logger = Logger(label: "martlet")
        Self.tell(of: configuration.warnings, logger)
        if let userWarning { logger.warning("\(userWarning)") }
        if port != nil, !configuration.isLoopbackOnly {
            logger.warning("-p is ignored, the configuration has a listener")
        }
        for (variable, successor) in OldBackend.found(in: environment()) {
            let fields: Logger.Metadata = ["variable": "\(variable)", "instead": "\(successor)"]
            logger.warning("a variable of the old backend is set and has no effect", metadata: fields)
        }
        do {
            try await serve(configuration, user, signals, log, destinations)
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure(.failed, "\(error)")
        }
    }

    private func serve(
        _ configuration: Configuration, _ user: ProcessUser?, _ signals: Signals, _ log: Log,
        _ destinations: LogDestinations
    ) async throws {
        let logger = Logger(label: "martlet")
        let owner = user.map { DataDirectory.Owner(user: $0.user, group: $0.group) }
        // Without a file the certificates are ours to make, before somebody wants to read them.
        var certificates: CertificateDirectory?
        if configuration.isStandard, let path = configuration.dataDirectory {
            do { try DataDirectory.make(path, for: owner) } catch { throw Failure(.failed, "data_dir: \(error)") }
            let directory = CertificateDirectory(dataDirectory: path)
            try CertificateUpkeep.prepare(directory, logger)
            certificates = directory
        }
        let server: BrokerServer
        do {
            server = try BrokerServer(configuration: configuration, logs: Loggers { Logger(label: $0) })
        } catch let error as ConfigurationError {
            throw Failure(.badConfiguration, error)
        }
        Self.tell(of: server.warnings, logger)
        let pidFile = try configuration.pidFile.map { path throws(Failure) in try PidFile(path) }
        defer { pidFile?.remove() }
        if let path = configuration.storageDirectory {
            do { try DataDirectory.make(path, for: owner) } catch { throw Failure(.failed, "data_dir: \(error)") }
        }
        if let user {
            server.giveSockets(to: user.user, user.group)
            try user.become()
        }
        let data = try configuration.storageDirectory.map { path throws(Failure) in
            try OpenData(path, configuration, server: server, logger: logger)
        }
        defer { data?.stop() }
        for warning in data?.directory.warnings ?? [] { logger.warning("\(warning)") }
        let hasStore = configuration.keepsMessages
        try await data?.start(server, configuration, logger)
        signals.whenAskedToStop(server.stop) {
            logger.warning("the stop takes too long and is cut short")
            pidFile?.remove()
            log.flush()
        }

        let manager = ServiceManager(environment: environment())
        let topics = destinations.topics
        let isDaemon = toldThrough != nil
        let reload = Reload(server: server, log: log, logger: logger, destinations: destinations, read: readAgain)
        let requests = Task {
            await signals.serve { request in
                switch request {
                case .reload:
                    manager.tellReloading()
                    await reload.perform()
                    manager.tellReady("running")
                case .save:
                    let what =
                        hasStore ? "what is kept gets to the disk as it comes" : "nothing outlives the process"
                    logger.info("nothing to save: \(what)")
                case .summary:
                    let figures = await server.summary()
                    logger.info("summary", metadata: figures)
                }
            }
        }
        let watchdog = Task { await manager.watch { await server.answer() } }
        let upkeep = CertificateUpkeep(server: server, directory: certificates, logger: logger)
        let renewal = Task { await upkeep.run() }
        let work = Task { await data?.work() }
        defer {
            work.cancel()
            renewal.cancel()
            requests.cancel()
            watchdog.cancel()
        }
        try await server.run {
            topics.connect { lines, done in
                server.publishLog(lines.map { ($0.kind.topicLevel, $0.text) }, done)
            }
            if isDaemon {
                log.flush()
                Daemon.tellReady()
            }
            manager.tellReady("running")
        } whenStopping: {
            topics.connect(to: nil)
            manager.tellStopping()
        }
        data?.stop()
        renewal.cancel()
        work.cancel()
        // They may be writing.
        await renewal.value
        await work.value
        try await data?.close()
    }

    static func tell(of warnings: [ConfigurationWarning], _ logger: Logger) {
        for warning in warnings {
            let place = warning.line.map { "\(warning.file):\($0)" } ?? warning.file
            logger.warning("configuration", metadata: ["at": "\(place)", "warning": "\(warning.reason)"])
        }
    }

    /// Without a file the process stays who it is, unless the environment names somebody.
    private func user(_ configuration: Configuration) throws(Failure) -> (user: ProcessUser?, warning: String?) {
        guard configFile != nil || configuration.user != Configuration.defaults().user else { return (nil, nil) }
        return try ProcessUser.find(configuration.user)
    }

    // MARK: - The configuration

    private func effectiveConfiguration() throws(Failure) -> Configuration {
        do throws(ConfigurationError) {
            return try readAgain()
        } catch {
            throw Failure(.badConfiguration, error)
        }
    }

    /// The file, then the environment, then the flags: the later wins.
    private func readAgain() throws(ConfigurationError) -> Configuration {
        var configuration = try configFile.map(readConfiguration) ?? .standard(dataDirectory: dataOption.path)
        if configFile != nil, let given = dataOption.given { configuration.dataDirectory = given }
        configuration = try configuration.applying(environment: environment())
        if let port, configuration.isLoopbackOnly {
            configuration.listeners[0].port = port
        }
        if verbose { configuration.logTypes = Set(Configuration.LogType.allCases) }
        return configuration
    }
}
