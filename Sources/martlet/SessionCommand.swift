internal import ArgumentParser
internal import JSON
internal import Management

/// `martlet session ...`
struct SessionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "session", abstract: "Sessions of MQTT clients, and what waits in them.",
        subcommands: [List.self, Remove.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List sessions, those whose client has been away for the longest first.")

        @Flag(help: "Only of clients that are away.") var absent = false
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                var sessions = try await client.list("listSessions", "sessions")
                if absent { sessions.removeAll { $0["connected"]?.bool == true } }
                ManagementOutput.print(
                    sessions, json: json,
                    columns: [
                        ("CLIENT", "clientId"), ("USER", "userName"), ("CONNECTED", "connected"),
                        ("AWAY SINCE", "absentSince"), ("QUEUED", "queued"),
                    ])
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End a session: its subscriptions and all that waits in it are gone.")

        @Argument(help: "The client identifier.") var client: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { manager in
                try await manager.perform("deleteSession", ["clientId": .string(client)])
            }
        }
    }
}
