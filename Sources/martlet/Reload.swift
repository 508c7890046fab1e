internal import Configuration
internal import Logging
internal import Logs
internal import Server

/// SIGHUP: log files are opened anew, and what the configuration now says is put into force, as far as that ends no
/// connection. A reload that fails changes nothing, and says why.
actor Reload {
    private let server: BrokerServer
    private let log: Log
    private let logger: Logger
    private var destinations: LogDestinations
    private let read: @Sendable () throws(ConfigurationError) -> Configuration

    init(
        server: BrokerServer, log: Log, logger: Logger, destinations: LogDestinations,
        read: @escaping @Sendable () throws(ConfigurationError) -> Configuration
    ) {
        self.server = server
        self.log = log
        self.logger = logger
        self.destinations = destinations
        self.read = read
    }

    func perform() async {
        // First, and whatever the configuration says: somebody has moved the files away.
        for failure in destinations.reopen() {
            logger.error("a log file can't be opened again, the old one stays", metadata: ["reason": "\(failure)"])
        }
        let configuration: Configuration
        let reloadable: BrokerServer.Reloadable
        do throws(ConfigurationError) {
            configuration = try read()
            reloadable = try server.prepare(configuration)
        } catch {
            return refuse("\(error)")
        }
        do throws(LogFileError) {
            try destinations.adopt(configuration)
        } catch {
            return refuse("\(error)")
        }
        log.adopt(Log.Settings(configuration), destinations.writers)
        Serve.tell(of: configuration.warnings + reloadable.warnings, logger)
        await server.adopt(reloadable)
        for key in reloadable.kept {
            logger.warning("a key has another value now, which counts from the next start", metadata: ["key": "\(key)"])
        }
        logger.info("configuration reloaded")
    }

    private func refuse(_ reason: String) {
        logger.error("the configuration is not reloaded, what was in force stays", metadata: ["reason": "\(reason)"])
    }
}
