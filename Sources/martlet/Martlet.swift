internal import ArgumentParser
internal import Cryptography
internal import Glibc
internal import Server

/// The process. Its first thread only waits: left to Swift's asynchronous `main` it would end in `dispatch_main`, asleep
/// and half gone, and stay root when all others become another user (glibc passes over a thread that is exiting).
@main enum Process {
    static func main() {
        keepStandardStreams()
        keepCryptographyUntilTheEnd()
        Task.detached {
            await Martlet.main()
            exit(0)
        }
        while true { pause() }
    }

    /// Where one of them is closed, what is opened first would take its place, and get what is meant for it. The
    /// corresponding C functions are `fcntl` and `open`, which gives the lowest number that is free.
    private static func keepStandardStreams() {
        for stream in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(stream, F_GETFD) < 0 {
            _ = unsafe open("/dev/null", O_RDWR)
        }
    }
}

/// The command line.
struct Martlet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "An MQTT 3.1.1 broker.",
        version: "martlet \(martletVersion)",
        subcommands: [
            Serve.self, CheckConfig.self, UserCommand.self, DeviceCommand.self, ServiceCommand.self,
            SessionCommand.self, ClientCommand.self, RetainedCommand.self, KeyCommand.self,
            Certs.self, FirmwareCommand.self, PasswdCommand.self, AclCommand.self, BackupCommand.self,
            RestoreCommand.self, ConformanceCommand.self,
        ],
        defaultSubcommand: Serve.self
    )

    /// ArgumentParser's own `main` answers a usage error with several lines and status 64; ours is one line and 2.
    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let failure as Failure {
            failure.exit()
        } catch let status as ExitCode {
            exit(withError: status)  // Everything has been said.
        } catch {
            guard exitCode(for: error) != .success else { exit(withError: error) }  // --help and --version.
            Failure(.usage, message(for: error)).exit()
        }
    }
}

/// The end of a command that could not do its work: a line for standard error and the exit status.
struct Failure: Error {
    /// The exit statuses of every subcommand.
    enum Status: CInt {
        case failed = 1
        case usage = 2
        case badConfiguration = 3
        case interrupted = 130  // A shell's number for SIGINT.
    }

    let status: Status
    let line: String

    init(_ status: Status, _ text: some CustomStringConvertible) {
        self.status = status
        line = text.description.split(whereSeparator: \.isNewline).joined(separator: " ")
    }

    func exit() -> Never {
        // A configuration error begins with file and line, as editors expect.
        write(status == .badConfiguration ? line : "martlet: \(line)", to: STDERR_FILENO)
        Glibc.exit(status.rawValue)
    }
}

/// One line, at once, for standard output or standard error. Nobody is left to tell where that fails.
func write(_ line: String, to descriptor: CInt) {
    let bytes = Array("\(line)\n".utf8)
    _ = unsafe bytes.withUnsafeBufferPointer { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
}
