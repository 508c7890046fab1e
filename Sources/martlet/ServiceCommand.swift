internal import ArgumentParser
internal import JSON
internal import Management

/// `martlet service ...`
struct ServiceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "service", abstract: "Programs that are neither device nor person, such as a dashboard.",
        subcommands: [Add.self, List.self, Block.self, Credentials.self, Remove.self])

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a service; prints what it signs in with, once.")

        @Argument(help: "Its name: small letters, digits, '.', '_' or '-'.") var name: String
        @Option(help: "What it may do: a policy of acl/.") var policy = "backend"
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path, makesDirectory: true) { client in
                let answer = try await client.perform(
                    "addService", ["name": .string(name), "policy": .string(policy)])
                ManagementOutput.print(credentials: answer, json: json)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List services.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listServices", "services"), json: json,
                    columns: [("NAME", "name"), ("POLICY", "policy"), ("BLOCKED", "blocked"), ("CREATED", "createdAt")])
            }
        }
    }

    struct Block: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shut a service out, at once.")

        @Argument(help: "Its name.") var name: String
        @Flag(help: "Let it in again.") var unblock = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("blockService", ["name": .string(name), "blocked": .bool(!unblock)])
            }
        }
    }

    struct Credentials: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a new password for a service; the old one stops working.")

        @Argument(help: "Its name.") var name: String
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                let answer = try await client.perform("rotateServiceCredentials", ["name": .string(name)])
                ManagementOutput.print(credentials: answer, json: json)
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a service.")

        @Argument(help: "Its name.") var name: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("removeService", ["name": .string(name)])
            }
        }
    }
}
