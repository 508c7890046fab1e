internal import ArgumentParser
internal import Configuration
internal import Glibc
internal import Logging
internal import Logs
internal import Server

/// `martlet serve [-c FILE] [-p PORT] [-v]`
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run the broker (the default).")

    @Option(name: [.short, .customLong("config-file")], help: "A configuration file in the format of mosquitto.conf.")
    var configFile: String?

    @Option(name: .shortAndLong, help: "The port on the loopback, where the configuration has no listener (1883).")
    var port: UInt16?

    @Flag(name: .shortAndLong, help: "Log everything, whatever log_type says.")
    var verbose = false

    @Flag(name: .shortAndLong, help: .hidden)
    var daemon = false

    func validate() throws {
        if port == 0 { throw ValidationError("-p takes a port from 1 to 65535") }
    }

    func run() async throws {
        guard !daemon else { throw Failure(.failed, "-d is not supported, use a service manager") }
        let configuration = try effectiveConfiguration()
        let isPortIgnored = port != nil && !configuration.isLoopbackOnly
        let writers = try Self.openLog(configuration)
        defer { for writer in writers { writer.flush() } }

        let logger = Logger(label: "martlet")
        for warning in configuration.warnings {
            let place = warning.line.map { "\(warning.file):\($0)" } ?? warning.file
            logger.warning("configuration", metadata: ["at": "\(place)", "warning": "\(warning.reason)"])
        }
        if isPortIgnored { logger.warning("-p is ignored, the configuration has a listener") }
        do {
            let server = try BrokerServer(configuration: configuration, logger: logger)
            StopSignals.watch { server.stop() }
            try await server.run()
        } catch {
            throw Failure(.failed, "\(error)")
        }
    }

    /// The file, then the environment, then the flags: the later wins.
    private func effectiveConfiguration() throws(Failure) -> Configuration {
        var configuration: Configuration
        do throws(ConfigurationError) {
            configuration = try configFile.map(readConfiguration) ?? .defaults()
            configuration = try configuration.applying(environment: environment())
        } catch {
            throw Failure(.badConfiguration, error)
        }
        if let port, configuration.isLoopbackOnly {
            configuration.listeners[0].port = port
        }
        if verbose { configuration.logTypes = Set(Configuration.LogType.allCases) }
        return configuration
    }

    /// From here on `Logger` writes where `log_dest` says.
    private static func openLog(_ configuration: Configuration) throws(Failure) -> [LogWriter] {
        var writers: [LogWriter] = []
        for destination in configuration.logDestinations {
            do throws(LogFileError) {
                switch destination {
                case .standardOutput: writers.append(LogWriter(descriptor: STDOUT_FILENO))
                case .standardError: writers.append(LogWriter(descriptor: STDERR_FILENO))
                case .file(let path): writers.append(try LogWriter(appendingTo: path))
                case .syslog, .topic: preconditionFailure("parse refuses what is not built")
                }
            } catch {
                throw Failure(.failed, error)
            }
        }
        let filter = MosquittoLogHandler.Filter(configuration.logTypes)
        LoggingSystem.bootstrap { [writers] label in
            MosquittoLogHandler(label: label, writers: writers, filter: filter)
        }
        return writers
    }
}

extension MosquittoLogHandler.Filter {
    /// Mosquitto's types are our levels, except three that are loggers of their own, whose label is the type.
    fileprivate init(_ types: Set<Configuration.LogType>) {
        self.init(levels: [])
        for type in Configuration.LogType.allCases {
            let isWanted = types.contains(type)
            switch type {
            case .error: if isWanted { levels.formUnion([.error, .critical]) }
            case .warning: if isWanted { levels.insert(.warning) }
            case .notice: if isWanted { levels.insert(.notice) }
            case .information: if isWanted { levels.insert(.info) }
            case .debug: if isWanted { levels.formUnion([.debug, .trace]) }
            case .subscribe, .unsubscribe, .websockets:
                if isWanted { openLabels.insert(type.rawValue) } else { silentLabels.insert(type.rawValue) }
            }
        }
    }
}
