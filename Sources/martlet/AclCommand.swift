internal import Access
internal import ArgumentParser
internal import Configuration
internal import Glibc
internal import Transport

/// `martlet acl`
struct AclCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "acl",
        abstract: "Who may write and read what, and which line says so.",
        subcommands: [Check.self, Show.self]
    )
}

extension AclCommand {
    /// `martlet acl check USER CLIENTID read|write TOPIC`
    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say whether somebody may read or write a topic, and which line decides.",
            discussion: """
                The rules are those of --acl-file, of the acl_file in --config-file, or of one of the shipped policies; \
                without any of these, a client without a user name is held to "loopback", as where nothing is \
                configured. Exit status: 0 allowed, 1 denied, 2 a wrong command, 3 a file that can't be used.
                """)

        @Option(name: .customLong("acl-file"), help: "The rules, in Mosquitto's format.")
        var aclFile: String?

        @Option(name: [.short, .customLong("config-file")], help: "A configuration; its acl_file counts.")
        var configFile: String?

        @Option(help: "With --config-file: the port of the listener, if listeners differ.")
        var port: UInt16?

        @Option(help: "A shipped policy: \(ShippedPolicy.allCases.map(\.rawValue).joined(separator: ", ")).")
        var policy: ShippedPolicy?

        @Option(help: "With --policy owner: the deviceIds that %o stands for, with commas between them.")
        var owns: String?

        @Argument(help: "The user name; for a device its deviceId; - for none.")
        var user: String

        @Argument(help: "The Client Identifier.")
        var clientid: String

        @Argument(help: "read or write.")
        var direction: Policy.Direction

        @Argument(help: "The topic, without wildcards.")
        var topic: String

        func validate() throws {
            guard [aclFile, configFile, policy?.rawValue].count(where: { $0 != nil }) <= 1 else {
                throw ValidationError("only one of --acl-file, --config-file and --policy")
            }
            guard aclFile != nil || configFile != nil || policy != nil || user == "-" else {
                throw ValidationError(
                    "whose rules count for '\(user)': --policy, --acl-file or --config-file says that")
            }
            guard policy == .owner || owns == nil else { throw ValidationError("--owns goes with --policy owner") }
            guard configFile != nil || port == nil else { throw ValidationError("--port goes with --config-file") }
            guard isTopicName(topic) else {
                throw ValidationError("'\(topic)' is not a topic: + and # are for subscriptions, and it is not empty")
            }
        }

        func run() throws {
            guard let rules = try rules() else {
                return write("allowed: no acl_file, so everything is, but to manage a fleet", to: STDOUT_FILENO)
            }
            for warning in rules.warnings { write(warning.description, to: STDERR_FILENO) }
            let decision = rules.decision(
                userName: user == "-" ? nil : Array(user.utf8), client: Array(clientid.utf8),
                owned: owns?.split(separator: ",").map(String.init) ?? [],
                reachesManagement: policy == .owner || policy == .admin, to: direction, Array(topic.utf8))
            write(decision.explanation, to: STDOUT_FILENO)
            guard decision.isAllowed else { throw ExitCode(Failure.Status.failed.rawValue) }
        }

        /// Nil: there is no `acl_file`.
        private func rules() throws -> Policy? {
            guard aclFile != nil || configFile != nil else { return .shipped(policy ?? .loopback) }
            guard let file = try aclFile ?? configuredFile() else { return nil }
            do throws(AccessFileError) {
                return try Policy.parse(readPolicyFile(file), file: file)
            } catch {
                throw Failure(.badConfiguration, error)
            }
        }

        private func configuredFile() throws -> String? {
            guard let configFile else { return nil }
            let configuration: Configuration
            do throws(ConfigurationError) {
                configuration = try readConfiguration(configFile).applying(environment: environment())
            } catch {
                throw Failure(.badConfiguration, error)
            }
            let listeners = configuration.listeners.filter { port == nil || $0.port == port }
            guard let first = listeners.first else { throw Failure(.usage, "no listener has that port") }
            let file = configuration.access(at: first).aclFile
            guard listeners.allSatisfy({ configuration.access(at: $0).aclFile == file }) else {
                throw Failure(.usage, "the listeners have different acl_files: --port says which one is meant")
            }
            return file
        }
    }

    /// `martlet acl show POLICY`
    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print a shipped policy.")

        @Argument(help: "\(ShippedPolicy.allCases.map(\.rawValue).joined(separator: ", ")).")
        var policy: ShippedPolicy

        func run() throws {
            let text = String(decoding: policy.text, as: UTF8.self)
            write(text.hasSuffix("\n") ? String(text.dropLast()) : text, to: STDOUT_FILENO)
        }
    }
}

extension ShippedPolicy: ExpressibleByArgument {}
extension Policy.Direction: ExpressibleByArgument {}

private func isTopicName(_ topic: String) -> Bool {
    !topic.isEmpty && topic.utf8.count <= PolicyLimits.textBytes
        && !topic.utf8.contains { $0 == 0 || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }
}

private func readPolicyFile(_ path: String) throws(AccessFileError) -> [UInt8] {
    do throws(SystemError) {
        return try contents(ofFile: path, atMost: PolicyLimits.fileBytes)
    } catch {
        let isTooLong = error.code == EFBIG
        throw AccessFileError(
            file: path, reason: isTooLong ? "longer than \(PolicyLimits.fileBytes) bytes" : error.reason)
    }
}
