internal import ArgumentParser
internal import JSON
internal import Management

/// `martlet client ...`
struct ClientCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "client", abstract: "Who is connected to MQTT.", subcommands: [List.self, Disconnect.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List those who are connected.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listClients", "clients"), json: json,
                    columns: [
                        ("CLIENT", "clientId"), ("USER", "userName"), ("ADDRESS", "address"), ("PORT", "port"),
                        ("PROTOCOL", "protocol"), ("SINCE", "connectedSince"), ("SUBSCRIPTIONS", "subscriptions"),
                        ("QUEUED", "queued"),
                    ])
            }
        }
    }

    struct Disconnect: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End a client's connection; its session stays if it is persistent, its will is published.")

        @Argument(help: "The client identifier.") var client: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { manager in
                try await manager.perform("disconnectClient", ["clientId": .string(client)])
            }
        }
    }
}

/// `martlet retained ...`
struct RetainedCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retained", abstract: "Retained messages.", subcommands: [List.self, Remove.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List retained messages.")

        @Argument(help: "A topic filter.") var filter = "#"
        @Flag(help: "Print JSON, with the first 256 bytes of each in Base64.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listRetained", "retained", ["topic": .string(filter)]), json: json,
                    columns: [
                        ("TOPIC", "topic"), ("QOS", "qos"), ("BYTES", "size"), ("USER", "userName"),
                        ("CLIENT", "clientId"),
                    ])
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Clear what is retained for a topic.")

        @Argument(help: "The topic.") var topic: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("deleteRetained", ["topic": .string(topic)])
            }
        }
    }
}

/// `martlet key ...`
struct KeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "What log-ins are signed with.", subcommands: [List.self, Rotate.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List keys; never what they are.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listKeys", "keys"), json: json,
                    columns: [("KEY", "id"), ("FOR", "purpose"), ("MADE", "createdAt"), ("IN USE", "inUse")])
            }
        }
    }

    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Sign log-ins with a new key from now on; those that are stay as long as they would have.")

        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path, makesDirectory: true) { client in
                let answer = try await client.perform("rotateKey")
                ManagementOutput.print("made \(answer["key"]?["id"]?.string ?? "a key")")
            }
        }
    }
}
