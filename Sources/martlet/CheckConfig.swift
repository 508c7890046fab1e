internal import ArgumentParser
internal import Configuration
internal import Glibc
internal import Server
internal import Transport

/// `martlet check-config [-c] FILE`
struct CheckConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Say what a configuration file comes to, or why it can't be used.",
        discussion: """
            Prints what to look at, one line per warning; then what each listener will allow, and the limits that are \
            not the defaults; then "FILE: ok". A file that serve would refuse, or one that it names and that can't be \
            used, gives one line, and status 3.
            """)

    @Option(name: [.short, .customLong("config-file")], help: "The file, as `serve` takes it.")
    var configFile: String?

    @Argument(help: "The file.")
    var file: String?

    func validate() throws {
        guard (configFile == nil) != (file == nil) else { throw ValidationError("check-config takes one FILE") }
    }

    func run() async throws {
        guard let path = configFile ?? file else { preconditionFailure("validate() asks for one of them") }
        var configuration: Configuration
        do throws(ConfigurationError) {
            configuration = try readConfiguration(path).applying(environment: environment())
            let files = try AccessFiles(configuration)
            _ = try configuration.tlsContexts(tickets: TicketKeys()) { _, _ in nil }
            configuration.warnings += files.warnings
        } catch {
            throw Failure(.badConfiguration, error)
        }
        write(configuration.report(on: path).joined(separator: "\n"), to: STDOUT_FILENO)
    }
}
