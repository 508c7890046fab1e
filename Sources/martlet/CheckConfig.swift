internal import ArgumentParser
internal import Configuration
internal import Glibc

/// `martlet check-config [-c] FILE`
struct CheckConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config", abstract: "Say whether a configuration file can be used, and if not, why.")

    @Option(name: [.short, .customLong("config-file")], help: "The file, as `serve` takes it.")
    var configFile: String?

    @Argument(help: "The file.")
    var file: String?

    func validate() throws {
        guard (configFile == nil) != (file == nil) else { throw ValidationError("check-config takes one FILE") }
    }

    func run() async throws {
        guard let path = configFile ?? file else { preconditionFailure("validate() asks for one of them") }
        do {
            _ = try readConfiguration(path)
        } catch {
            throw Failure(.badConfiguration, error)
        }
        write("\(path): ok", to: STDOUT_FILENO)
    }
}
